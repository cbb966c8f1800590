// link-settings: settings of links and of their lines, as the settings file's defaults make them.
// Path: tests. Touches: nothing.

import { parseSettings } from "#runtime/settings";
import type { BridgeSettings, LinesSettings, LinkSettings } from "#runtime/settings-schema";

const { links, bridge } = parseSettings('role = "gateway"\n[[links]]\npath = "/dev/x"', "test");

/** The defaults, but for what a test says. */
export function linkSettings(some: Partial<LinkSettings> & { path: string }): LinkSettings {
  return { ...(links[0] as LinkSettings), ...some };
}

export function linesSettings(some: Partial<LinesSettings> = {}): LinesSettings {
  return { ...(links[0] as LinkSettings).lines, ...some };
}

export function bridgeSettings(some: Partial<BridgeSettings>): BridgeSettings {
  return { ...bridge, ...some };
}

// link-settings: settings of links and of their lines, as the settings file's defaults make them.
// Path: tests. Touches: nothing.

import { parseSettings } from "#runtime/settings";
import type { BridgeSettings, LinkSettings } from "#runtime/settings-links";
import { driverTables } from "../../firmware-bridge/drivers/drivers.ts";
import type { LinesSettings } from "../../firmware-bridge/drivers/lines/lines.ts";

const text = 'role = "gateway"\n[[links]]\npath = "/dev/x"';
const { links, bridge } = parseSettings(text, "test", driverTables);
const link = links[0] as LinkSettings & { readonly lines: LinesSettings };

/** The defaults, but for what a test says: at least where the link is. */
export function linkSettings(some: Partial<LinkSettings>): LinkSettings {
  const { path: _, ...defaults } = link;
  return { ...defaults, ...some };
}

export function linesSettings(some: Partial<LinesSettings> = {}): LinesSettings {
  return { ...link.lines, ...some };
}

export function bridgeSettings(some: Partial<BridgeSettings>): BridgeSettings {
  return { ...bridge, ...some };
}

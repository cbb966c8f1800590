// open-link: opens what the settings of a link name, whatever it is made of.
// Path: links → [open-link] → port, tcp-link, udp-link. Touches: nothing.

import type { LinkSettings } from "#runtime/settings-links";
import type { LinkCounts, OpenPort } from "./open-port.ts";
import { openPort } from "./port.ts";
import { openTcp } from "./tcp-link.ts";
import { openUdp } from "./udp-link.ts";

export interface OpenLinkOptions {
  readonly counts: LinkCounts;
  readonly warn: (what: string) => void;
  /** For a programmer, who resets the board as it needs it. */
  readonly isToLend: boolean;
}

/** @throws SluiceError LINK_FAILED. */
export function openLink(
  settings: LinkSettings,
  node: string,
  { counts, warn, isToLend }: OpenLinkOptions,
): Promise<OpenPort> {
  const { address } = settings;
  if (address?.startsWith("udp:")) return openUdp(address, counts);
  if (address !== undefined) return openTcp(address, counts);
  const bare = isToLend ? { settle_ms: 0, reset_on_open: false } : {};
  return openPort({ ...settings, ...bare }, { node, counts, warn });
}

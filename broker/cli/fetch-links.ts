// fetch-links: asks a running firmware-bridge how its links are.
// Path: links → [fetch-links] → fetch-json. Touches: the settings.

import { reasonOf, SluiceError } from "#contract/errors";
import type { LinksDocument } from "#contract/links";
import { readSettings, SETTINGS_PATH } from "#runtime/settings";
import { fetchJson } from "./fetch-json.ts";
import { readAddress } from "./reach.ts";

export const LINKS_OPTIONS = {
  config: { type: "string" },
  status: { type: "string" },
  json: { type: "boolean" },
} as const;

export const LINKS_OPTIONS_USAGE = `  --json              the document as it is, devices included
  --config FILE       the settings, whose [bridge.status] says where to ask; default ${SETTINGS_PATH}
  --status HOST:PORT  where to ask, without a settings file`;

export interface SeenLinks {
  readonly document: LinksDocument;
  /** The bridge's own time, by which the document's times are to be judged. */
  readonly nowMs: number;
}

/** @throws SluiceError BRIDGE_UNREACHABLE that names the address and what to look at. */
export async function fetchLinks(values: {
  readonly config?: string | undefined;
  readonly status?: string | undefined;
}): Promise<SeenLinks> {
  const address = values.status
    ? readAddress("status", values.status)
    : readSettings(values.config ?? SETTINGS_PATH).bridge.status.address;
  if (address === "none") {
    const message = 'the firmware-bridge tells nothing: [bridge.status] address is "none"';
    throw new SluiceError("BRIDGE_UNREACHABLE", message);
  }
  const { document, status, nowMs } = await fetchJson(address, "/links").catch((cause) => {
    const hint = "is the service running? systemctl status sluice-firmware-bridge";
    const message = `no answer from the firmware-bridge at ${address}: ${reasonOf(cause)}; ${hint}`;
    throw new SluiceError("BRIDGE_UNREACHABLE", message, { cause });
  });
  if (isLinks(document)) return { document, nowMs };
  const message = `${address} answers, but not as a firmware-bridge (HTTP ${status})`;
  throw new SluiceError("BRIDGE_UNREACHABLE", message);
}

function isLinks(document: unknown): document is LinksDocument {
  return Array.isArray(((document ?? {}) as Partial<LinksDocument>).links);
}

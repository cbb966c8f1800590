// fetch-links: asks a running firmware-bridge how its links are.
// Path: links → [fetch-links] → fetch-document. Touches: the settings.

import { SluiceError } from "#contract/errors";
import type { LinksDocument } from "#contract/links";
import { readSettings, SETTINGS_PATH } from "#runtime/settings";
import { type Fetched, fetchDocument, type Source, type Where } from "./fetch-document.ts";
import { readAddress } from "./reach.ts";

export const LINKS_OPTIONS_USAGE = `  --json              the document as it is, devices included
  --config FILE       the settings, whose [bridge.status] says where to ask; default ${SETTINGS_PATH}
  --status HOST:PORT  where to ask, without a settings file`;

const BRIDGE: Source<LinksDocument> = {
  kind: "a firmware-bridge",
  silence: "no answer from the firmware-bridge",
  unit: "sluice-firmware-bridge",
  path: "/links",
  unreachable: "BRIDGE_UNREACHABLE",
  isDocument: isLinks,
};

/** @throws SluiceError BRIDGE_UNREACHABLE that names the address and what to look at. */
export async function fetchLinks({ config, status }: Where): Promise<Fetched<LinksDocument>> {
  const address = status
    ? readAddress("status", status)
    : readSettings(config ?? SETTINGS_PATH).bridge.status.address;
  if (address !== "none") return fetchDocument(address, BRIDGE);
  throw new SluiceError(
    "BRIDGE_UNREACHABLE",
    'the firmware-bridge tells nothing: [bridge.status] address is "none"; give it an address',
  );
}

function isLinks(document: unknown): document is LinksDocument {
  return Array.isArray(((document ?? {}) as Partial<LinksDocument>).links);
}

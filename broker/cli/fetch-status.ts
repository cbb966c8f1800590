// fetch-status: asks a running broker how it is.
// Path: status, outbox → [fetch-status] → fetch-document. Touches: the settings.

import type { StatusDocument } from "#contract/status";
import { readSettings, SETTINGS_PATH } from "#runtime/settings";
import { type Fetched, fetchDocument, type Source, type Where } from "./fetch-document.ts";
import { readAddress } from "./reach.ts";

export const STATUS_OPTIONS_USAGE = `  --json              the document as it is
  --config FILE       the settings, whose [status] says where to ask; default ${SETTINGS_PATH}
  --status HOST:PORT  where to ask, without a settings file`;

const BROKER: Source<StatusDocument> = {
  kind: "a Sluice broker",
  silence: "no status from the broker",
  unit: "sluice-broker",
  path: "/status.json",
  unreachable: "BROKER_UNREACHABLE",
  isDocument: isStatus,
};

/** @throws SluiceError BROKER_UNREACHABLE that names the address and what to look at. */
export function fetchStatus({ config, status }: Where): Promise<Fetched<StatusDocument>> {
  const address = status
    ? readAddress("status", status)
    : readSettings(config ?? SETTINGS_PATH).status.address;
  return fetchDocument(address, BROKER);
}

function isStatus(document: unknown): document is StatusDocument {
  const { ready, reasons } = (document ?? {}) as Partial<StatusDocument>;
  return typeof ready === "boolean" && Array.isArray(reasons);
}

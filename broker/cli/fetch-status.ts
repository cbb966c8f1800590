// fetch-status: asks a running broker how it is.
// Path: status, outbox → [fetch-status] → fetch-json. Touches: the settings.

import { reasonOf, SluiceError } from "#contract/errors";
import type { StatusDocument } from "#contract/status";
import { readSettings, SETTINGS_PATH } from "#runtime/settings";
import { fetchJson } from "./fetch-json.ts";
import { readAddress } from "./reach.ts";

export const STATUS_OPTIONS = {
  config: { type: "string" },
  status: { type: "string" },
  json: { type: "boolean" },
} as const;

export const STATUS_OPTIONS_USAGE = `  --json              the document as it is
  --config FILE       the settings, whose [status] says where to ask; default ${SETTINGS_PATH}
  --status HOST:PORT  where to ask, without a settings file`;

export interface Seen {
  readonly document: StatusDocument;
  /** The broker's own time, by which the document's times are to be judged. */
  readonly nowMs: number;
}

/** @throws SluiceError BROKER_UNREACHABLE that names the address and what to look at. */
export async function fetchStatus(values: {
  readonly config?: string | undefined;
  readonly status?: string | undefined;
}): Promise<Seen> {
  const address = values.status
    ? readAddress("status", values.status)
    : readSettings(values.config ?? SETTINGS_PATH).status.address;
  const { document, status, nowMs } = await fetchJson(address, "/status.json").catch((cause) => {
    throw unreachable(address, cause);
  });
  if (isStatus(document)) return { document, nowMs };
  const message = `${address} answers, but not as a Sluice broker (HTTP ${status})`;
  throw new SluiceError("BROKER_UNREACHABLE", message);
}

function unreachable(address: string, cause: unknown): SluiceError {
  const hint = "is the service running? systemctl status sluice-broker";
  const message = `no status from the broker at ${address}: ${reasonOf(cause)}; ${hint}`;
  return new SluiceError("BROKER_UNREACHABLE", message, { cause });
}

function isStatus(document: unknown): document is StatusDocument {
  const { ready, reasons } = (document ?? {}) as Partial<StatusDocument>;
  return typeof ready === "boolean" && Array.isArray(reasons);
}

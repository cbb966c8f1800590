// fetch-status: asks a running broker how it is.
// Path: status, outbox → [fetch-status] → the broker's status server. Touches: the settings, HTTP.

import { get, type IncomingMessage } from "node:http";
import { reasonOf, SluiceError } from "#contract/errors";
import type { StatusDocument } from "#contract/status";
import { parseAddress } from "#runtime/address";
import { readSettings, SETTINGS_PATH } from "#runtime/settings";
import { reachable, readAddress } from "./reach.ts";

const LIMITS = { answerMsMax: 5_000, answerBytesMax: 16 * 1024 * 1024 } as const;

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
  const signal = AbortSignal.timeout(LIMITS.answerMsMax);
  const { response, text } = await request(address, signal).catch((cause) => {
    const late = new Error(`no answer within ${LIMITS.answerMsMax / 1_000} s`);
    throw unreachable(address, signal.aborted ? late : cause);
  });
  const document = response.statusCode === 200 ? parsed(text) : undefined;
  if (!document) {
    const message = `${address} answers, but not as a Sluice broker (HTTP ${response.statusCode})`;
    throw new SluiceError("BROKER_UNREACHABLE", message);
  }
  return { document, nowMs: Date.parse(response.headers.date ?? "") || Date.now() };
}

async function request(address: string, signal: AbortSignal) {
  const target = reachable(parseAddress(address));
  const where = "path" in target ? { socketPath: target.path } : target;
  const asked = get({ ...where, path: "/status.json", agent: false, signal });
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    // Stays for what breaks later, which reading the body tells.
    asked.once("response", resolve).on("error", reject);
  });
  return { response, text: await bodyOf(response) };
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    bytes += chunk.length;
    if (bytes > LIMITS.answerBytesMax) throw new Error("the answer is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function unreachable(address: string, cause: unknown): SluiceError {
  const hint = "is the service running? systemctl status sluice-broker";
  const message = `no status from the broker at ${address}: ${reasonOf(cause)}; ${hint}`;
  return new SluiceError("BROKER_UNREACHABLE", message, { cause });
}

function parsed(text: string): StatusDocument | undefined {
  try {
    const document: StatusDocument = JSON.parse(text);
    return typeof document.ready === "boolean" && Array.isArray(document.reasons)
      ? document
      : undefined;
  } catch {
    return undefined;
  }
}

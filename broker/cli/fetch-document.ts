// fetch-document: asks the status server of a service for a document.
// Path: fetch-status, fetch-links → [fetch-document] → a status server. Touches: HTTP.

import { get, type IncomingMessage } from "node:http";
import { type ErrorCode, reasonOf, SluiceError } from "#contract/errors";
import { parseAddress } from "#runtime/address";
import { reachable } from "./reach.ts";

const LIMITS = { answerMsMax: 5_000, answerBytesMax: 16 * 1024 * 1024 } as const;

/** What each command that asks takes. */
export const FETCH_OPTIONS = {
  config: { type: "string" },
  status: { type: "string" },
  json: { type: "boolean" },
} as const;

/** Where to ask, by the options above. */
export interface Where {
  readonly config?: string | undefined;
  readonly status?: string | undefined;
}

/** A service, and the document that it tells. */
export interface Source<T> {
  /** As "a Sluice broker". */
  readonly kind: string;
  /** What is to be said when nobody answers, as "no status from the broker". */
  readonly silence: string;
  /** Its unit of systemd. */
  readonly unit: string;
  readonly path: string;
  readonly unreachable: ErrorCode;
  readonly isDocument: (document: unknown) => document is T;
}

export interface Fetched<T> {
  readonly document: T;
  /** The service's own time, by which the document's times are to be judged. */
  readonly nowMs: number;
}

/** @throws SluiceError of the source's code that names the address and what to look at. */
export async function fetchDocument<T>(address: string, source: Source<T>): Promise<Fetched<T>> {
  const { kind, silence, unit, path, unreachable, isDocument } = source;
  const signal = AbortSignal.timeout(LIMITS.answerMsMax);
  const { response, text } = await request(address, path, signal).catch((cause) => {
    const why = signal.aborted
      ? `no answer within ${LIMITS.answerMsMax / 1_000} s`
      : reasonOf(cause);
    const hint = `is the service running? systemctl status ${unit}`;
    const message = `${silence} at ${address}: ${why}; ${hint}`;
    throw new SluiceError(unreachable, message, { cause });
  });
  const { statusCode, headers } = response;
  const document = statusCode === 200 ? parsed(text) : undefined;
  if (!isDocument(document)) {
    const message = `${address} answers, but not as ${kind} (HTTP ${statusCode})`;
    throw new SluiceError(unreachable, message);
  }
  return { document, nowMs: Date.parse(headers.date ?? "") || Date.now() };
}

async function request(address: string, path: string, signal: AbortSignal) {
  const target = reachable(parseAddress(address));
  const where = "path" in target ? { socketPath: target.path } : target;
  const asked = get({ ...where, path, agent: false, signal });
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

/** Undefined where it is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

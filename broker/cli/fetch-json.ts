// fetch-json: asks a status server for a document.
// Path: fetch-status, fetch-links → [fetch-json] → a status server. Touches: HTTP.

import { get, type IncomingMessage } from "node:http";
import { parseAddress } from "#runtime/address";
import { reachable } from "./reach.ts";

const LIMITS = { answerMsMax: 5_000, answerBytesMax: 16 * 1024 * 1024 } as const;

export interface Fetched {
  /** Undefined when the answer is no JSON. */
  readonly document: unknown;
  readonly status: number | undefined;
  /** The server's own time, by which the document's times are to be judged. */
  readonly nowMs: number;
}

/** @throws Error that says why there is no answer. */
export async function fetchJson(address: string, path: string): Promise<Fetched> {
  const signal = AbortSignal.timeout(LIMITS.answerMsMax);
  const { response, text } = await request(address, path, signal).catch((cause) => {
    throw signal.aborted ? new Error(`no answer within ${LIMITS.answerMsMax / 1_000} s`) : cause;
  });
  const { statusCode: status, headers } = response;
  const document = status === 200 ? parsed(text) : undefined;
  return { document, status, nowMs: Date.parse(headers.date ?? "") || Date.now() };
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

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

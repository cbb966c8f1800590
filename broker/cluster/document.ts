// document: a kept session as the text in which it lies in the cluster Redis.
// Path: sessions → [document] → cluster Redis. Touches: nothing.

import { SluiceError } from "#contract/errors";
import { decodeRecord, encodeMessage, type Message } from "#contract/message";
import type { StoredSession } from "#contract/session";

/** The session as JSON, without its client id, which the key holds; the will's record in base64. */
export function encodeSession({ clientId: _, will, ...rest }: StoredSession): string {
  if (!will) return JSON.stringify(rest);
  const { message, ...times } = will;
  const record = Buffer.from(encodeMessage(message)).toString("base64");
  return JSON.stringify({ ...rest, will: { record, ...times } });
}

/** @throws SluiceError FRAME_INVALID when the text is no session's. */
export function decodeSession(clientId: string, text: string): StoredSession {
  try {
    const { will, ...rest } = JSON.parse(text);
    if (!will) return { clientId, ...rest };
    const { record, ...times } = will;
    const message = decodeMessage(Buffer.from(record, "base64"));
    return { clientId, ...rest, will: { message, ...times } };
  } catch (cause) {
    const name = JSON.stringify(clientId);
    throw new SluiceError("FRAME_INVALID", `the cluster's session ${name} is no document`, {
      cause,
    });
  }
}

/**
 * Reads a message's record, copied out of what the network brought: a view would keep all of that.
 * So would one copied by Buffer.from keep what lies beside it in the pool: it is for what comes and
 * goes together.
 * @throws SluiceError FRAME_INVALID
 */
export function decodeMessage(
  bytes: Uint8Array,
  copy: (bytes: Uint8Array) => Uint8Array = (it) => new Uint8Array(it),
): Message {
  const record = decodeRecord(copy(bytes));
  if (record.kind === "message") return record.message;
  throw new SluiceError("FRAME_INVALID", "a gap's record stands for a message");
}

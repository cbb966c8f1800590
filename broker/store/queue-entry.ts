// queue-entry: the bytes in which one entry of a session's queue is stored.
// Path: queue → [queue entry] → store. Touches: nothing.

import { ByteReader, varintBytes, writeVarint } from "#contract/bytes";
import { SluiceError } from "#contract/errors";
import { decodeRecord, type Message } from "#contract/message";
import type { QueuedMessage, QueueTarget } from "#contract/session";

// First byte: the QoS in the two lowest bits, and what else there is.
const QOS_MASK = 0x03;
const RETAIN_BIT = 0x04;
const IDS_BIT = 0x08;
const SHARED_BIT = 0x10;
const RELEASED = 0x80;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

type Entitlement = Pick<QueueTarget, "qos" | "retain" | "subscriptionIds"> & {
  readonly shared?: string | undefined;
};

/** What is left of an entry when the client has the message: PUBREL alone. */
export const RELEASED_ENTRY = new Uint8Array([RELEASED]);

/** First byte, count and subscription ids, length and text of the shared one, the record. */
export function encodeEntry(target: Entitlement, record: Uint8Array): Uint8Array {
  const { subscriptionIds: ids } = target;
  const shared = target.shared === undefined ? undefined : encoder.encode(target.shared);
  let headBytes = 1;
  if (ids.length > 0) {
    headBytes += ids.reduce((sum, id) => sum + varintBytes(id), varintBytes(ids.length));
  }
  if (shared) headBytes += varintBytes(shared.length) + shared.length;
  const bytes = new Uint8Array(headBytes + record.length);
  bytes[0] =
    target.qos |
    (target.retain ? RETAIN_BIT : 0) |
    (ids.length > 0 ? IDS_BIT : 0) |
    (shared ? SHARED_BIT : 0);
  let at = 1;
  if (ids.length > 0) at = writeVarint(bytes, at, ids.length);
  for (const id of ids) at = writeVarint(bytes, at, id);
  if (shared) {
    at = writeVarint(bytes, at, shared.length);
    bytes.set(shared, at);
  }
  bytes.set(record, headBytes);
  return bytes;
}

/**
 * Reads an entry; payload and properties are views of `bytes`.
 * @throws SluiceError FRAME_INVALID when the bytes are no entry.
 */
export function decodeEntry(number: number, bytes: Uint8Array): QueuedMessage {
  const reader = new ByteReader(bytes);
  const first = reader.byte();
  if (first === RELEASED) return releasedEntry(number);
  const qos = first & QOS_MASK;
  if ((qos !== 1 && qos !== 2) || first >= 2 * SHARED_BIT) {
    throw new SluiceError("FRAME_INVALID", `begins with ${first}, which no entry does`);
  }
  const count = (first & IDS_BIT) === 0 ? 0 : reader.varint();
  const subscriptionIds: number[] = [];
  while (subscriptionIds.length < count) subscriptionIds.push(reader.varint());
  const shared = (first & SHARED_BIT) === 0 ? undefined : textOf(reader.take(reader.varint()));
  const message = messageOf(reader.take(reader.left));
  const retain = (first & RETAIN_BIT) !== 0;
  return entryOf(number, { qos, retain, subscriptionIds, shared }, message);
}

/** The entry as it is read, made of what was written. */
export function entryOf(
  number: number,
  { qos, retain, subscriptionIds, shared }: Entitlement,
  message: Message,
): QueuedMessage {
  const entry = { number, qos, retain, subscriptionIds, message };
  return shared === undefined ? entry : { ...entry, shared };
}

/** Only PUBREL is left to do, which needs no more than the number. */
export function releasedEntry(number: number): QueuedMessage {
  return { number, qos: 2, retain: false, subscriptionIds: [], message: undefined };
}

/** The message of a record. @throws SluiceError FRAME_INVALID when it is none. */
export function messageOf(record: Uint8Array): Message {
  const decoded = decodeRecord(record);
  if (decoded.kind === "message") return decoded.message;
  throw new SluiceError("FRAME_INVALID", "is a gap record, not a message");
}

function textOf(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new SluiceError("FRAME_INVALID", "holds text that is not UTF-8", { cause });
  }
}

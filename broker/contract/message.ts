// message: what a publisher said, and its record: the bytes in which it lies in the outbox,
// in a frame and in the downlink.
// Path: mqtt → [message] → outbox → uplink → ingest. Touches: nothing.

import { ByteReader, varintBytes, writeVarint } from "./bytes.ts";
import { SluiceError } from "./errors.ts";

export type Qos = 0 | 1 | 2;

export interface Message {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: Qos;
  readonly retain: boolean;
  /** When custody was taken: milliseconds since 1970 by the clock of the broker that took it. */
  readonly takenAtMs: number;
  /** When it is of no more use (MQTT 5.0 §3.3.2.3.3), by this broker's steady clock. */
  readonly expiresAtMs?: number;
  /** Client id of the publisher, for subscriptions with No Local. */
  readonly publisher?: string;
  /**
   * PUBLISH properties that are passed on as they are, in the publisher's order and MQTT 5.0's wire
   * format, without the length in front: payload format, content type, response topic, correlation
   * data, user properties.
   */
  readonly properties?: Uint8Array;
}

/** Takes the place of messages dropped by a limit, or lost beyond the tail; sequences are inclusive. */
export interface GapRecord {
  readonly from: number;
  readonly to: number;
  /** How many messages are missing; less than `to - from + 1` where the range holds gaps already. */
  readonly count: number;
  readonly reason: string;
}

export type OutboxRecord =
  | { readonly kind: "message"; readonly message: Message }
  | { readonly kind: "gap"; readonly gap: GapRecord };

/** The reason of a gap record for what expired while it waited: no loss by a limit. */
export const GAP_REASON_EXPIRED = "expired";
/** The reason of one for what the cloud had, and lost beyond the tail. */
export const GAP_REASON_FORGOTTEN = "forgotten by the cloud";

// First byte of a record: the kind in the low nibble, for messages QoS, RETAIN and "has extras" above it.
const KIND_MESSAGE = 1;
const KIND_GAP = 2;
const EXTRAS_BIT = 0x80;
const RETAIN_BIT = 0x40;
const QOS_SHIFT = 4;

/** Which of a message's optional fields stand behind the byte of flags, in this order. */
const EXTRA = { expiry: 1, publisher: 2, properties: 4 } as const;
const EXTRAS_MOST = EXTRA.expiry | EXTRA.publisher | EXTRA.properties;

const encoder = new TextEncoder();
/** Of one UTF-16 unit. */
const UTF8_BYTES_MAX = 3;
const scratch = new Uint8Array(4_096);
// U+FEFF at the front is text like any other [MQTT-1.5.3-3].
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The record of a message: kind·qos·retain·extras, takenAtMs, extras, topic length, topic, payload.
 * The extras are there only if their bit is set: a byte of flags, then expiresAtMs in whole
 * milliseconds, the publisher behind its length, the properties behind theirs. `allocate` gives the
 * memory, whatever it holds: a record that is needed for a moment may come from a pool.
 */
export function encodeMessage(message: Message): Uint8Array;
export function encodeMessage<Bytes extends Uint8Array>(
  message: Message,
  allocate: (length: number) => Bytes,
): Bytes;
export function encodeMessage(
  message: Message,
  allocate = (length: number) => new Uint8Array(length),
): Uint8Array {
  const { takenAtMs, payload, properties } = message;
  const topic = textBytes(message.topic, 0);
  const publisher =
    message.publisher === undefined ? undefined : textBytes(message.publisher, topic.length);
  const expiryMs = message.expiresAtMs === undefined ? undefined : wholeMs(message.expiresAtMs);
  const flags =
    (expiryMs === undefined ? 0 : EXTRA.expiry) |
    (publisher ? EXTRA.publisher : 0) |
    (properties ? EXTRA.properties : 0);
  const extrasBytes =
    (flags === 0 ? 0 : 1) +
    (expiryMs === undefined ? 0 : varintBytes(expiryMs)) +
    (publisher ? partBytes(publisher) : 0) +
    (properties ? partBytes(properties) : 0);
  const record = allocate(
    1 + varintBytes(takenAtMs) + extrasBytes + partBytes(topic) + payload.length,
  );
  record[0] =
    KIND_MESSAGE |
    (message.qos << QOS_SHIFT) |
    (message.retain ? RETAIN_BIT : 0) |
    (flags > 0 ? EXTRAS_BIT : 0);
  let at = writeVarint(record, 1, takenAtMs);
  if (flags > 0) record[at++] = flags;
  if (expiryMs !== undefined) at = writeVarint(record, at, expiryMs);
  if (publisher) at = writePart(record, at, publisher);
  if (properties) at = writePart(record, at, properties);
  at = writePart(record, at, topic);
  record.set(payload, at);
  return record;
}

/**
 * The bytes of a text, for the moment only: those of usual length are a view of the one place where
 * they are written, behind what is there before `from`. New memory would cost more than all the rest.
 */
function textBytes(text: string, from: number): Uint8Array {
  if (from + text.length * UTF8_BYTES_MAX > scratch.length) return encoder.encode(text);
  const room = from === 0 ? scratch : scratch.subarray(from);
  return room.subarray(0, encoder.encodeInto(text, room).written);
}

function partBytes(part: Uint8Array): number {
  return varintBytes(part.length) + part.length;
}

/** Writes a part behind its length, and returns the offset after it. */
function writePart(target: Uint8Array, offset: number, part: Uint8Array): number {
  const at = writeVarint(target, offset, part.length);
  target.set(part, at);
  return at + part.length;
}

/** What a varint can hold of a steady clock's time, which comes in fractions. */
function wholeMs(ms: number): number {
  return Math.min(Math.max(0, Math.floor(ms)), Number.MAX_SAFE_INTEGER);
}

/** The record of a gap: kind, from, to, count, reason. */
export function encodeGap(gap: GapRecord): Uint8Array {
  const reason = encoder.encode(gap.reason);
  const numbers = [gap.from, gap.to, gap.count];
  const headBytes = 1 + numbers.reduce((sum, value) => sum + varintBytes(value), 0);
  const record = new Uint8Array(headBytes + reason.length);
  record[0] = KIND_GAP;
  let at = 1;
  for (const value of numbers) at = writeVarint(record, at, value);
  record.set(reason, at);
  return record;
}

/**
 * Reads a record; payload and properties are views of `bytes`.
 * @throws SluiceError FRAME_INVALID when the bytes are no record.
 */
export function decodeRecord(bytes: Uint8Array): OutboxRecord {
  const reader = new ByteReader(bytes);
  const first = reader.byte();
  if (isMessage(first)) return { kind: "message", message: decodeMessage(first, reader) };
  if (first === KIND_GAP) return { kind: "gap", gap: decodeGap(reader) };
  throw new SluiceError("FRAME_INVALID", `begins with ${first}, which no record does`);
}

/** The gap of a record, undefined for a message's. @throws SluiceError FRAME_INVALID as decodeRecord. */
export function decodeGapRecord(bytes: Uint8Array): GapRecord | undefined {
  if (bytes[0] !== KIND_GAP) return undefined;
  return decodeGap(new ByteReader(bytes.subarray(1)));
}

/**
 * When custody of a record's message was taken, Message.takenAtMs, without reading the rest of it;
 * undefined for a gap's. @throws SluiceError FRAME_INVALID when the bytes end before it.
 */
export function recordTakenAtMs(bytes: Uint8Array): number | undefined {
  const reader = new ByteReader(bytes);
  return isMessage(reader.byte()) ? reader.varint() : undefined;
}

/**
 * Message.expiresAtMs of a record, without reading the rest of it; undefined for one that does not
 * expire. @throws SluiceError FRAME_INVALID when the bytes end before it.
 */
export function recordExpiresAtMs(bytes: Uint8Array): number | undefined {
  const reader = new ByteReader(bytes);
  const first = reader.byte();
  if (!isMessage(first) || (first & EXTRAS_BIT) === 0) return undefined;
  reader.varint();
  return (readFlags(reader) & EXTRA.expiry) === 0 ? undefined : reader.varint();
}

/** Is a message of no more use at `nowMs` of the clock by which it expires? */
export function isExpired(expiresAtMs: number | undefined, nowMs: number): boolean {
  return expiresAtMs !== undefined && nowMs >= expiresAtMs;
}

/** The message with its expiry told by another machine's clock, which is `aheadMs` ahead of ours. */
export function moveExpiry(message: Message, aheadMs: number): Message {
  if (message.expiresAtMs === undefined) return message;
  return { ...message, expiresAtMs: wholeMs(message.expiresAtMs + aheadMs) };
}

function isMessage(first: number): boolean {
  return (first & 0x0f) === KIND_MESSAGE && ((first >> QOS_SHIFT) & 0x03) !== 3;
}

function decodeMessage(first: number, reader: ByteReader): Message {
  const qos = ((first >> QOS_SHIFT) & 0x03) as Qos;
  const takenAtMs = reader.varint();
  const extras = (first & EXTRAS_BIT) === 0 ? {} : decodeExtras(reader);
  const topic = readText(reader.take(reader.varint()));
  const payload = reader.take(reader.left);
  return { topic, payload, qos, retain: (first & RETAIN_BIT) !== 0, takenAtMs, ...extras };
}

type Extras = Pick<Message, "expiresAtMs" | "publisher" | "properties">;

function decodeExtras(reader: ByteReader): Extras {
  const flags = readFlags(reader);
  const extras: { -readonly [Name in keyof Extras]: Extras[Name] } = {};
  if (flags & EXTRA.expiry) extras.expiresAtMs = reader.varint();
  if (flags & EXTRA.publisher) extras.publisher = readText(reader.take(reader.varint()));
  if (flags & EXTRA.properties) extras.properties = reader.take(reader.varint());
  return extras;
}

function readFlags(reader: ByteReader): number {
  const flags = reader.byte();
  if (flags === 0 || flags > EXTRAS_MOST) {
    throw new SluiceError("FRAME_INVALID", `announces extras by ${flags}, which no record does`);
  }
  return flags;
}

function decodeGap(reader: ByteReader): GapRecord {
  const gap = { from: reader.varint(), to: reader.varint(), count: reader.varint() };
  if (gap.from < 1 || gap.to < gap.from || gap.count > gap.to - gap.from + 1) {
    throw new SluiceError("FRAME_INVALID", `gap of ${gap.count} in ${gap.from}..${gap.to}`);
  }
  return { ...gap, reason: readText(reader.take(reader.left)) };
}

/** Reads UTF-8. @throws SluiceError FRAME_INVALID when it is ill-formed. */
export function readText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new SluiceError("FRAME_INVALID", "holds text that is not UTF-8", { cause });
  }
}

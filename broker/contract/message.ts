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

// First byte of a record: the kind in the low nibble, for messages QoS and RETAIN above it.
const KIND_MESSAGE = 1;
const KIND_GAP = 2;
const RETAIN_BIT = 0x40;
const QOS_SHIFT = 4;

const encoder = new TextEncoder();
// U+FEFF at the front is text like any other [MQTT-1.5.3-3].
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The record of a message: kind·qos·retain, takenAtMs, topic length, topic, payload. */
export function encodeMessage(message: Message): Uint8Array {
  const topic = encoder.encode(message.topic);
  const headBytes = 1 + varintBytes(message.takenAtMs) + varintBytes(topic.length);
  const record = new Uint8Array(headBytes + topic.length + message.payload.length);
  record[0] = KIND_MESSAGE | (message.qos << QOS_SHIFT) | (message.retain ? RETAIN_BIT : 0);
  let at = writeVarint(record, 1, message.takenAtMs);
  at = writeVarint(record, at, topic.length);
  record.set(topic, at);
  record.set(message.payload, at + topic.length);
  return record;
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
 * Reads a record; the payload is a view of `bytes`.
 * @throws SluiceError FRAME_INVALID when the bytes are no record.
 */
export function decodeRecord(bytes: Uint8Array): OutboxRecord {
  const reader = new ByteReader(bytes);
  const first = reader.byte();
  const kind = first & 0x0f;
  if (kind === KIND_MESSAGE) return { kind: "message", message: decodeMessage(first, reader) };
  if (first === KIND_GAP) return { kind: "gap", gap: decodeGap(reader) };
  throw new SluiceError("FRAME_INVALID", `begins with ${first}, which no record does`);
}

function decodeMessage(first: number, reader: ByteReader): Message {
  const qos = (first >> QOS_SHIFT) & 0x03;
  if (qos === 3 || first > 0x7f) {
    throw new SluiceError("FRAME_INVALID", `begins with ${first}, which no record does`);
  }
  const takenAtMs = reader.varint();
  const topic = text(reader.take(reader.varint()));
  const payload = reader.take(reader.left);
  return { topic, payload, qos: qos as Qos, retain: (first & RETAIN_BIT) !== 0, takenAtMs };
}

function decodeGap(reader: ByteReader): GapRecord {
  const gap = { from: reader.varint(), to: reader.varint(), count: reader.varint() };
  if (gap.from < 1 || gap.to < gap.from || gap.count > gap.to - gap.from + 1) {
    throw new SluiceError("FRAME_INVALID", `gap of ${gap.count} in ${gap.from}..${gap.to}`);
  }
  return { ...gap, reason: text(reader.take(reader.left)) };
}

function text(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new SluiceError("FRAME_INVALID", "holds text that is not UTF-8", { cause });
  }
}

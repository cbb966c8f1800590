// bus-entry: packets of the bus as the fields of one stream entry, and the ids of such entries.
// Path: bus-publisher → [bus-entry] → cluster Redis → bus-reader. Touches: nothing.

import { ByteReader, varintBytes, writeVarint } from "#contract/bytes";
import { SluiceError } from "#contract/errors";
import { encodeMessage, type Message } from "#contract/message";
import type { StoredSession } from "#contract/session";
import { decodeMessage, decodeSession, encodeSession } from "./document.ts";

/** Stream of all that brokers say to all of them. */
export const BUS_KEY = "sluice:bus";

/**
 * What travels: what the publishing broker put beside the topic. The bus must know where messages
 * and sessions are, for they hold bytes; all else is whatever JSON can say.
 */
export interface BusPacket {
  readonly topic: string;
  readonly payload: Uint8Array | string;
  readonly properties?: {
    readonly envelope?: { readonly message: Message };
    readonly notice?: { readonly kind: string; readonly session?: StoredSession };
  };
}

/** A packet that is ready to be written: what JSON says of it, and its message's record, if any. */
export interface EncodedPacket {
  readonly head: unknown;
  readonly record: Uint8Array | undefined;
}

/** What stands in front of the packets of an entry: who wrote it, and which of its entries it is. */
export interface EntryLabel {
  readonly writer: string;
  readonly count: number;
}

/** Fields of an entry, in this order. */
const FIELDS = { writer: "writer", count: "count", heads: "heads", records: "records" } as const;
const NAMES = Object.values(FIELDS);

type Head = { readonly rest: object } | PlainHead;
interface PlainHead {
  readonly topic: string;
  /** Base64. */
  readonly payload: string;
  readonly notice?: { readonly kind: string };
  readonly session?: readonly [clientId: string, document: string];
}

export function encodePacket({ topic, payload, properties }: BusPacket): EncodedPacket {
  if (properties?.envelope) {
    const { message, ...rest } = properties.envelope;
    return { head: { rest }, record: encodeMessage(message, Buffer.allocUnsafe) };
  }
  const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
  const head = {
    topic,
    payload: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64"),
  };
  if (!properties?.notice) return { head, record: undefined };
  const { session, ...notice } = properties.notice;
  const document = session && { session: [session.clientId, encodeSession(session)] };
  return { head: { ...head, notice, ...document }, record: undefined };
}

/** Names and values for XADD. */
export function encodeEntry(
  { writer, count }: EntryLabel,
  packets: readonly EncodedPacket[],
): (string | Buffer)[] {
  const records = packets.flatMap(({ record }) => (record ? [record] : []));
  const values = [
    writer,
    String(count),
    JSON.stringify(packets.map(({ head }) => head)),
    joined(records),
  ];
  return values.flatMap((value, place) => [NAMES[place] ?? "", value]);
}

/** Each record behind its length. */
function joined(records: readonly Uint8Array[]): Buffer {
  const bytes = records.reduce((sum, { length }) => sum + varintBytes(length) + length, 0);
  const all = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const record of records) {
    at = writeVarint(all, at, record.length);
    all.set(record, at);
    at += record.length;
  }
  return all;
}

/** Reads who wrote an entry. @throws SluiceError FRAME_INVALID when that is no broker. */
export function entryLabel(fields: readonly Buffer[]): EntryLabel {
  const isOurs = NAMES.every((name, place) => fields[2 * place]?.toString() === name);
  const [, writer = "", , count = ""] = fields.slice(0, 4).map(String);
  const label = { writer, count: Number(count) };
  if (isOurs && writer !== "" && Number.isSafeInteger(label.count)) return label;
  throw new SluiceError("FRAME_INVALID", "an entry of the bus without a writer and its count");
}

/** Reads the packets of an entry. @throws SluiceError FRAME_INVALID when no broker can have sent them. */
export function decodeEntry(fields: readonly Buffer[]): BusPacket[] {
  const [, , , , , heads, , records] = fields;
  try {
    const reader = new ByteReader(records ?? Buffer.alloc(0));
    const packets = (JSON.parse(String(heads)) as Head[]).map((head) => decodePacket(head, reader));
    if (reader.left === 0) return packets;
  } catch (cause) {
    throw new SluiceError("FRAME_INVALID", "an entry of the bus cannot be read", { cause });
  }
  throw new SluiceError("FRAME_INVALID", "an entry of the bus has more records than packets");
}

const NOTHING = Buffer.alloc(0);

function decodePacket(head: Head, records: ByteReader): BusPacket {
  if ("rest" in head) {
    const message = decodeMessage(records.take(records.varint()));
    const envelope = { message, ...head.rest };
    return { topic: message.topic, payload: NOTHING, properties: { envelope } };
  }
  const { topic, notice, session } = head;
  if (typeof topic !== "string") throw new TypeError("a packet without a topic");
  const payload = Buffer.from(head.payload, "base64");
  if (!notice) return { topic, payload };
  const about = session && { session: decodeSession(...session) };
  return { topic, payload, properties: { notice: { ...notice, ...about } } };
}

/**
 * Where an entry stands: `<series>-<place>`. Places of one series are contiguous, so that whoever
 * has read one knows what the next one is. The series is the stream's newest; a stream that is new
 * begins with FIRST_SERIES.
 */
export interface Place {
  readonly series: number;
  /** -1: before the series' first entry. */
  readonly place: number;
}

const FIRST_SERIES = 1;

/** Before all entries of a stream that is new. */
export const BEGINNING: Place = { series: FIRST_SERIES, place: -1 };

/** The id behind which XREAD reads on from there. */
export function idOf({ series, place }: Place): string {
  return place < 0 ? "0-0" : `${series}-${place}`;
}

export function placeOf(id: string): Place {
  const [series, place] = id.split("-").map(Number);
  return id === "0-0" ? BEGINNING : { series: series ?? 0, place: place ?? 0 };
}

/** Does `next` follow `place` without a hole? */
export function follows(next: Place, { series, place }: Place): boolean {
  return next.series === series && next.place === place + 1;
}

export function isBefore(a: Place, b: Place): boolean {
  return a.series < b.series || (a.series === b.series && a.place < b.place);
}

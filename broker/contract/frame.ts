// frame: a run of consecutive records of one lane, sent and stored whole.
// Path: outbox → uplink → [frame] → landing → ingest. Touches: nothing.

import { ByteReader, varintBytes, writeVarint } from "./bytes.ts";
import { SluiceError } from "./errors.ts";
import { decodeRecord, type OutboxRecord } from "./message.ts";

export const FRAME_LIMITS = { recordsMax: 256, bytesMax: 256 * 1024 } as const;

/** More records than any sender would cut: reading stops before their count takes the memory. */
const RECORDS_READ_MAX = 65_536;

/** The first byte of a frame; another layout takes another number. */
const FRAME_VERSION = 1;

/** A record as bytes, with its place in the lane; `first` < `last` for a gap record alone. */
export interface RunRecord {
  readonly first: number;
  readonly last: number;
  readonly record: Uint8Array;
}

/** Records of one lane that follow each other, by sequence. */
export interface Run {
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly bytes: number;
  readonly records: readonly RunRecord[];
}

/** A record that was read, with the place that it has in its lane. */
export interface Sequenced {
  /** First and last sequence that the record stands for; equal but for gaps. */
  readonly first: number;
  readonly last: number;
  readonly record: OutboxRecord;
}

/** The frame's bytes: version, sequence of the first record, then each record behind its length. */
export function encodeFrame(firstSeq: number, records: readonly Uint8Array[]): Uint8Array {
  let bytes = 1 + varintBytes(firstSeq);
  for (const record of records) bytes += varintBytes(record.length) + record.length;
  const frame = new Uint8Array(bytes);
  frame[0] = FRAME_VERSION;
  let at = writeVarint(frame, 1, firstSeq);
  for (const record of records) {
    at = writeVarint(frame, at, record.length);
    frame.set(record, at);
    at += record.length;
  }
  return frame;
}

/**
 * Reads a frame whole and numbers its records.
 * @throws SluiceError FRAME_INVALID, also when a gap does not begin at its own place.
 */
export function decodeFrame(bytes: Uint8Array): Sequenced[] {
  const reader = new ByteReader(bytes);
  const version = reader.byte();
  if (version !== FRAME_VERSION) {
    throw new SluiceError("FRAME_INVALID", `frame version ${version}, knows ${FRAME_VERSION}`);
  }
  let next = reader.varint();
  if (next < 1) throw new SluiceError("FRAME_INVALID", "begins with sequence 0, which none has");
  const records: Sequenced[] = [];
  while (reader.left > 0) {
    if (records.length === RECORDS_READ_MAX) {
      throw new SluiceError("FRAME_INVALID", `holds more than ${RECORDS_READ_MAX} records`);
    }
    const record = decodeRecord(reader.take(reader.varint()));
    const last = record.kind === "gap" ? record.gap.to : next;
    if (record.kind === "gap" && record.gap.from !== next) {
      throw new SluiceError("FRAME_INVALID", `gap from ${record.gap.from} stands at ${next}`);
    }
    if (!Number.isSafeInteger(last)) {
      throw new SluiceError("FRAME_INVALID", "reaches a sequence over 2^53 - 1");
    }
    records.push({ first: next, last, record });
    next = last + 1;
  }
  if (records.length === 0) throw new SluiceError("FRAME_INVALID", "frame without a record");
  return records;
}

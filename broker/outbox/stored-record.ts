// stored-record: where in the store a lane's records lie, and in which bytes.
// Path: lane records → [stored record] → store. Touches: nothing.
//
//   lane!<lane>!<number>  → offset, record
//   lane-state!<lane>     → see lane-state.ts
//
// A record lies under the last number that it stands for, so that the first key from a number on is
// the record that covers it, be it a message or a gap. Gap records name stored numbers here.

import { ByteReader, varintBytes, writeVarint } from "#contract/bytes";
import { decodeGapRecord, encodeGap, type GapRecord } from "#contract/message";

/** A change of the store. */
export type LaneOperation =
  | { readonly type: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: string };

/** A record as it is stored. */
export interface StoredRecord {
  /** First and last stored number that it stands for; equal but for gaps. */
  readonly first: number;
  readonly last: number;
  /** Bytes of all records that the lane was given before this one: tells sizes by a subtraction. */
  readonly offset: number;
  readonly record: Uint8Array;
  /** undefined: a message. */
  readonly gap: GapRecord | undefined;
}

const NUMBER_DIGITS = 16;

export function recordKey(lane: string, number: number): string {
  return `lane!${lane}!${String(number).padStart(NUMBER_DIGITS, "0")}`;
}

export function stateKey(lane: string): string {
  return `lane-state!${lane}`;
}

/** All keys of the lane from `number` on. */
export function keysFrom(lane: string, number: number): { gte: string; lt: string } {
  return { gte: recordKey(lane, number), lt: `lane!${lane}"` };
}

export function putRecord(
  lane: string,
  number: number,
  offset: number,
  record: Uint8Array,
): LaneOperation {
  const headBytes = varintBytes(offset);
  const value = new Uint8Array(headBytes + record.length);
  writeVarint(value, 0, offset);
  value.set(record, headBytes);
  return { type: "put", key: recordKey(lane, number), value };
}

/** Reads what putRecord wrote; the record is a view of `value`. @throws SluiceError FRAME_INVALID. */
export function storedRecord(key: string, value: Uint8Array): StoredRecord {
  const reader = new ByteReader(value);
  const offset = reader.varint();
  const record = reader.take(reader.left);
  const last = Number(key.slice(-NUMBER_DIGITS));
  const gap = decodeGapRecord(record);
  return { first: gap?.from ?? last, last, offset, record, gap };
}

/** The bytes of a gap record that begins not before `from`, its numbers less `base`. */
export function gapFrom(gap: GapRecord, from: number, base: number): Uint8Array {
  const first = Math.max(gap.from, from);
  const count = Math.min(gap.count, gap.to - first + 1);
  return encodeGap({ ...gap, from: first - base, to: gap.to - base, count });
}

// drop-oldest: which of the oldest records that wait are to go, for one gap record in their place.
// Path: lane → [drop oldest]. Touches: nothing.

import type { Dropped } from "./lane-records.ts";
import type { StoredRecord } from "./stored-record.ts";

/** A gap that begins, or goes on, where the messages are that are to go. */
type Gathered = { -readonly [Name in keyof Dropped]: Dropped[Name] } & { numbers: number[] };

export interface DropOptions {
  readonly reason: string;
  /** Offset of the record behind one. */
  readonly offsetBehind: (record: StoredRecord) => number;
  /** May this message stay, when `bytes` have been gathered before it? */
  readonly mayStay: (record: Uint8Array, bytes: number) => boolean;
}

/**
 * Gathers from the front of `records` on, which follow each other, up to the first message that may
 * stay. Gaps of the same reason are taken in; of another one they stand before what is gathered, or
 * end it. undefined: no message is to go.
 */
export function gatherOldest(
  records: readonly StoredRecord[],
  { reason, offsetBehind, mayStay }: DropOptions,
): Dropped | undefined {
  let gathered: Gathered | undefined;
  for (const it of records) {
    if (it.gap && it.gap.reason !== reason) {
      if (gathered && gathered.messages > 0) break;
      gathered = undefined;
      continue;
    }
    if (!it.gap && mayStay(it.record, gathered?.bytes ?? 0)) break;
    gathered ??= begunWith(it, reason);
    gathered.numbers.push(it.last);
    gathered.to = it.last;
    gathered.count += it.gap?.count ?? 1;
    gathered.messages += it.gap ? 0 : 1;
    gathered.bytes += it.gap ? 0 : it.record.length;
    gathered.endOffset = offsetBehind(it);
  }
  return gathered && gathered.messages > 0 ? gathered : undefined;
}

function begunWith(record: StoredRecord, reason: string): Gathered {
  const { first, last, offset } = record;
  const none = { count: 0, messages: 0, bytes: 0, numbers: [] };
  return { reason, from: first, to: last, offset, endOffset: offset, ...none };
}

// newest-records: the newest records of a lane, in memory, so that a sender that keeps up reads no disk.
// Path: lane records → [newest records]. Touches: nothing.

import type { StoredRecord } from "./stored-record.ts";

export const NEWEST_LIMITS = { recordsMax: 512, bytesMax: 512 * 1024 } as const;

/** All records from the first that it holds to the end of the lane. */
export class NewestRecords {
  #records: StoredRecord[] = [];
  #bytes = 0;

  /** The record that was stored last; what it stands for again is in it alone. */
  add(stored: StoredRecord): void {
    if (stored.first < stored.last) this.forgetFrom(stored.first);
    this.#records.push(stored);
    this.#bytes += stored.record.length;
    const { recordsMax, bytesMax } = NEWEST_LIMITS;
    // Half of them go at a time, so that not every addition moves all others.
    if (this.#records.length > 2 * recordsMax || this.#bytes > 2 * bytesMax) this.#forgetOldest();
  }

  /** The records from the one that covers `from` on; undefined when they are not all here. */
  from(from: number, limit: number, bytesMax: number): StoredRecord[] | undefined {
    const first = this.#records[0];
    if (!first || from < first.first) return undefined;
    const found: StoredRecord[] = [];
    let bytes = 0;
    for (let at = this.#placeOf(from); at < this.#records.length; at += 1) {
      const record = this.#records[at];
      if (!record || found.length >= limit || (found.length > 0 && bytes >= bytesMax)) break;
      found.push(record);
      bytes += record.record.length;
    }
    return found;
  }

  /** The records that reach `number` or a later one are others by now. */
  forgetFrom(number: number): void {
    while ((this.#records.at(-1)?.last ?? 0) >= number) {
      this.#bytes -= this.#records.pop()?.record.length ?? 0;
    }
  }

  forgetAll(): void {
    this.#records = [];
    this.#bytes = 0;
  }

  #forgetOldest(): void {
    const { recordsMax, bytesMax } = NEWEST_LIMITS;
    let at = 0;
    for (; this.#records.length - at > recordsMax || this.#bytes > bytesMax; at += 1) {
      this.#bytes -= this.#records[at]?.record.length ?? 0;
    }
    this.#records = this.#records.slice(at);
  }

  /** Where the record lies that covers `number`, or the first one behind it. */
  #placeOf(number: number): number {
    let [low, high] = [0, this.#records.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#records[middle]?.last ?? 0) < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

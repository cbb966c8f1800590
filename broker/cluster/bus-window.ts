// bus-window: how much of the stream is kept for brokers that were cut off, by bytes and by age.
// Path: bus-reader → [bus-window] → bus. Touches: nothing.

import type { Place } from "./bus-entry.ts";

/** What stays in the stream: the longest break of a connection behind which a broker reads on. */
export const BUS_LIMITS = { keptBytesMax: 64 * 1_024 * 1_024, keptMsMax: 60_000 } as const;

/** Entries are counted together up to these: their ends are where the stream may be cut. */
const PART_BYTES_MAX = 1_024 * 1_024;
const PART_MS_MAX = 1_000;

interface Part {
  readonly first: Place;
  readonly sinceMs: number;
  bytes: number;
}

/** The sizes of the entries that a broker has read, in parts. */
export class BusWindow {
  #parts: Part[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(place: Place, bytes: number, nowMs: number): void {
    const part = this.#parts.at(-1);
    this.#bytes += bytes;
    if (!part || part.bytes >= PART_BYTES_MAX || nowMs - part.sinceMs >= PART_MS_MAX) {
      this.#parts.push({ first: place, sinceMs: nowMs, bytes });
    } else part.bytes += bytes;
  }

  /** The first entry that stays, when others before it are over the limits; undefined: none are. */
  cut(nowMs: number): Place | undefined {
    let over = 0;
    for (const [index, { bytes }] of this.#parts.entries()) {
      const next = this.#parts[index + 1];
      // The part is as old as its newest entry, which came before the next part began.
      const isOld = next !== undefined && nowMs - next.sinceMs > BUS_LIMITS.keptMsMax;
      if (!next || !(isOld || this.#bytes > BUS_LIMITS.keptBytesMax)) break;
      this.#bytes -= bytes;
      over += 1;
    }
    this.#parts = over === 0 ? this.#parts : this.#parts.slice(over);
    return over === 0 ? undefined : this.#parts[0]?.first;
  }

  clear(): void {
    this.#parts = [];
    this.#bytes = 0;
  }
}

// tail: what the gateway keeps for a while after the cloud took it, to rewind into.
// Path: lane → [tail]. Touches: nothing.

export interface TailLimits {
  readonly tailBytesMax: number;
  readonly tailSecondsMax: number;
}

/** Records that the cloud took together. */
interface Part {
  /** Stored number of the last record. */
  end: number;
  count: number;
  bytes: number;
  /** When the cloud took them, by a clock that never jumps. */
  atMs: number;
}

/** Parts younger than this are joined, so that their number is bound by the tail's age … */
const JOIN_MS = 1_000;
/** … but none takes more than this share of the tail's bytes, since a part goes as a whole. */
const PART_SHARE_MAX = 1 / 16;

/** Counts the tail's parts and says which of them are too old or too many. */
export class Tail {
  readonly #limits: TailLimits;
  readonly #monotonicMs: () => number;
  readonly #parts: Part[] = [];
  #dropped = 0;

  constructor(limits: TailLimits, monotonicMs: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#monotonicMs = monotonicMs;
  }

  get count(): number {
    return this.#parts.reduce((sum, part) => sum + part.count, 0);
  }

  get bytes(): number {
    return this.#parts.reduce((sum, part) => sum + part.bytes, 0);
  }

  add(part: Readonly<Omit<Part, "atMs">>): void {
    const newest = this.#parts.at(-1);
    const atMs = this.#monotonicMs();
    const bytesMax = this.#limits.tailBytesMax * PART_SHARE_MAX;
    if (newest && atMs - newest.atMs < JOIN_MS && newest.bytes + part.bytes <= bytesMax) {
      newest.end = part.end;
      newest.count += part.count;
      newest.bytes += part.bytes;
    } else {
      this.#parts.push({ ...part, atMs });
    }
  }

  /** The newest `count` records, of `bytes` in all, wait for the cloud again; `end` is the new end. */
  takeBack(end: number, count: number, bytes: number): void {
    const kept = { count: this.count - count, bytes: this.bytes - bytes };
    const newest = this.#parts.at(-1);
    this.#parts.length = 0;
    if (newest && kept.count > 0) this.#parts.push({ ...kept, end, atMs: newest.atMs });
  }

  /** Forgets the parts outside the limits; returns the last stored number that may be deleted. */
  dropOld(): number {
    const oldestMs = this.#monotonicMs() - this.#limits.tailSecondsMax * 1_000;
    let bytes = this.bytes;
    for (let part = this.#parts[0]; part; part = this.#parts[0]) {
      if (part.atMs > oldestMs && bytes <= this.#limits.tailBytesMax) break;
      bytes -= part.bytes;
      this.#dropped = part.end;
      this.#parts.shift();
    }
    return this.#dropped;
  }
}

// random: numbers that look random and are the same in each run.
// Path: torture, tests → [random]. Touches: nothing.

/** A source of such numbers; one seed, one run of them (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e37_79b1) >>> 0;
  }

  /** 0 to `below` − 1. */
  int(below: number): number {
    this.#state = (this.#state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  /** True once in `times`, on average. */
  once(times: number): boolean {
    return this.int(times) === 0;
  }

  pick<T>(values: readonly [T, ...T[]]): T {
    return values[this.int(values.length)] ?? values[0];
  }

  bytes(length: number): Buffer {
    const all = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; at += 1) all[at] = this.int(256);
    return all;
  }
}

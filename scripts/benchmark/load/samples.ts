// samples: how long things took.
// Path: jobs → [samples]. Touches: nothing.

const COUNT_MAX = 1 << 20;

/** The last COUNT_MAX of what was added. */
export class Samples {
  readonly #values = new Float32Array(COUNT_MAX);
  #count = 0;

  add(value: number): void {
    this.#values[this.#count++ % COUNT_MAX] = value;
  }

  clear(): void {
    this.#count = 0;
  }

  get count(): number {
    return this.#count;
  }

  /** The value that `share` of all, 0 to 1, do not exceed; NaN without any. */
  quantile(share: number): number {
    const sorted = this.#values.slice(0, Math.min(this.#count, COUNT_MAX)).sort();
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  }
}

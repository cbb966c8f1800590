// token-bucket: how fast the outbox may drain, in bytes a second.
// Path: sender. Touches: the clock that it is given.

/**
 * A bucket that holds the tokens of no time at all and may go into debt: a frame goes as soon as
 * those before it are paid off, so that over any time no more goes than the rate and one frame.
 */
export class TokenBucket {
  readonly #bytesPerSecondMax: number;
  readonly #nowMs: () => number;
  /** When the debt is paid off. */
  #freeAtMs = Number.NEGATIVE_INFINITY;

  constructor(bytesPerSecondMax: number, nowMs: () => number) {
    this.#bytesPerSecondMax = bytesPerSecondMax;
    this.#nowMs = nowMs;
  }

  /** Milliseconds until the next frame may go; 0: now. */
  get waitMs(): number {
    return Math.max(0, this.#freeAtMs - this.#nowMs());
  }

  /** So many bytes go now. */
  take(bytes: number): void {
    const fromMs = Math.max(this.#freeAtMs, this.#nowMs());
    this.#freeAtMs = fromMs + (bytes / this.#bytesPerSecondMax) * 1_000;
  }

  /** A larger frame would hold the line for more than a second. */
  get frameBytesMax(): number {
    return this.#bytesPerSecondMax;
  }
}

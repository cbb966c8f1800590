// rate: how many of something there were a second, of late.
// Path: lane → [rate]. Touches: nothing.

/** How far back it looks. */
const WINDOW_SECONDS = 10;

/** Counts by the second and forgets what is older than its window. */
export class Rate {
  readonly #counts = new Array<number>(WINDOW_SECONDS).fill(0);
  #second = 0;

  /** `nowMs` never jumps. */
  add(count: number, nowMs: number): void {
    this.#advance(nowMs);
    this.#counts[this.#second % WINDOW_SECONDS] =
      (this.#counts[this.#second % WINDOW_SECONDS] ?? 0) + count;
  }

  /** The mean of the window, its last second not over yet. */
  perSecond(nowMs: number): number {
    this.#advance(nowMs);
    return this.#counts.reduce((sum, count) => sum + count, 0) / WINDOW_SECONDS;
  }

  #advance(nowMs: number): void {
    const second = Math.floor(nowMs / 1_000);
    const passed = Math.min(second - this.#second, WINDOW_SECONDS);
    for (let step = 0; step < passed; step += 1) this.#counts[(second - step) % WINDOW_SECONDS] = 0;
    this.#second = Math.max(this.#second, second);
  }
}

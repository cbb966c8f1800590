// sleep: when a node that sleeps between its measurements can be reached.
// Path: network → [sleep] → node. Touches: the clock.

import { wait } from "#runtime/backoff";

/**
 * awake → falling asleep, and reachable for a little while → asleep → awake. A node that never
 * tells of sleep is always awake.
 */
export class Sleep {
  readonly #nowMs: () => number;
  #awakeUntilMs = Number.POSITIVE_INFINITY;
  #waiting: (() => void)[] = [];

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** It listens for `ms` more. */
  fallsAsleepIn(ms: number): void {
    this.#awakeUntilMs = this.#nowMs() + ms;
    this.#wake();
  }

  wakes(): void {
    this.#awakeUntilMs = Number.POSITIVE_INFINITY;
    this.#wake();
  }

  /** Resolves with true when it is awake, with false after `msMax` or when `signal` aborts. */
  async isAwakeWithin(msMax: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    if (this.#nowMs() < this.#awakeUntilMs) return true;
    const done = new AbortController();
    const woken = new Promise<boolean>((resolve) => this.#waiting.push(() => resolve(true)));
    const late = wait(msMax, AbortSignal.any([done.signal, signal])).then(() => false);
    const isAwake = await Promise.race([woken, late]);
    done.abort();
    return isAwake;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

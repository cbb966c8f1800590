// retry: says something again and again until it is answered (MQTT-SN 1.2, §6.13, T_retry and N_retry).
// Path: client, deliveries → [retry]. Touches: the clock.

export interface RetryLimits {
  readonly retryMs: number;
  /** How often it is said again. */
  readonly retriesMax: number;
}

export class Retry {
  readonly #limits: RetryLimits;
  readonly #onGivenUp: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(limits: RetryLimits, onGivenUp: () => void) {
    this.#limits = limits;
    this.#onGivenUp = onGivenUp;
  }

  /** Says it now, in place of what was said before. */
  start(say: () => void): void {
    this.stop();
    this.#await(say, this.#limits.retriesMax);
    say();
  }

  /** It was answered, or is of no interest any more. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #await(say: () => void, left: number): void {
    this.#timer = setTimeout(() => {
      if (left === 0) return this.#onGivenUp();
      this.#await(say, left - 1);
      say();
    }, this.#limits.retryMs);
  }
}

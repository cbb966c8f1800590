// loan: a request for a link's port, as a programmer makes it.
// Path: links → [loan]. Touches: the clock.

import { reasonOf } from "#contract/errors";

/** waiting → running → over; or waiting → over, when it is refused. */
export class Loan<T = unknown> {
  /** What `use` gave; @throws what it threw, or why there was nothing to lend. */
  readonly answer: Promise<T>;
  readonly #use: (path: string) => Promise<T>;
  readonly #resolve: (value: T) => void;
  readonly #reject: (fault: unknown) => void;
  #waiting = true;
  #timer: NodeJS.Timeout | undefined;

  constructor(use: (path: string) => Promise<T>) {
    this.#use = use;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.answer = promise;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get isWaiting(): boolean {
    return this.#waiting;
  }

  refuse(fault: unknown): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    clearTimeout(this.#timer);
    this.#reject(fault);
  }

  /** Refuses it unless it runs by then. */
  refuseAfter(ms: number, fault: unknown): void {
    this.#timer ??= setTimeout(() => this.refuse(fault), ms);
  }

  /**
   * Resolves when the port is free again: with why its use failed, or undefined. `over` is told the
   * same before whoever asked for the loan has its answer.
   */
  async run(path: string, over: (fault: string | undefined) => void): Promise<string | undefined> {
    this.#waiting = false;
    clearTimeout(this.#timer);
    try {
      const value = await this.#use(path);
      over(undefined);
      this.#resolve(value);
      return undefined;
    } catch (cause) {
      const fault = reasonOf(cause);
      over(fault);
      this.#reject(cause);
      return fault;
    }
  }
}

// line-queue: who speaks next on a line where one question at a time can be asked.
// Path: slaves' commands, polls → [line-queue] → line. Touches: the clock.

import { SluiceError } from "#contract/errors";
import { wait } from "#runtime/backoff";

const COMMANDS_MAX = 1_000;
/** Timers take Infinity for 1 ms. */
const PAUSE_MS_MAX = 60_000;

/** What is to be done on the line when no command waits: now, or not before `atMs`. */
export type Idle = { readonly run: () => Promise<void> } | { readonly atMs: number };

interface Command {
  readonly unit: number;
  readonly run: () => Promise<void>;
  readonly fail: (fault: SluiceError) => void;
}

export class LineQueue {
  readonly #heldUntilMs: (unit: number) => number;
  readonly #commands: Command[] = [];
  #pause = new AbortController();
  #isOver = false;

  /** `heldUntilMs`: when a slave may be asked, in ms of performance.now(). */
  constructor(heldUntilMs: (unit: number) => number) {
    this.#heldUntilMs = heldUntilMs;
  }

  /**
   * Does this before all polls, as soon as the slave may be asked; @throws SluiceError LINK_FAILED
   * when the line ends before, or too many commands wait.
   */
  command<T>(unit: number, act: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const run = () => act().then(resolve, reject);
    if (this.#isOver) reject(new SluiceError("LINK_FAILED", "the link is gone"));
    else if (this.#commands.length >= COMMANDS_MAX) {
      reject(new SluiceError("LINK_FAILED", `${COMMANDS_MAX} commands wait for the line already`));
    } else this.#commands.push({ unit, run, fail: reject });
    this.wake();
    return promise;
  }

  /** Something may be done earlier than was said. */
  wake(): void {
    this.#pause.abort();
  }

  /** One thing after the other until `end`; rejects with what `idle`'s work does. */
  async run(idle: () => Idle): Promise<void> {
    while (!this.#isOver) {
      const next = this.#nextCommand() ?? idle();
      if ("run" in next) await next.run();
      else await this.#pauseUntil(next.atMs);
    }
  }

  end(): void {
    this.#isOver = true;
    const fault = new SluiceError("LINK_FAILED", "the link ended before the command's turn came");
    for (const { fail } of this.#commands.splice(0)) fail(fault);
    this.wake();
  }

  #nextCommand(): Command | undefined {
    const nowMs = performance.now();
    const index = this.#commands.findIndex(({ unit }) => this.#heldUntilMs(unit) <= nowMs);
    return index < 0 ? undefined : this.#commands.splice(index, 1)[0];
  }

  /** A command whose slave may not be asked yet is a reason to look again, too. */
  async #pauseUntil(idleMs: number): Promise<void> {
    const heldMs = this.#commands.map(({ unit }) => this.#heldUntilMs(unit));
    const ms = Math.min(idleMs, ...heldMs) - performance.now();
    this.#pause = new AbortController();
    await wait(Math.min(PAUSE_MS_MAX, Math.max(1, Math.ceil(ms))), this.#pause.signal);
  }
}

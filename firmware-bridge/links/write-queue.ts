// write-queue: the writes of one link, one after the other, each within its time.
// Path: driver → [write-queue] → port, tcp-link. Touches: the clock.

import { SluiceError } from "#contract/errors";
import { wait } from "#runtime/backoff";

interface WriteQueueOptions {
  /** As messages name the link. */
  readonly name: string;
  /** How long so many bytes may take. */
  readonly msMax: (bytes: number) => number;
  /** Resolves when they have left; @throws SluiceError LINK_FAILED. */
  readonly transmit: (bytes: Uint8Array) => Promise<void>;
}

export class WriteQueue {
  readonly #options: WriteQueueOptions;
  #last: Promise<unknown> = Promise.resolve();
  #underWay = 0;
  /** A write took too long and has not ended yet. */
  #stuck = false;

  constructor(options: WriteQueueOptions) {
    this.#options = options;
  }

  get isStuck(): boolean {
    return this.#stuck;
  }

  /** Bytes were given that may not have left yet. */
  get isBusy(): boolean {
    return this.#underWay > 0;
  }

  /** Resolves when they have left, in the order of the calls; @throws SluiceError LINK_FAILED. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#stuck) throw this.#failure("takes no bytes: an earlier write is still under way");
    const written = this.#last.then(() => this.#options.transmit(bytes));
    this.#underWay += 1;
    this.#last = written
      .catch(() => {})
      .finally(() => {
        this.#underWay -= 1;
      });
    await this.#withinMs(written, this.#options.msMax(bytes.length));
  }

  /** Resolves when no write is under way, or one has got stuck. */
  async idle(): Promise<void> {
    const done = new AbortController();
    const late = wait(this.#options.msMax(0), done.signal);
    await Promise.race([this.#last, late]);
    done.abort();
  }

  /** A device that holds its input back must not hold up whoever waits for the outcome. */
  async #withinMs(written: Promise<void>, ms: number): Promise<void> {
    const done = new AbortController();
    const late = wait(ms, done.signal).then(() => {
      if (done.signal.aborted) return;
      this.#stuck = true;
      throw this.#failure(`has not taken the bytes within ${ms} ms; it may yet`);
    });
    const ended = written.finally(() => {
      this.#stuck = false;
      done.abort();
    });
    await Promise.race([ended, late]);
  }

  #failure(what: string): SluiceError {
    return new SluiceError("LINK_FAILED", `${this.#options.name} ${what}`);
  }
}

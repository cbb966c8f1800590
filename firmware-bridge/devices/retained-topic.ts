// retained-topic: one retained message of a device that is told when it changes, and not too often.
// Path: device → [retained-topic] → outgoing. Touches: the clock.

import type { Publication } from "./outgoing.ts";

const MS_LEAST = 1_000;

export class RetainedTopic {
  readonly #topic: string;
  readonly #say: (publication: Publication) => void;
  #told: string | undefined;
  #isThere = false;
  #toldAtMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  constructor(topic: string, say: (publication: Publication) => void) {
    this.#topic = topic;
    this.#say = say;
  }

  /** Now, or at the end of the time that has to pass; `text` is asked for when it is told. */
  change(text: () => string): void {
    if (this.#timer) return;
    const waitMs = this.#toldAtMs + MS_LEAST - performance.now();
    // Also what comes at once is told once: a turn may bring several changes.
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.now(text());
      },
      Math.max(0, waitMs),
    );
  }

  /** To a broker that has no session of ours, and so may have lost what it retained. */
  again(text: () => string): void {
    if (!this.#isThere) return;
    this.#told = undefined;
    this.change(text);
  }

  now(text: string): void {
    this.stop();
    if (text === this.#told) return;
    this.#told = text;
    this.#toldAtMs = performance.now();
    this.#isThere = false;
    const settled = () => {
      this.#isThere = true;
    };
    this.#say({ topic: this.#topic, payload: Buffer.from(text), retain: true, settled });
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

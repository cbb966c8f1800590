// crowding: holds back what the brokers themselves hand on in bulk while clients cannot keep up.
// Path: outgoing → [crowding] → every broker → ingest. Touches: what it is given.

import { wait } from "#runtime/backoff";

/** How long one notice holds for: nobody delays anybody else for longer. */
const HELD_MS = 100;
/** How often a broker tells; the notices of all follow each other closely enough. */
const TOLD_EVERY_MS = 25;

export interface CrowdingOptions {
  /** Tells all brokers, this one too. */
  readonly tell: () => void;
  readonly nowMs: () => number;
}

/**
 * A backlog comes faster than most clients read, and those without a kept session are ended over
 * their limits. One that is well on its way there has the backlog wait a moment, each batch anew: who
 * reads at a fair rate keeps up, and who does not read at all is ended as before.
 */
export class Crowding {
  readonly #options: CrowdingOptions;
  #toldAtMs = Number.NEGATIVE_INFINITY;
  #heldUntilMs = Number.NEGATIVE_INFINITY;

  constructor(options: CrowdingOptions) {
    this.#options = options;
  }

  /** More waits for a client here than it should. */
  felt(): void {
    const nowMs = this.#options.nowMs();
    if (nowMs - this.#toldAtMs < TOLD_EVERY_MS) return;
    this.#toldAtMs = nowMs;
    this.#options.tell();
  }

  /** A broker has told. */
  heard(): void {
    this.#heldUntilMs = this.#options.nowMs() + HELD_MS;
  }

  /** undefined: nobody needs it. Else resolves in a moment. */
  hold(): Promise<void> | undefined {
    const ms = this.#heldUntilMs - this.#options.nowMs();
    return ms > 0 ? wait(ms) : undefined;
  }
}

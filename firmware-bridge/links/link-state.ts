// link-state: the mode of a link, why it is in it and since when, told and logged.
// Path: [link-state] → links. Touches: the clock.

import type { Log } from "#runtime/log";

export type LinkMode = "absent" | "opening" | "up" | "failing" | "lent" | "stopped";

export class LinkState {
  readonly #log: Log;
  readonly #onMode: (mode: LinkMode, why: string) => void;
  #mode: LinkMode = "opening";
  #why = "not looked for yet";
  #sinceMs = Date.now();
  #lastFault = "";
  #lastWarning = "";

  constructor(log: Log, onMode: (mode: LinkMode, why: string) => void) {
    this.#log = log;
    this.#onMode = onMode;
  }

  get mode(): LinkMode {
    return this.#mode;
  }

  get why(): string {
    return this.#why;
  }

  get sinceMs(): number {
    return this.#sinceMs;
  }

  set(next: LinkMode, why: string): void {
    const from = this.#mode;
    this.#mode = next;
    this.#why = why;
    if (from !== next) this.#sinceMs = Date.now();
    this.#tell(from, next, why);
    this.#onMode(next, why);
  }

  /** What stays the same is told once. */
  warn(what: string): void {
    if (what !== this.#lastWarning) this.#log.warn({ what }, "link warning");
    this.#lastWarning = what;
  }

  /** A fault that stays the same is told once, not at each try. */
  #tell(from: LinkMode, to: LinkMode, why: string): void {
    const fields = { from, to, why };
    const isFault = to === "failing" || to === "absent";
    const known = why === this.#lastFault || to === "opening";
    if (isFault) this.#lastFault = why;
    if (to === "up") this.#lastFault = "";
    if (known) this.#log.debug(fields, "link mode");
    else if (isFault) this.#log.warn(fields, "link mode");
    else this.#log.info(fields, "link mode");
  }
}

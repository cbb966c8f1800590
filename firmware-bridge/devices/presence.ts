// presence: whether a device is there, by its link and by what is heard of it, and since when.
// Path: driver, links → [presence] → device. Touches: the clock.

import { TIMER_MS_MAX } from "#runtime/clock";
import type { CarryOut } from "../driver.ts";

/** Between two corrections of an availability that somebody else wrote. */
const CORRECTION_MS = 1_000;

export type Link =
  | { readonly mode: "starting" }
  | { readonly mode: "online"; readonly carryOut: CarryOut }
  | { readonly mode: "offline"; readonly reason: string };

export interface PresenceOptions {
  /** A device that is silent for longer is offline; 0: it may be. */
  readonly silentMsMax: number;
  /** The availability is another, or has to be said again. */
  readonly onAvailability: () => void;
  /** What the document says of it is another. */
  readonly onChange: () => void;
}

/**
 * starting → online ⇄ offline, by the link. While starting nobody knows yet whether the link is
 * there: commands wait. A device that is online by its link and silent for too long is told of as
 * offline until its next message; commands still go to it.
 */
export class Presence {
  readonly #options: PresenceOptions;
  #link: Link = { mode: "starting" };
  #sinceMs = Date.now();
  #isSilent = false;
  #lastHeardMs = 0;
  #silence: NodeJS.Timeout | undefined;
  #correction: NodeJS.Timeout | undefined;
  #heardOfUs = "";
  #isStopped = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
  }

  get link(): Link {
    return this.#link;
  }

  get availability(): "online" | "offline" {
    return this.#link.mode === "online" && !this.#isSilent ? "online" : "offline";
  }

  get state(): "starting" | "online" | "offline" {
    return this.#link.mode === "starting" ? "starting" : this.availability;
  }

  /** Of what is offline. */
  get why(): string | undefined {
    if (this.#link.mode === "offline") return this.#link.reason;
    const seconds = this.#options.silentMsMax / 1_000;
    return this.#isSilent ? `silent for ${seconds} s` : undefined;
  }

  /** In ms of Unix time. */
  get sinceMs(): number {
    return this.#sinceMs;
  }

  set(link: Link): void {
    const before = this.#link;
    this.#change(() => {
      this.#link = link;
      this.#isSilent = false;
    });
    clearTimeout(this.#silence);
    this.#silence = undefined;
    if (link.mode === "online") this.#watchSilence();
    const isNews = before.mode === "offline" && link.mode === "offline";
    if (isNews && before.reason !== link.reason) this.#options.onChange();
  }

  /** A message came. */
  heard(): void {
    if (this.#options.silentMsMax === 0) return;
    this.#lastHeardMs = performance.now();
    if (!this.#isSilent) return;
    this.#change(() => {
      this.#isSilent = false;
    });
    if (this.#link.mode === "online") this.#watchSilence();
  }

  /**
   * A broker may publish the will of an earlier connection after the device is back. So the device
   * listens to its own availability, and corrects it where it is not what was said last.
   */
  hearAvailability(said: string): void {
    this.#heardOfUs = said;
    if (said === this.availability || this.#correction || this.#isStopped) return;
    this.#correction = setTimeout(() => {
      this.#correction = undefined;
      if (this.#heardOfUs !== this.availability) this.#options.onAvailability();
    }, CORRECTION_MS);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#silence);
    clearTimeout(this.#correction);
    this.#correction = undefined;
  }

  #change(change: () => void): void {
    const { state, availability } = this;
    change();
    if (this.state === state) return;
    this.#sinceMs = Date.now();
    if (this.availability !== availability) this.#options.onAvailability();
    this.#options.onChange();
  }

  #watchSilence(): void {
    if (this.#options.silentMsMax === 0 || this.#isStopped) return;
    this.#lastHeardMs = performance.now();
    this.#lookAgain(this.#options.silentMsMax);
  }

  /** One timer, however many messages come: it looks when the last one was. */
  #lookAgain(ms: number): void {
    this.#silence = setTimeout(
      () => {
        const leftMs = this.#lastHeardMs + this.#options.silentMsMax - performance.now();
        if (leftMs > 0) this.#lookAgain(leftMs);
        else {
          this.#change(() => {
            this.#isSilent = true;
          });
        }
      },
      Math.min(ms, TIMER_MS_MAX),
    );
  }
}

// links: keeps one serial port open for its driver, whatever is plugged in or out.
// Path: device node → [links] → driver. Touches: the port, by port.ts; the clock.

import { SluiceError } from "#contract/errors";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { LinkSettings } from "#runtime/settings-links";
import type { Driver } from "../driver.ts";
import { appears, isThere } from "./node-watch.ts";
import { type OpenPort, openPort } from "./port.ts";

export interface LinkLimits {
  readonly retryMsLeast: number;
  readonly retryMsMost: number;
  /** A link that was up for so long begins again with the shortest wait. */
  readonly healthyMs: number;
  /** Looks for an absent node, should the kernel tell nothing. */
  readonly rescanMs: number;
}

export const LINK_LIMITS: LinkLimits = {
  retryMsLeast: 250,
  retryMsMost: 30_000,
  healthyMs: 60_000,
  rescanMs: 30_000,
};

export type LinkMode = "absent" | "opening" | "up" | "failing" | "stopped";

export interface LinkOptions {
  readonly settings: LinkSettings;
  readonly driver: Driver;
  readonly log: Log;
  /** Told of each mode, and why. */
  readonly onMode: (mode: LinkMode, why: string) => void;
  readonly limits?: LinkLimits;
}

/**
 * The supervisor of one link.
 *
 * opening → up → failing → opening: a port that is there but cannot be had, or broke, is tried
 * again after a growing wait. Any of them → absent when the node is gone; absent → opening when it
 * appears, without a wait. stopped is final. Only #setMode writes #mode.
 */
export class LinkSupervisor {
  readonly #options: LinkOptions;
  readonly #limits: LinkLimits;
  readonly #stopping = new AbortController();
  #mode: LinkMode = "opening";
  #attempt = 0;
  #lastFault = "";
  #ended: Promise<void> | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#limits = options.limits ?? LINK_LIMITS;
  }

  get mode(): LinkMode {
    return this.#mode;
  }

  start(): void {
    this.#ended ??= this.#supervise();
  }

  /** Closes the port; resolves when the driver has handed on what was read. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#ended;
  }

  async #supervise(): Promise<void> {
    const { path } = this.#options.settings;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      if (await isThere(path)) {
        await this.#tryPort();
      } else {
        this.#attempt = 0;
        this.#setMode("absent", `${path} is not there`);
        await appears(path, this.#limits.rescanMs, signal);
      }
    }
    this.#setMode("stopped", "stopped on request");
  }

  async #tryPort(): Promise<void> {
    const { path } = this.#options.settings;
    const { signal } = this.#stopping;
    this.#setMode("opening", `${path} is there`);
    const startedMs = performance.now();
    await this.#openAndUse();
    if (signal.aborted || !(await isThere(path))) return;
    if (performance.now() - startedMs >= this.#limits.healthyMs) this.#attempt = 0;
    const { retryMsLeast, retryMsMost } = this.#limits;
    await wait(backoffMs(this.#attempt++, retryMsLeast, retryMsMost), signal);
  }

  async #openAndUse(): Promise<void> {
    try {
      await this.#use(await openPort(this.#options.settings));
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      this.#setMode("failing", fault.message);
    }
  }

  async #use(port: OpenPort): Promise<void> {
    const { signal } = this.#stopping;
    const stop = () => void port.close("stopped on request");
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    this.#setMode("up", `${port.path} is open`);
    // Told at once; the driver may need longer, to hand on what was read before.
    const told = port.closed.then((why) => {
      if (!signal.aborted) this.#setMode("failing", why);
    });
    try {
      await this.#options.driver.run(port);
    } finally {
      signal.removeEventListener("abort", stop);
      await port.close("the driver ended");
      await told;
    }
  }

  #setMode(next: LinkMode, why: string): void {
    const from = this.#mode;
    this.#mode = next;
    this.#log(from, next, why);
    this.#options.onMode(next, why);
  }

  /** A fault that stays the same is told once, not at each try. */
  #log(from: LinkMode, to: LinkMode, why: string): void {
    const { log, settings } = this.#options;
    const fields = { link: settings.path, from, to, why };
    const known = why === this.#lastFault || to === "opening";
    if (to === "failing" || to === "absent") this.#lastFault = why;
    if (to === "up") this.#lastFault = "";
    if (known) log.debug(fields, "link mode");
    else if (to === "failing" || to === "absent") log.warn(fields, "link mode");
    else log.info(fields, "link mode");
  }
}

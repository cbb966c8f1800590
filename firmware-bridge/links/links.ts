// links: keeps one link open for its driver, whatever is plugged in or out.
// Path: device node, network → [links] → driver. Touches: the ports, by open-link.ts; the clock.

import { once } from "node:events";
import { SluiceError } from "#contract/errors";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import { type LinkSettings, whereOf } from "#runtime/settings-links";
import type { Driver } from "../driver.ts";
import { type LinkMode, LinkState } from "./link-state.ts";
import { Loan } from "./loan.ts";
import { holds } from "./node-watch.ts";
import { openLink } from "./open-link.ts";
import { type LinkCounts, newCounts, type OpenPort, UNPLUGGED } from "./open-port.ts";
import { type Found, type FoundPort, type Place, placeOf } from "./place.ts";
import { ROOTS, type Roots } from "./usb-ports.ts";

export type { LinkMode } from "./link-state.ts";
export type { LinkCounts } from "./open-port.ts";

export interface LinkLimits {
  readonly retryMsLeast: number;
  readonly retryMsMost: number;
  /** A link that was up for so long begins again with the shortest wait. */
  readonly healthyMs: number;
  /** Looks for an absent node, should the kernel tell nothing. */
  readonly rescanMs: number;
  /** For the driver to hand on what was read, before its port is lent. */
  readonly handOnMsMax: number;
}

export const LINK_LIMITS: LinkLimits = {
  retryMsLeast: 250,
  retryMsMost: 30_000,
  healthyMs: 60_000,
  rescanMs: 30_000,
  handOnMsMax: 10_000,
};

export interface LinkOptions {
  readonly settings: LinkSettings;
  readonly driver: Driver;
  /** Whose lines name the link. */
  readonly log: Log;
  /** Told of each mode, and why. */
  readonly onMode: (mode: LinkMode, why: string) => void;
  readonly limits?: LinkLimits;
  readonly roots?: Roots;
}

const DRIVER_ENDED = "the driver ended";

/**
 * The supervisor of one link.
 *
 * opening → up → failing → opening: a port that is there but cannot be had, or broke, is tried
 * again after a growing wait. Any of them → absent when the node is gone; absent → opening when it
 * appears, without a wait; failing also as long as several ports could be meant. All but absent →
 * lent on request; lent → opening, or → failing when its use failed, until the port is unplugged or
 * lent again. stopped is final.
 */
export class LinkSupervisor {
  readonly #options: LinkOptions;
  readonly #limits: LinkLimits;
  readonly #place: Place;
  readonly #state: LinkState;
  readonly #counts = newCounts();
  readonly #stopping = new AbortController();
  /** Ends what is under way, for something else to be done: to stop, or to lend the port. */
  #turn = new AbortController();
  #loan: Loan | undefined;
  #port: OpenPort | undefined;
  #identity: string | undefined;
  #attempt = 0;
  #ended: Promise<void> | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#limits = options.limits ?? LINK_LIMITS;
    this.#place = placeOf(options.settings, options.roots ?? ROOTS);
    this.#state = new LinkState(options.log, options.onMode);
  }

  get mode(): LinkMode {
    return this.#state.mode;
  }

  /** Why it is in this mode. */
  get why(): string {
    return this.#state.why;
  }

  /** Since when it is in this mode, in ms of Unix time. */
  get sinceMs(): number {
    return this.#state.sinceMs;
  }

  /** What the open port is known by, and why by that; undefined while none is open. */
  get identity(): string | undefined {
    return this.#identity;
  }

  /** As they are now, since the process began. */
  get counts(): Readonly<LinkCounts> {
    return { ...this.#counts, overruns: this.#port?.overruns?.() ?? this.#counts.overruns };
  }

  start(): void {
    this.#ended ??= this.#supervise();
  }

  /** Closes the port; resolves when the driver has handed on what was read. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#refuseLoan("the bridge stops");
    this.#turn.abort();
    await this.#ended;
  }

  /**
   * Gives the path of the port to `use`, with the driver ended, the lock held unless that is to be
   * released, and no byte touched; once it has resolved, the link opens anew. @throws SluiceError
   * LINK_FAILED when there is no port to lend, and what `use` throws: the link then stays failing
   * until it is unplugged or lent again.
   */
  async lend<T>(use: (path: string) => Promise<T>, lock: "kept" | "released" = "kept"): Promise<T> {
    if (this.#options.settings.address !== undefined) throw this.#refusal("it is no serial port");
    if (this.#lending || this.mode === "lent") throw this.#refusal("it is lent already");
    if (!this.#ended || this.#stopping.signal.aborted) throw this.#refusal("it is stopped");
    const loan = new Loan(lock === "kept" ? use : (path) => this.#unlocked(use, path));
    this.#loan = loan as Loan;
    this.#turn.abort();
    return loan.answer;
  }

  /** For a program that locks the port by itself, to which our lock would be another's. */
  async #unlocked<T>(use: (path: string) => Promise<T>, path: string): Promise<T> {
    const port = this.#port;
    await port?.lock?.(false);
    return use(path).finally(() => port?.lock?.(true));
  }

  async #supervise(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      this.#newTurn();
      const found = await this.#place.find();
      if (found.kind === "found") await this.#tryPort(found);
      else await this.#untilFound(found);
    }
    this.#state.set("stopped", "stopped on request");
  }

  #newTurn(): AbortSignal {
    this.#turn = new AbortController();
    if (this.#stopping.signal.aborted) this.#turn.abort();
    return this.#turn.signal;
  }

  async #untilFound(last: Exclude<Found, FoundPort>): Promise<void> {
    this.#attempt = 0;
    this.#refuseLoan(last.why);
    this.#state.set(last.kind, last.why);
    const before = JSON.stringify(last);
    const differs = async () => JSON.stringify(await this.#place.find()) !== before;
    await holds(differs, this.#place.watched, this.#limits.rescanMs, this.#turn.signal);
  }

  async #tryPort(found: FoundPort): Promise<void> {
    const { signal } = this.#turn;
    this.#state.set("opening", `${found.node} is there`);
    const startedMs = performance.now();
    await this.#openAndUse(found);
    // After a loan there is nothing to wait for.
    if (signal.aborted || signal !== this.#turn.signal) return;
    if ((await this.#place.find()).kind !== "found") return;
    if (performance.now() - startedMs >= this.#limits.healthyMs) this.#attempt = 0;
    const { retryMsLeast, retryMsMost } = this.#limits;
    await wait(backoffMs(this.#attempt++, retryMsLeast, retryMsMost), signal);
  }

  async #openAndUse(found: FoundPort): Promise<void> {
    try {
      const port = await openLink(this.#options.settings, found.node, {
        counts: this.#counts,
        warn: (what) => this.#state.warn(what),
        isToLend: this.#lending !== undefined,
      });
      this.#opened(port, found);
      await this.#use(port, found).finally(() => this.#close(port));
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      this.#counts.errors += 1;
      this.#refuseLoan(fault.message);
      this.#state.set("failing", fault.message);
    }
  }

  #opened(port: OpenPort, found: FoundPort): void {
    this.#place.remember(found);
    this.#port = port;
    this.#identity = found.identity;
    this.#counts.opens += 1;
    if (found.warning !== undefined) this.#state.warn(found.warning);
  }

  async #close(port: OpenPort): Promise<void> {
    this.#counts.overruns = port.overruns?.() ?? this.#counts.overruns;
    await port.close(DRIVER_ENDED);
    this.#port = undefined;
    this.#identity = undefined;
  }

  async #use(port: OpenPort, found: FoundPort): Promise<void> {
    if (!this.#lending) await this.#drive(port, found);
    await this.#lend(port, found);
  }

  /** Until the port is gone, the driver has had enough, or something else is to be done. */
  async #drive(port: OpenPort, found: FoundPort): Promise<void> {
    const { signal } = this.#turn;
    const turn = () => void this.#endLink(port);
    signal.addEventListener("abort", turn, { once: true });
    if (signal.aborted) turn();
    this.#state.set("up", `${found.node} is open: ${found.identity}`);
    // Told at once; the driver may need longer, to hand on what was read before.
    const told = port.closed.then((why) => this.#tellEnd(why));
    try {
      await this.#options.driver.run(port);
    } catch (fault) {
      // That its link was taken away is no fault of the driver.
      if (!(this.#lending && fault instanceof SluiceError)) throw fault;
    } finally {
      signal.removeEventListener("abort", turn);
      if (!this.#lending) {
        await port.close(DRIVER_ENDED);
        await told;
      }
    }
  }

  #tellEnd(why: string): void {
    if (this.#stopping.signal.aborted || this.mode !== "up") return;
    if (why !== DRIVER_ENDED) this.#counts.disconnects += 1;
    // What is plugged in again is another try, however soon it is there.
    if (why === UNPLUGGED) this.#attempt = 0;
    this.#refuseLoan(why);
    this.#state.set("failing", why);
  }

  /** Has the driver end, with the port closed or, where that is to be lent, open. */
  async #endLink(port: OpenPort): Promise<void> {
    const loan = this.#lending;
    if (!loan || !port.withdraw) {
      await port.close("stopped on request");
      return;
    }
    const late = "its driver is still handing on what was read";
    loan.refuseAfter(this.#limits.handOnMsMax, this.#refusal(late));
    await port.withdraw().catch((fault: unknown) => loan.refuse(fault));
  }

  async #lend(port: OpenPort, found: FoundPort): Promise<void> {
    for (let loan = this.#lending; loan; loan = this.#lending) {
      await port.withdraw?.();
      const signal = this.#newTurn();
      this.#loan = undefined;
      this.#attempt = 0;
      this.#state.set("lent", `${found.node} is lent: ${found.identity}`);
      const over = (fault: string | undefined) => {
        if (!signal.aborted) this.#returned(fault);
      };
      const fault = await Promise.race([loan.run(found.node, over), aborted(signal)]);
      if (fault === undefined) return;
      // A board whose programming failed must not look up; its port stays ours meanwhile.
      await Promise.race([port.closed, aborted(signal)]);
    }
  }

  #returned(fault: string | undefined): void {
    if (fault === undefined) {
      this.#state.set("opening", "it was lent, and is free again");
      return;
    }
    this.#counts.errors += 1;
    this.#state.set("failing", fault);
  }

  /** The loan that waits for the port. */
  get #lending(): Loan | undefined {
    return this.#loan?.isWaiting ? this.#loan : undefined;
  }

  #refuseLoan(why: string): void {
    this.#loan?.refuse(this.#refusal(why));
  }

  #refusal(why: string): SluiceError {
    const where = whereOf(this.#options.settings);
    return new SluiceError("LINK_FAILED", `${where} cannot be lent: ${why}`);
  }
}

async function aborted(signal: AbortSignal): Promise<undefined> {
  if (!signal.aborted) await once(signal, "abort");
  return undefined;
}

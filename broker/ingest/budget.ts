// budget: switches off the user of a gateway whose stream takes more of the landing than it may.
// Path: ingest → [budget] → landing. Touches: the landing that it is given.

import { SluiceError } from "#contract/errors";
import type { Log } from "#runtime/log";

/** How often one gateway's stream is measured. */
const EVERY_MS = 10_000;
/** The append function refuses over the budget: so much over it, somebody has got past it. */
const OVER = 2;

/** Of the landing, what the budget needs. */
export interface Measured {
  usage(gateway: string): Promise<number>;
  isUserOn(gateway: string): Promise<boolean | undefined>;
  switchOff(gateway: string): Promise<void>;
}

export interface BudgetOptions {
  readonly gatewayBytesMax: number;
  readonly nowMs: () => number;
  readonly switchedOff: (gateway: string) => void;
  readonly log: Log;
}

/**
 * A gateway may XADD to its own stream, since the functions run with its rights: one that is hostile
 * fills the landing's memory past the function's budget, and thereby stops all the others.
 */
export class Budget {
  readonly #options: BudgetOptions;
  readonly #lookedAtMs = new Map<string, number>();
  readonly #offWhy = new Map<string, string>();
  #isDeniedTold = false;

  constructor(options: BudgetOptions) {
    this.#options = options;
  }

  /** Why its user is off; undefined while it is not, as far as is known. */
  offWhy(gateway: string): string | undefined {
    return this.#offWhy.get(gateway);
  }

  /** Measures the gateway's stream, if that is due. */
  async look(landing: Measured, gateway: string): Promise<void> {
    const nowMs = this.#options.nowMs();
    const lastMs = this.#lookedAtMs.get(gateway) ?? Number.NEGATIVE_INFINITY;
    if (nowMs - lastMs < EVERY_MS) return;
    this.#lookedAtMs.set(gateway, nowMs);
    try {
      await this.#measure(landing, gateway);
    } catch (fault) {
      if (!(fault instanceof SluiceError && fault.code === "ACCESS_DENIED")) throw fault;
      this.#denied(fault.message);
    }
  }

  /** It is another node's to look after, or gone. */
  forget(gateway: string): void {
    this.#lookedAtMs.delete(gateway);
    this.#offWhy.delete(gateway);
  }

  async #measure(landing: Measured, gateway: string): Promise<void> {
    const bytesMax = OVER * this.#options.gatewayBytesMax;
    const [bytes, isOn] = await Promise.all([landing.usage(gateway), landing.isUserOn(gateway)]);
    const isOver = bytes > bytesMax;
    if (isOver && isOn !== false) await this.#stop(landing, gateway, bytes, isOn);
    // Who is off stays off until a person says otherwise, whatever its stream takes by then.
    if (isOn === false || (isOver && isOn)) {
      this.#offWhy.set(gateway, isOver ? "over its budget: its user is off" : "its user is off");
    } else this.#offWhy.delete(gateway);
  }

  async #stop(
    landing: Measured,
    gateway: string,
    bytes: number,
    isOn: boolean | undefined,
  ): Promise<void> {
    const { log, switchedOff, gatewayBytesMax: bytesMax } = this.#options;
    if (isOn === undefined) {
      log.error({ gateway, bytes, bytesMax }, "over its budget, and no Redis user of its name");
      return;
    }
    await landing.switchOff(gateway);
    switchedOff(gateway);
    const mend = `ACL SETUSER ${gateway} on`;
    log.error({ gateway, bytes, bytesMax, mend }, "over its budget: its user is switched off");
  }

  #denied(why: string): void {
    if (!this.#isDeniedTold) this.#options.log.warn({ why }, "gateways' budgets are not watched");
    this.#isDeniedTold = true;
  }
}

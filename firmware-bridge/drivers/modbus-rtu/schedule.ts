// schedule: which block of which slave is to be read next.
// Path: blocks → [schedule] → modbus-rtu. Touches: nothing.

import { type Block, splitBlock } from "./blocks.ts";

/** A device that refused a read for good is asked ever more seldom, up to this. */
const REST_MS_MAX = 600_000;

/** A block that is read again and again; times in ms of performance.now(). */
export class Poll<Owner> {
  readonly owner: Owner;
  readonly block: Block;
  readonly everyMs: number;
  dueAtMs: number;
  /** How long it rests after the next refusal. */
  #restMs: number;

  constructor(owner: Owner, block: Block, everyMs: number, dueAtMs = 0) {
    this.owner = owner;
    this.block = block;
    this.everyMs = everyMs;
    this.dueAtMs = dueAtMs;
    this.#restMs = 2 * everyMs;
  }

  /**
   * It is read now: due again at the next beat of its period, which does not move, however late it
   * was. Gives the beats that have passed unread.
   */
  take(nowMs: number): number {
    const passed = Math.max(0, Math.floor((nowMs - this.dueAtMs) / this.everyMs));
    this.dueAtMs += (passed + 1) * this.everyMs;
    return passed;
  }

  /** It was refused. */
  rest(nowMs: number): void {
    const longestMs = Math.max(REST_MS_MAX, this.everyMs);
    while (this.dueAtMs < nowMs + this.#restMs) this.dueAtMs += this.everyMs;
    this.#restMs = Math.min(longestMs, 2 * this.#restMs);
  }

  worked(): void {
    this.#restMs = 2 * this.everyMs;
  }
}

export type Next<Owner> = { readonly poll: Poll<Owner> } | { readonly atMs: number };

export class Schedule<Owner> {
  #polls: Poll<Owner>[];

  constructor(polls: readonly Poll<Owner>[]) {
    this.#polls = [...polls];
  }

  /** All are due now. */
  restart(nowMs: number): void {
    for (const poll of this.#polls) poll.dueAtMs = nowMs;
  }

  /** What is due the longest of what may be asked; or when there will be something. */
  next(nowMs: number, heldUntilMs: (owner: Owner) => number): Next<Owner> {
    let next: Poll<Owner> | undefined;
    let atMs = Number.POSITIVE_INFINITY;
    for (const poll of this.#polls) {
      const readyAtMs = Math.max(poll.dueAtMs, heldUntilMs(poll.owner));
      if (readyAtMs > nowMs) atMs = Math.min(atMs, readyAtMs);
      else if (!next || poll.dueAtMs < next.dueAtMs) next = poll;
    }
    return next ? { poll: next } : { atMs };
  }

  /** From now on, each register of it by itself. */
  split(poll: Poll<Owner>, nowMs: number): void {
    const { owner, everyMs } = poll;
    const parts = splitBlock(poll.block).map((part) => new Poll(owner, part, everyMs, nowMs));
    this.#polls = this.#polls.flatMap((it) => (it === poll ? parts : [it]));
  }
}

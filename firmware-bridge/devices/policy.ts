// policy: which messages of a device are told, and when: throttle, dead band, heartbeat.
// Path: device → [policy] → outgoing. Touches: nothing; the time is passed in.

import type { Message, Policy } from "../driver.ts";

const NUMBER_BYTES_MAX = 32;
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?$/;

interface ChannelState {
  readonly policy: Policy;
  told: Message | undefined;
  toldNumber: number | undefined;
  toldAtMs: number;
  /** The newest of those that came too early. */
  held: Message | undefined;
}

export interface PoliciesOptions {
  readonly policyOf: (channel: string) => Policy;
  /** Of channels that have a policy; over it the one that has been known longest is forgotten. */
  readonly channelsMax: number;
}

/** Times are ms of one clock that never goes back. */
export class Policies {
  readonly #options: PoliciesOptions;
  readonly #states = new Map<string, ChannelState>();
  #dropped = 0;

  constructor(options: PoliciesOptions) {
    this.#options = options;
  }

  /** Messages that were not told. */
  get dropped(): number {
    return this.#dropped;
  }

  /** What is to be told now that this message has come: itself, or nothing, or what made room too. */
  take(message: Message, nowMs: number): readonly Message[] {
    const known = this.#states.get(message.channel);
    const policy = known?.policy ?? this.#options.policyOf(message.channel);
    if (!known && !isActive(policy)) return [message];
    const made = known ? [] : this.#forgetOldest(nowMs);
    const state = known ?? this.#begin(message.channel, policy);
    if (state.told && nowMs - state.toldAtMs < (policy.throttleMs ?? 0)) {
      if (state.held) this.#dropped += 1;
      state.held = message;
      return made;
    }
    // What was held is older than this one, which comes at the time at which it would be told.
    if (state.held) this.#dropped += 1;
    state.held = undefined;
    return this.#pass(state, message, nowMs) ? [...made, message] : made;
  }

  /** What is to be told by now, oldest first; `repeats`: what was told last as well. */
  due(nowMs: number, repeats: boolean): Message[] {
    const due: Message[] = [];
    for (const state of this.#states.values()) {
      const { held, told, policy, toldAtMs } = state;
      if (held && nowMs >= toldAtMs + (policy.throttleMs ?? 0)) this.#release(state, nowMs, due);
      else if (repeats && told && policy.heartbeatMs && nowMs >= toldAtMs + policy.heartbeatMs) {
        state.toldAtMs = nowMs;
        due.push(told);
      }
    }
    return inOrder(due);
  }

  /** When `due` has something next; undefined: never, as far as is known. */
  nextMs(repeats: boolean): number | undefined {
    let next = Number.POSITIVE_INFINITY;
    for (const { held, told, policy, toldAtMs } of this.#states.values()) {
      if (held) next = Math.min(next, toldAtMs + (policy.throttleMs ?? 0));
      if (repeats && told && policy.heartbeatMs)
        next = Math.min(next, toldAtMs + policy.heartbeatMs);
    }
    return Number.isFinite(next) ? next : undefined;
  }

  /** What waits for its time is told now: the device is leaving. */
  flush(nowMs: number): Message[] {
    const due: Message[] = [];
    for (const state of this.#states.values()) if (state.held) this.#release(state, nowMs, due);
    return inOrder(due);
  }

  /** After the driver or somebody else has changed what the policies are. */
  reset(nowMs: number): Message[] {
    const due = this.flush(nowMs);
    this.#states.clear();
    return due;
  }

  #release(state: ChannelState, nowMs: number, due: Message[]): void {
    const { held } = state;
    state.held = undefined;
    if (held && this.#pass(state, held, nowMs)) due.push(held);
  }

  /** Is it far enough from what was told last? Then it is what was told last. */
  #pass(state: ChannelState, message: Message, nowMs: number): boolean {
    // 0: each change, and a counter of 64 bits has more of them than a number here can tell.
    const number = state.policy.deadBand ? numberOf(message.payload) : undefined;
    if (isWithin(state, message, number)) {
      this.#dropped += 1;
      return false;
    }
    state.told = message;
    state.toldNumber = number;
    state.toldAtMs = nowMs;
    return true;
  }

  #begin(channel: string, policy: Policy): ChannelState {
    const state = { policy, told: undefined, toldNumber: undefined, toldAtMs: 0, held: undefined };
    this.#states.set(channel, state);
    return state;
  }

  #forgetOldest(nowMs: number): Message[] {
    const [oldest] = this.#states;
    if (!oldest || this.#states.size < this.#options.channelsMax) return [];
    const due: Message[] = [];
    this.#release(oldest[1], nowMs, due);
    this.#states.delete(oldest[0]);
    return due;
  }
}

/** Does it need a state? What is only retained does not. */
export function isActive({ throttleMs, deadBand, heartbeatMs }: Policy): boolean {
  return (throttleMs ?? 0) > 0 || deadBand !== undefined || (heartbeatMs ?? 0) > 0;
}

/** Numbers by their distance, all else byte for byte. */
function isWithin(state: ChannelState, message: Message, number: number | undefined): boolean {
  const { told, toldNumber, policy } = state;
  if (policy.deadBand === undefined || !told) return false;
  if (number !== undefined && toldNumber !== undefined) {
    return Math.abs(number - toldNumber) <= policy.deadBand;
  }
  return Buffer.compare(told.payload, message.payload) === 0;
}

function numberOf(payload: Uint8Array): number | undefined {
  if (payload.length > NUMBER_BYTES_MAX) return undefined;
  const text = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
    .toString("latin1")
    .trim();
  return NUMBER.test(text) ? Number(text) : undefined;
}

function inOrder(messages: Message[]): Message[] {
  return messages.sort((a, b) => (a.receivedAtMs ?? 0) - (b.receivedAtMs ?? 0));
}

// telemetry: what a device's messages become on their way out: topic, retain, time, policy.
// Path: device → [telemetry] → outgoing. Touches: the clock, for policies alone.

import { RECEIVED_PROPERTY } from "#contract/properties";
import { TIMER_MS_MAX } from "#runtime/clock";
import type { Message, Policy } from "../driver.ts";
import type { Publication, PublishProperties } from "./outgoing.ts";
import { isActive, Policies } from "./policy.ts";

/** Channels that are remembered; noise may make more of them. */
const CHANNELS_MAX = 1_000;
/** Before what is due is looked at again, when there was no room for it. */
const NO_ROOM_MS = 250;

interface Way {
  readonly topic: string;
  readonly retain: boolean;
  readonly isActive: boolean;
}

export interface TelemetryOptions {
  /** As `serial/<device>/`. */
  readonly base: string;
  /** Does each message say when it was received? */
  readonly tellsTime: boolean;
  readonly policyOf: (channel: string) => Policy;
  /** Of a channel that was not heard of before, or not for long. */
  readonly onChannel: (channel: string) => void;
  readonly publish: (publication: Publication) => Promise<void> | undefined;
  /** Would a message have to wait for others? Then what timers bring about waits where it is. */
  readonly hasRoom: () => boolean;
  /** A clock that never goes back. */
  readonly nowMs?: () => number;
}

/** The policies' timer is one for all channels, and there is none without policies. */
export class Telemetry {
  readonly #options: TelemetryOptions;
  readonly #policies: Policies;
  readonly #nowMs: () => number;
  readonly #ways = new Map<string, Way>();
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #isRepeating = false;
  #lastMs = Number.NaN;
  #lastTime: PublishProperties | undefined;

  constructor(options: TelemetryOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#policies = new Policies({ policyOf: options.policyOf, channelsMax: CHANNELS_MAX });
  }

  /** Messages that a policy kept back. */
  get dropped(): number {
    return this.#policies.dropped;
  }

  take(message: Message): Promise<void> | undefined {
    const way = this.#ways.get(message.channel) ?? this.#newWay(message.channel);
    if (!way.isActive) return this.#publish(message, way);
    const { channel, payload, receivedAtMs = Date.now() } = message;
    const told = this.#policies.take({ channel, payload, receivedAtMs }, this.#nowMs());
    const room = this.#publishAll(told);
    this.#schedule();
    return room;
  }

  /** Values are told again after their heartbeat only while the device is there. */
  repeat(isRepeating: boolean): void {
    if (isRepeating === this.#isRepeating) return;
    this.#isRepeating = isRepeating;
    this.#schedule();
  }

  /** What a throttle holds back is told now. */
  flush(): void {
    void this.#publishAll(this.#policies.flush(this.#nowMs()));
  }

  /** The policies are others than before. */
  reset(): void {
    void this.#publishAll(this.#policies.reset(this.#nowMs()));
    this.#ways.clear();
  }

  stop(): void {
    this.flush();
    clearTimeout(this.#timer);
    this.#isRepeating = false;
  }

  #newWay(channel: string): Way {
    this.#options.onChannel(channel);
    const policy = this.#options.policyOf(channel);
    const topic = this.#options.base + channel;
    const way = { topic, retain: policy.retain === true, isActive: isActive(policy) };
    if (this.#ways.size < CHANNELS_MAX) this.#ways.set(channel, way);
    return way;
  }

  #publishAll(messages: readonly Message[]): Promise<void> | undefined {
    let room: Promise<void> | undefined;
    for (const message of messages) {
      room = this.#publish(
        message,
        this.#ways.get(message.channel) ?? this.#newWay(message.channel),
      );
    }
    return room;
  }

  #publish({ payload, receivedAtMs }: Message, { topic, retain }: Way): Promise<void> | undefined {
    const properties = this.#options.tellsTime ? this.#time(receivedAtMs ?? Date.now()) : undefined;
    return this.#options.publish({ topic, payload, retain, properties });
  }

  /** What came in one read has one time. */
  #time(ms: number): PublishProperties {
    if (ms === this.#lastMs && this.#lastTime) return this.#lastTime;
    this.#lastMs = ms;
    this.#lastTime = { userProperties: { [RECEIVED_PROPERTY]: new Date(ms).toISOString() } };
    return this.#lastTime;
  }

  #schedule(): void {
    const nextMs = this.#policies.nextMs(this.#isRepeating);
    if (nextMs !== undefined && nextMs < this.#timerAtMs) this.#tickAt(nextMs);
  }

  #tickAt(ms: number): void {
    clearTimeout(this.#timer);
    this.#timerAtMs = ms;
    const waitMs = Math.max(1, Math.ceil(ms - this.#nowMs()));
    this.#timer = setTimeout(() => this.#tick(), Math.min(waitMs, TIMER_MS_MAX));
  }

  #tick(): void {
    const nowMs = this.#nowMs();
    if (!this.#options.hasRoom()) {
      this.#tickAt(nowMs + NO_ROOM_MS);
      return;
    }
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    void this.#publishAll(this.#policies.due(nowMs, this.#isRepeating));
    this.#schedule();
  }
}

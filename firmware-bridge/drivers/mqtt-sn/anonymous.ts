// anonymous: hands on what is published without a connection, QoS −1 (MQTT-SN 1.2, §6.8).
// Path: gateway → [anonymous] → broker-session. Touches: the network, by broker-session.ts; the clock.
//
// The session is the gateway's own. QoS −1 carries no promise and has no answer, so it goes to the
// broker with QoS 0; what comes while the broker is away is dropped and counted.

import type { BrokerSession } from "./broker-session.ts";
import type { Publish } from "./packets.ts";
import { isTopicName, Topics } from "./topics.ts";

const LIMITS = { retryMsLeast: 1_000, waitingMax: 32 } as const;

export interface AnonymousOptions {
  readonly predefined: ReadonlyMap<number, string>;
  readonly open: () => BrokerSession;
  readonly onFault: (reason: string) => void;
}

export class Anonymous {
  readonly #options: AnonymousOptions;
  readonly #topics: Topics;
  readonly #waiting: Publish[] = [];
  #session: BrokerSession | undefined;
  #openedAtMs = Number.NEGATIVE_INFINITY;
  #isOpening = false;
  #isEnded = false;

  constructor(options: AnonymousOptions) {
    this.#options = options;
    this.#topics = new Topics(options.predefined, 1);
  }

  publish(packet: Publish): void {
    if (this.#waiting.length >= LIMITS.waitingMax) {
      this.#options.onFault("a PUBLISH with QoS -1 is dropped: too many wait for the broker");
      return;
    }
    this.#waiting.push(packet);
    if (this.#session?.isOpen) this.#handOn(this.#session);
    else if (!this.#isOpening) void this.#open();
  }

  /** Connects, if it is not there yet. */
  async isAtTheBroker(): Promise<boolean> {
    if (!this.#session?.isOpen && !this.#isOpening) await this.#open();
    return this.#session?.isOpen ?? false;
  }

  end(): void {
    this.#isEnded = true;
    this.#session?.cut();
  }

  async #open(): Promise<void> {
    if (performance.now() - this.#openedAtMs < LIMITS.retryMsLeast) return this.#dropAll();
    this.#openedAtMs = performance.now();
    this.#isOpening = true;
    const session = this.#options.open();
    this.#session = session;
    const { reasonCode } = await session.connect();
    this.#isOpening = false;
    if (this.#isEnded) session.cut();
    else if (reasonCode === 0) this.#handOn(session);
    else this.#dropAll();
  }

  #dropAll(): void {
    for (const _packet of this.#waiting.splice(0)) {
      this.#options.onFault("a PUBLISH with QoS -1 is dropped: the broker is away");
    }
  }

  #handOn(session: BrokerSession): void {
    for (const { topic, retain, data } of this.#waiting.splice(0)) {
      const name = topic.kind === "normal" ? undefined : this.#topics.nameOf(topic);
      const payload = Buffer.from(data);
      if (name === undefined || !isTopicName(name)) {
        this.#options.onFault("a PUBLISH with QoS -1 has a topic id that is not known");
      } else if (
        !session.fits(Buffer.byteLength(name) + payload.length) ||
        !session.send({ cmd: "publish", topic: name, payload, qos: 0, retain, dup: false })
      ) {
        this.#options.onFault("a PUBLISH with QoS -1 is dropped: the broker does not take it");
      }
    }
  }
}

// incoming: what one connected client publishes: checked, taken into custody, acknowledged in order.
// Path: connection → [incoming] → access → custody → routing. Touches: nothing.

import { reasonOf, SluiceError } from "#contract/errors";
import type { Message } from "#contract/message";
import { steadyNowMs } from "#runtime/clock";
import type { Settings } from "#runtime/settings-schema";
import type { Order } from "./routing.ts";
import type { AckPacket, ProtocolLevel, PublishPacket } from "./wire/packets.ts";
import { PACKET } from "./wire/packets.ts";
import { REASON } from "./wire/reason-codes.ts";

/** A PUBLISH that is refused: in MQTT 5.0's terms, and in words. */
export interface Refusal {
  readonly reasonCode: number;
  readonly why: string;
}

export interface IncomingOptions {
  readonly level: ProtocolLevel;
  readonly clientId: string;
  /** Is the session kept, so that its QoS 2 ids must be, too? */
  readonly isKept: () => boolean;
  /** Packet ids of QoS 2 messages that are in custody and not yet released by the client. */
  readonly unreleased: Set<number>;
  readonly limits: Settings["limits"];
  /** Why the client may not publish this; undefined when it may. */
  readonly refusalOf: (topic: string, retain: boolean) => Refusal | undefined;
  /** Custody and routing, in the order of the calls; undefined: done already. */
  readonly publish: (
    message: Message,
    order: Order,
    incoming: { clientId: string; packetId: number } | undefined,
  ) => Promise<void> | undefined;
  /** PUBREL came; resolves when it is durable. */
  readonly release: (packetId: number) => Promise<void>;
  readonly acknowledge: (
    type: AckPacket["type"],
    packetId: number,
    reasonCode: number,
    why?: string,
  ) => void;
  readonly end: (reasonCode: number, why: string) => void;
  /** A client of 3.x cannot be told how much it may have under way: it is not read for a while. */
  readonly hold: (isFull: boolean) => void;
  readonly count: IncomingCounts;
}

export interface IncomingCounts {
  /** By QoS. */
  readonly received: readonly { add(by?: number): void }[];
  /** By reason code of MQTT 5.0. */
  refused(reasonCode: number): void;
}

const RATE_MS = 1_000;

export class Incoming {
  readonly #options: IncomingOptions;
  readonly #aliases = new Map<number, string>();
  /** QoS 2 ids whose custody is under way. */
  readonly #pending = new Set<number>();
  /** QoS 2 ids of this connection that the client has not released. */
  readonly #unreleasedHere = new Set<number>();
  readonly #order: Order = { last: undefined };
  #underWay = 0;
  #isHeld = false;
  #lastAcknowledged: Promise<void> | undefined;
  #inSecond = 0;
  #secondSinceMs = 0;

  constructor(options: IncomingOptions) {
    this.#options = options;
  }

  /** Settles when all that was published before has been routed or refused. */
  get settled(): Promise<void> | undefined {
    return this.#order.last;
  }

  publish(packet: PublishPacket): void {
    const { count, level } = this.#options;
    count.received[packet.qos]?.add();
    const topic = packet.topicAlias === undefined ? packet.topic : this.#resolveAlias(packet);
    if (topic === undefined) return;
    if (packet.qos > 0 && !this.#mayStart(packet)) return;
    const refusal = this.#rateRefusal() ?? this.#options.refusalOf(topic, packet.retain);
    if (refusal) this.#settle(packet, Promise.reject(refusal));
    else if (packet.qos === 2 && this.#isRepeat(packet)) return;
    else this.#take(packet, topic, level);
  }

  /** PUBREL: the client will not send that message again [MQTT-4.3.3-2]. */
  pubrel(packetId: number): void {
    const { unreleased, release, acknowledge, end } = this.#options;
    this.#unreleasedHere.delete(packetId);
    if (!unreleased.has(packetId)) {
      acknowledge(PACKET.pubcomp, packetId, REASON.packetIdentifierNotFound);
      return;
    }
    release(packetId).then(
      () => {
        unreleased.delete(packetId);
        acknowledge(PACKET.pubcomp, packetId, REASON.success);
      },
      // The client repeats it at its next connection.
      (fault) => end(REASON.serverBusy, reasonOf(fault)),
    );
  }

  #take(packet: PublishPacket, topic: string, level: ProtocolLevel): void {
    const { clientId, isKept, publish } = this.#options;
    const message = messageOf(packet, topic, clientId, level);
    const { packetId } = packet;
    const incoming = packet.qos === 2 && isKept() ? { clientId, packetId } : undefined;
    if (packet.qos === 2) this.#pending.add(packetId);
    try {
      this.#settle(packet, publish(message, this.#order, incoming));
    } catch (fault) {
      this.#settle(packet, Promise.reject(fault));
    }
  }

  /** A Topic Alias of this connection (MQTT 5.0 §3.3.2.3.4); undefined: refused. */
  #resolveAlias({ topic, topicAlias = 0 }: PublishPacket): string | undefined {
    const { limits, end } = this.#options;
    if (topicAlias > limits.topic_aliases_max) {
      end(
        REASON.topicAliasInvalid,
        `topic alias ${topicAlias} is over ${limits.topic_aliases_max}`,
      );
      return undefined;
    }
    if (topic !== "") {
      this.#aliases.set(topicAlias, topic);
      return topic;
    }
    const known = this.#aliases.get(topicAlias);
    if (known === undefined) end(REASON.protocolError, `topic alias ${topicAlias} names no topic`);
    return known;
  }

  /** Receive Maximum, ours; it counts what this connection began (MQTT 5.0 §4.9). */
  #mayStart(packet: PublishPacket): boolean {
    const { level, limits, end, hold } = this.#options;
    if (packet.qos === 2 && this.#knows(packet.packetId)) return true;
    const underWay = this.#underWay + this.#unreleasedHere.size;
    if (underWay < limits.receive_messages_max) return true;
    if (level === 5) {
      end(
        REASON.receiveMaximumExceeded,
        `more than ${limits.receive_messages_max} messages under way`,
      );
      return false;
    }
    if (!this.#isHeld && this.#underWay > 0) {
      this.#isHeld = true;
      hold(true);
    }
    return true;
  }

  #rateRefusal(): Refusal | undefined {
    // The clock is asked at the beginning of a second and at its limit, not for each message.
    if (this.#inSecond === 0) this.#secondSinceMs = performance.now();
    this.#inSecond += 1;
    const { publishes_per_second_max } = this.#options.limits;
    if (this.#inSecond <= publishes_per_second_max) return undefined;
    const nowMs = performance.now();
    if (nowMs - this.#secondSinceMs >= RATE_MS) {
      this.#secondSinceMs = nowMs;
      this.#inSecond = 1;
      return undefined;
    }
    const why = `more than ${publishes_per_second_max} messages a second`;
    return { reasonCode: REASON.messageRateTooHigh, why };
  }

  #knows(packetId: number): boolean {
    return this.#pending.has(packetId) || this.#options.unreleased.has(packetId);
  }

  /** In our custody already: PUBREC says so again; on its way there: PUBREC comes by itself. */
  #isRepeat({ packetId }: PublishPacket): boolean {
    if (!this.#knows(packetId)) return false;
    if (!this.#pending.has(packetId)) {
      this.#options.acknowledge(PACKET.pubrec, packetId, REASON.success);
    }
    return true;
  }

  /** Acknowledges in the order of the PUBLISH packets [MQTT-4.6.0-2, 4.6.0-3]. */
  #settle(packet: PublishPacket, outcome: Promise<void> | undefined): void {
    if (outcome === undefined && this.#lastAcknowledged === undefined) {
      this.#accepted(packet);
      return;
    }
    this.#underWay += 1;
    const before = this.#lastAcknowledged;
    const settled: Promise<void> = this.#settleLater(packet, outcome, before).then(() => {
      this.#underWay -= 1;
      if (this.#lastAcknowledged === settled) this.#lastAcknowledged = undefined;
      if (!this.#isHeld || this.#underWay > this.#options.limits.receive_messages_max / 2) return;
      this.#isHeld = false;
      this.#options.hold(false);
    });
    this.#lastAcknowledged = settled;
  }

  async #settleLater(
    packet: PublishPacket,
    outcome: Promise<void> | undefined,
    before: Promise<void> | undefined,
  ): Promise<void> {
    const fault: unknown = await outcome?.then(
      () => undefined,
      (cause) => cause ?? new Error("refused"),
    );
    await before;
    if (fault === undefined) this.#accepted(packet);
    else this.#refused(packet, isRefusal(fault) ? fault : refusalFor(fault));
  }

  #accepted({ qos, packetId }: PublishPacket): void {
    const { acknowledge, unreleased } = this.#options;
    if (qos === 1) acknowledge(PACKET.puback, packetId, REASON.success);
    if (qos !== 2) return;
    this.#pending.delete(packetId);
    unreleased.add(packetId);
    this.#unreleasedHere.add(packetId);
    acknowledge(PACKET.pubrec, packetId, REASON.success);
  }

  /** MQTT 5.0 says it in the acknowledgement; where there is none that can, the connection ends. */
  #refused({ qos, packetId }: PublishPacket, { reasonCode, why }: Refusal): void {
    const { level, acknowledge, end, count } = this.#options;
    count.refused(reasonCode);
    if (qos === 2) this.#pending.delete(packetId);
    const isFlood = reasonCode === REASON.messageRateTooHigh;
    if (level < 5 || qos === 0 || isFlood) end(reasonCode, why);
    else acknowledge(qos === 1 ? PACKET.puback : PACKET.pubrec, packetId, reasonCode, why);
  }
}

function messageOf(
  { payload, qos, retain, expirySeconds, properties }: PublishPacket,
  topic: string,
  publisher: string,
  level: ProtocolLevel,
): Message {
  const takenAtMs = Math.floor(steadyNowMs());
  if (level < 5) return { topic, payload, qos, retain, takenAtMs, publisher };
  return {
    topic,
    payload,
    qos,
    retain,
    takenAtMs,
    publisher,
    ...(expirySeconds === undefined ? {} : { expiresAtMs: takenAtMs + expirySeconds * 1_000 }),
    ...(properties === undefined ? {} : { properties }),
  };
}

function isRefusal(fault: unknown): fault is Refusal {
  return typeof fault === "object" && fault !== null && "reasonCode" in fault;
}

/** What the client hears of a failure of ours. */
function refusalFor(fault: unknown): Refusal {
  const why = reasonOf(fault);
  if (!(fault instanceof SluiceError)) return { reasonCode: REASON.unspecified, why };
  switch (fault.code) {
    case "ACCESS_DENIED":
      return { reasonCode: REASON.notAuthorized, why };
    case "TOPIC_INVALID":
      return { reasonCode: REASON.topicNameInvalid, why };
    case "OUTBOX_FULL":
    case "RETAINED_FULL":
      return { reasonCode: REASON.quotaExceeded, why };
    default:
      return { reasonCode: REASON.implementationSpecific, why };
  }
}

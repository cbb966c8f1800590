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

/** What a connected client is to its own incoming messages. */
export interface Publisher {
  readonly level: ProtocolLevel;
  readonly clientId: string;
  /** Is the session kept, so that its QoS 2 ids must be, too? */
  readonly isKept: boolean;
  /** Packet ids of QoS 2 messages that are in custody and not yet released by the client. */
  readonly unreleased: Set<number>;
  /** Why the client may not publish this; undefined when it may. */
  publishRefusal(topic: string, retain: boolean): Refusal | undefined;
  /** Custody and routing, in the order of the calls; undefined: done already. */
  take(
    message: Message,
    order: Order,
    incoming: { clientId: string; packetId: number } | undefined,
  ): Promise<void> | undefined;
  /** PUBREL came; resolves when it is durable. */
  release(packetId: number): Promise<void>;
  acknowledge(type: AckPacket["type"], packetId: number, reasonCode: number, why?: string): void;
  end(reasonCode: number, why: string): void;
  /** A client of 3.x cannot be told how much it may have under way: it is not read for a while. */
  hold(isFull: boolean): void;
}

export interface IncomingCounts {
  /** By QoS. */
  readonly received: readonly { add(by?: number): void }[];
  /** By reason code of MQTT 5.0. */
  refused(reasonCode: number): void;
}

const RATE_MS = 1_000;
/** What the topics behind one connection's aliases may have together. */
const ALIAS_BYTES_MAX = 16_384;

export class Incoming {
  readonly #publisher: Publisher;
  readonly #limits: Settings["limits"];
  readonly #count: IncomingCounts;
  /** Tables that most clients never need are made when they do. */
  #aliases: Map<number, string> | undefined;
  #aliasBytes = 0;
  /** QoS 2 ids that this connection began and the client has not released: is one in custody? */
  #begun: Map<number, boolean> | undefined;
  readonly #order: Order = { last: undefined };
  /** Publications whose custody is under way, and those of QoS 1 among them. */
  #underWay = 0;
  #underWayQos1 = 0;
  #isHeld = false;
  #lastAcknowledged: Promise<void> | undefined;
  #inSecond = 0;
  #secondSinceMs = 0;

  constructor(publisher: Publisher, limits: Settings["limits"], count: IncomingCounts) {
    this.#publisher = publisher;
    this.#limits = limits;
    this.#count = count;
  }

  /** Settles when all that was published before has been routed or refused. */
  get settled(): Promise<void> | undefined {
    return this.#order.last;
  }

  publish(packet: PublishPacket): void {
    this.#count.received[packet.qos]?.add();
    const topic = packet.topicAlias === undefined ? packet.topic : this.#resolveAlias(packet);
    if (topic === undefined) return;
    if (packet.qos > 0 && !this.#mayStart(packet)) return;
    const refusal = this.#rateRefusal() ?? this.#publisher.publishRefusal(topic, packet.retain);
    if (refusal) this.#settle(packet, Promise.reject(refusal));
    else if (packet.qos === 2 && this.#isRepeat(packet)) return;
    else this.#take(packet, topic);
  }

  /** PUBREL: the client will not send that message again [MQTT-4.3.3-2]. */
  pubrel(packetId: number): void {
    const publisher = this.#publisher;
    this.#begun?.delete(packetId);
    if (!publisher.unreleased.has(packetId)) {
      publisher.acknowledge(PACKET.pubcomp, packetId, REASON.packetIdentifierNotFound);
      return;
    }
    publisher.release(packetId).then(
      () => {
        publisher.unreleased.delete(packetId);
        publisher.acknowledge(PACKET.pubcomp, packetId, REASON.success);
      },
      // The client repeats it at its next connection.
      (fault) => publisher.end(REASON.serverBusy, reasonOf(fault)),
    );
  }

  #take(packet: PublishPacket, topic: string): void {
    const { clientId, isKept, level } = this.#publisher;
    const message = messageOf(packet, topic, clientId, level);
    const { packetId } = packet;
    const incoming = packet.qos === 2 && isKept ? { clientId, packetId } : undefined;
    if (packet.qos === 2) this.#begin(packetId, false);
    try {
      this.#settle(packet, this.#publisher.take(message, this.#order, incoming));
    } catch (fault) {
      this.#settle(packet, Promise.reject(fault));
    }
  }

  #begin(packetId: number, isInCustody: boolean): void {
    this.#begun ??= new Map();
    this.#begun.set(packetId, isInCustody);
  }

  /** A Topic Alias of this connection (MQTT 5.0 §3.3.2.3.4); undefined: refused. */
  #resolveAlias({ topic, topicAlias = 0 }: PublishPacket): string | undefined {
    const most = this.#limits.topic_aliases_max;
    if (topicAlias > most) {
      this.#publisher.end(REASON.topicAliasInvalid, `topic alias ${topicAlias} is over ${most}`);
      return undefined;
    }
    if (topic !== "") return this.#setAlias(topicAlias, topic);
    const known = this.#aliases?.get(topicAlias);
    const why = `topic alias ${topicAlias} names no topic`;
    if (known === undefined) this.#publisher.end(REASON.protocolError, why);
    return known;
  }

  #setAlias(topicAlias: number, topic: string): string | undefined {
    this.#aliases ??= new Map();
    this.#aliasBytes += topic.length - (this.#aliases.get(topicAlias)?.length ?? 0);
    this.#aliases.set(topicAlias, topic);
    if (this.#aliasBytes <= ALIAS_BYTES_MAX) return topic;
    this.#publisher.end(REASON.quotaExceeded, "its topic aliases stand for too long topics");
    return undefined;
  }

  /** Receive Maximum, ours; it counts what this connection began (MQTT 5.0 §4.9). */
  #mayStart(packet: PublishPacket): boolean {
    const publisher = this.#publisher;
    const most = this.#limits.receive_messages_max;
    if (packet.qos === 2 && this.#knows(packet.packetId)) return true;
    if (this.#underWayQos1 + (this.#begun?.size ?? 0) < most) return true;
    if (publisher.level === 5) {
      publisher.end(REASON.receiveMaximumExceeded, `more than ${most} messages under way`);
      return false;
    }
    if (!this.#isHeld && this.#underWay > 0) {
      this.#isHeld = true;
      publisher.hold(true);
    }
    return true;
  }

  #rateRefusal(): Refusal | undefined {
    // The clock is asked at the beginning of a second and at its limit, not for each message.
    if (this.#inSecond === 0) this.#secondSinceMs = performance.now();
    this.#inSecond += 1;
    const { publishes_per_second_max } = this.#limits;
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
    return this.#begun?.has(packetId) === true || this.#publisher.unreleased.has(packetId);
  }

  /** In our custody already: PUBREC says so again; on its way there: PUBREC comes by itself. */
  #isRepeat({ packetId }: PublishPacket): boolean {
    if (!this.#knows(packetId)) return false;
    if (this.#begun?.get(packetId) !== false) {
      this.#publisher.acknowledge(PACKET.pubrec, packetId, REASON.success);
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
    if (packet.qos === 1) this.#underWayQos1 += 1;
    const before = this.#lastAcknowledged;
    const settled: Promise<void> = this.#settleLater(packet, outcome, before).then(() => {
      this.#underWay -= 1;
      if (packet.qos === 1) this.#underWayQos1 -= 1;
      if (this.#lastAcknowledged === settled) this.#lastAcknowledged = undefined;
      if (!this.#isHeld || this.#underWay > this.#limits.receive_messages_max / 2) return;
      this.#isHeld = false;
      this.#publisher.hold(false);
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
    const publisher = this.#publisher;
    if (qos === 1) publisher.acknowledge(PACKET.puback, packetId, REASON.success);
    if (qos !== 2) return;
    this.#begin(packetId, true);
    publisher.unreleased.add(packetId);
    publisher.acknowledge(PACKET.pubrec, packetId, REASON.success);
  }

  /** MQTT 5.0 says it in the acknowledgement; where there is none that can, the connection ends. */
  #refused({ qos, packetId }: PublishPacket, { reasonCode, why }: Refusal): void {
    const publisher = this.#publisher;
    this.#count.refused(reasonCode);
    if (qos === 2) this.#begun?.delete(packetId);
    const isFlood = reasonCode === REASON.messageRateTooHigh;
    if (publisher.level < 5 || qos === 0 || isFlood) publisher.end(reasonCode, why);
    else
      publisher.acknowledge(qos === 1 ? PACKET.puback : PACKET.pubrec, packetId, reasonCode, why);
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

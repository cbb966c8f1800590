// receiver: a client at the other end of Outgoing, and the wire to it; it checks all that it gets.
// Path: tests of outgoing → [receiver]. Touches: nothing.

import assert from "node:assert/strict";
import type { SessionQueue } from "#contract/session";
import type { Settings } from "#runtime/settings-schema";
import { Outgoing, type Wire } from "../../../broker/mqtt/outgoing.ts";
import type { PublishBytes } from "../../../broker/mqtt/publication.ts";
import type { Entry } from "../../../broker/mqtt/sources.ts";
import { type Packet, readPacket } from "../../conformance/support/wire-read.ts";
import { LIMITS } from "./open.ts";

export interface ReceiverOptions {
  readonly queue?: SessionQueue;
  readonly receiveMaximum?: number;
  readonly maximumPacketBytes?: number;
  readonly topicAliasMaximum?: number;
  readonly limits?: Partial<Settings["limits"]>;
  readonly mayReceive?: (topic: string) => boolean;
}

/** sent → received (PUBREC) → released (PUBREL); at QoS 1 it is only ever sent. */
interface Exchange {
  readonly qos: number;
  mode: "sent" | "received" | "released";
}

/** One connection as it is written to; its end stays known. */
class TestWire implements Wire {
  readonly level = 5;
  readonly receiveMaximum: number;
  readonly maximumPacketBytes: number;
  readonly topicAliasMaximum: number;
  isBlocked = false;
  isOpen = true;
  unsentBytes = 0;
  waitingPackets = 0;
  readonly #receiver: Receiver;

  constructor(receiver: Receiver, options: ReceiverOptions) {
    this.#receiver = receiver;
    this.receiveMaximum = options.receiveMaximum ?? 65_535;
    this.maximumPacketBytes = options.maximumPacketBytes ?? 268_435_460;
    this.topicAliasMaximum = options.topicAliasMaximum ?? 0;
  }

  publish({ bytes, packetIdAt }: PublishBytes, packetId: number, dup: boolean): void {
    if (!this.isOpen) return;
    const own = Buffer.from(bytes);
    if (packetIdAt >= 0) own.writeUInt16BE(packetId, packetIdAt);
    if (dup) own[0] = (own[0] ?? 0) | 0x08;
    const packet = readPacket(own, 5);
    assert(packet);
    this.#receiver.published(packet);
  }

  pubrel(packetId: number, reasonCode: number): void {
    if (this.isOpen) this.#receiver.pubrel(packetId, reasonCode);
  }

  end(reasonCode: number, why: string): void {
    this.isOpen = false;
    this.#receiver.endedBy(reasonCode, why);
  }
}

export class Receiver {
  /** First arrivals, in order: QoS 0, QoS 1 and QoS 2. */
  readonly received: string[] = [];
  /** All PUBLISH packets of all connections. */
  readonly packets: Packet[] = [];
  readonly pubrels: { packetId: number; reasonCode: number }[] = [];
  readonly dropped: string[] = [];
  crowded = 0;
  readonly ended: { reasonCode: number; why: string }[] = [];
  /** What its connection had not been rid of when the broker ended it. */
  left: readonly Entry[] = [];
  delivered = 0;
  wire: TestWire;
  outgoing: Outgoing;
  readonly #options: ReceiverOptions;
  readonly #window: number;
  /** What is under way on this connection, by packet id. */
  #exchanges = new Map<number, Exchange>();
  /** QoS 2 messages of any connection that were received and not yet released, by packet id. */
  readonly #unreleased = new Map<number, string>();
  readonly #seen = new Set<string>();
  readonly #aliases = new Map<number, string>();

  constructor(options: ReceiverOptions = {}) {
    this.#options = options;
    const { inflight_messages_max = LIMITS.inflight_messages_max } = options.limits ?? {};
    this.#window = Math.min(options.receiveMaximum ?? 65_535, inflight_messages_max);
    this.wire = new TestWire(this, options);
    this.outgoing = this.#open(0);
  }

  get inFlight(): readonly number[] {
    return [...this.#exchanges.keys()];
  }

  /** The connection breaks, and the session goes on at another one. */
  reconnect(): void {
    this.wire.isOpen = false;
    this.outgoing.end();
    this.#exchanges = new Map();
    this.#aliases.clear();
    this.wire = new TestWire(this, this.#options);
    this.outgoing = this.#open(this.outgoing.sentUpTo);
    this.outgoing.pump();
  }

  /** Takes more, or no more for now. */
  block(isBlocked: boolean): void {
    this.wire.isBlocked = isBlocked;
    if (!isBlocked) this.outgoing.pump();
  }

  /** Says what is next in one of the exchanges; nothing where it waits for PUBREL. */
  act(at: number, isRefused = false): void {
    const all = [...this.#exchanges];
    const [packetId, exchange] = all[at % all.length] ?? [];
    if (packetId === undefined || !exchange) return;
    if (exchange.qos === 1) {
      this.#exchanges.delete(packetId);
      assert.ok(this.outgoing.puback(packetId));
    } else if (exchange.mode === "sent" && isRefused) {
      this.#exchanges.delete(packetId);
      this.#unreleased.delete(packetId);
      assert.ok(this.outgoing.pubrec(packetId, 0x97));
    } else if (exchange.mode === "sent") {
      exchange.mode = "received";
      assert.ok(this.outgoing.pubrec(packetId, 0));
    } else if (exchange.mode === "released") {
      this.#exchanges.delete(packetId);
      assert.ok(this.outgoing.pubcomp(packetId));
    }
  }

  /** The session is detached at once, as the broker does it. */
  endedBy(reasonCode: number, why: string): void {
    this.ended.push({ reasonCode, why });
    this.left = this.outgoing.end();
  }

  published(packet: Packet): void {
    const { qos, packetId, dup, payload } = packet;
    this.packets.push({ ...packet, topic: this.#topicOf(packet) });
    if (qos === 0) {
      this.received.push(payload);
      return;
    }
    this.#begin(packetId, { qos, mode: "sent" });
    assert.equal(dup, this.#seen.has(payload), `DUP of ${payload} [MQTT-3.3.1-1]`);
    if (qos === 2 && this.#unreleased.has(packetId)) {
      assert.equal(this.#unreleased.get(packetId), payload, "another one under an id in use");
      return;
    }
    assert.ok(qos === 1 || !dup, `${payload} once more, after it was complete`);
    if (qos === 2) this.#unreleased.set(packetId, payload);
    if (!this.#seen.has(payload)) this.received.push(payload);
    this.#seen.add(payload);
  }

  pubrel(packetId: number, reasonCode: number): void {
    this.pubrels.push({ packetId, reasonCode });
    this.#unreleased.delete(packetId);
    const exchange = this.#exchanges.get(packetId);
    if (reasonCode !== 0) return;
    if (exchange) {
      assert.equal(exchange.mode, "received", "PUBREL before PUBREC [MQTT-4.3.3-5]");
      exchange.mode = "released";
    } else {
      this.#begin(packetId, { qos: 2, mode: "released" });
    }
  }

  #begin(packetId: number, exchange: Exchange): void {
    assert.ok(packetId > 0 && packetId < 65_536);
    assert.ok(!this.#exchanges.has(packetId), `${packetId} is in flight [MQTT-2.2.1-4]`);
    this.#exchanges.set(packetId, exchange);
    assert.ok(this.#exchanges.size <= this.#window, "more than its window [MQTT-3.3.4-9]");
  }

  #topicOf({ topic, properties }: Packet): string {
    const { topicAlias } = properties;
    if (typeof topicAlias !== "number") return topic;
    assert.ok(topicAlias > 0 && topicAlias <= this.wire.topicAliasMaximum);
    if (topic !== "") this.#aliases.set(topicAlias, topic);
    return this.#aliases.get(topicAlias) ?? assert.fail(`alias ${topicAlias} is not known`);
  }

  #open(sentUpTo: number): Outgoing {
    const { queue, limits = {}, mayReceive = () => true } = this.#options;
    return new Outgoing({
      wire: this.wire,
      limits: { ...LIMITS, ...limits },
      queue,
      sentUpTo,
      subscriber: { mayReceive },
      crowded: () => {
        this.crowded += 1;
      },
      count: {
        delivered: {
          add: (by = 1) => {
            this.delivered += by;
          },
        },
        dropped: (reason) => this.dropped.push(reason),
      },
    });
  }
}

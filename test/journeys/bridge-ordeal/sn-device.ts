// sn-device: speaks MQTT-SN on its line: numbers at QoS 1 and 2, a kept session, commands at QoS 2.
// Path: world → [sn-device] → outlet. Touches: the clock.
//
// One message is under way at a time (MQTT-SN 1.2 §6.13); it is said again until it is answered,
// also on the next connection.

import { Framer } from "../../../firmware-bridge/drivers/mqtt-sn/framer.ts";
import {
  decodePacket,
  encodePacket,
  type Packet,
  type Publish,
} from "../../../firmware-bridge/drivers/mqtt-sn/packets.ts";
import type { Counter } from "./counter.ts";
import type { Outlet, Plugged } from "./outlet.ts";
import { Receiver } from "./receiver.ts";

export const SN_TOPICS = {
  1: "ordeal/sn/one",
  2: "ordeal/sn/two",
  set: "ordeal/sn/set",
} as const;
/** Of the topics above, as the settings say. */
export const SN_PREDEFINED = [
  { id: 1, topic: SN_TOPICS[1] },
  { id: 2, topic: SN_TOPICS[2] },
];

const EVERY_MS = 30;
const LOOK_MS = 250;
const RETRY_MS = 1_000;
const RETRIES_MAX = 3;
const PING_MS = 2_000;
const SILENT_MS_MAX = 5_000;
const SUBSCRIBE_ID = 60_001;
const NUMBERED_IDS = 60_000;

interface UnderWay {
  readonly number: number;
  readonly qos: 1 | 2;
  readonly messageId: number;
  stage: "answer" | "completion";
  saidAtMs: number;
  times: number;
}

export class SnDevice implements Plugged {
  /** PUBACK or PUBREC came for these. */
  readonly acknowledged = { 1: new Set<number>(), 2: new Set<number>() };
  readonly #outlet: Outlet;
  readonly #timers: readonly NodeJS.Timeout[];
  readonly #receiver = new Receiver();
  #framer = new Framer(1_024);
  #underWay: UnderWay | undefined;
  #isConnected = false;
  #isSubscribed = false;
  #isPaused = false;
  #heardAtMs = 0;
  #pingedAtMs = 0;
  #connectedAtMs = 0;
  #said = 0;

  constructor(outlet: Outlet) {
    this.#outlet = outlet;
    this.#timers = [
      setInterval(() => this.#publish(), EVERY_MS),
      setInterval(() => this.#look(), LOOK_MS),
    ];
    outlet.use(this);
  }

  get commands(): Counter {
    return this.#receiver.commands;
  }

  get isIdle(): boolean {
    return this.#isPaused && this.#isConnected && this.#underWay === undefined;
  }

  pause(): void {
    this.#isPaused = true;
  }

  end(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }

  plugged(): void {
    this.#connect();
  }

  unplugged(): void {
    this.#isConnected = false;
  }

  hear(bytes: Buffer): void {
    this.#heardAtMs = performance.now();
    this.#handleAll(this.#framer.push(bytes));
  }

  #handleAll(framed: ReturnType<Framer["push"]>): void {
    for (const it of framed) {
      if (it.kind !== "frame") continue;
      const packet = decodePacket(it.bytes);
      if (packet.type !== "malformed") this.#handle(packet);
    }
  }

  #connect(): void {
    this.#isConnected = false;
    this.#connectedAtMs = performance.now();
    const flags = { will: false, cleanSession: false, protocolId: 1 };
    this.#send({ type: "connect", ...flags, durationSeconds: 4, clientId: "ordeal-sn" });
  }

  #look(): void {
    const nowMs = performance.now();
    const silentMs = nowMs - this.#heardAtMs;
    if (silentMs > LOOK_MS) this.#handleAll(this.#framer.silence());
    if (!this.#isConnected || silentMs > SILENT_MS_MAX) {
      if (nowMs - this.#connectedAtMs > RETRY_MS) this.#connect();
    } else if (nowMs - this.#pingedAtMs > PING_MS) {
      this.#pingedAtMs = nowMs;
      this.#send({ type: "pingreq", clientId: undefined });
    }
    const { saidAtMs = nowMs, times = 0 } = this.#underWay ?? {};
    if (!this.#isConnected || nowMs - saidAtMs < RETRY_MS) return;
    if (times > RETRIES_MAX) this.#connect();
    else this.#sayUnderWay();
  }

  #publish(): void {
    if (this.#isPaused || !this.#isConnected || !this.#isSubscribed || this.#underWay) return;
    this.#said += 1;
    this.#underWay = {
      number: this.#said,
      qos: this.#said % 2 === 0 ? 2 : 1,
      messageId: (this.#said % NUMBERED_IDS) + 1,
      stage: "answer",
      saidAtMs: 0,
      times: 0,
    };
    this.#sayUnderWay();
  }

  #sayUnderWay(): void {
    const it = this.#underWay;
    if (!it) return;
    it.saidAtMs = performance.now();
    it.times += 1;
    const { qos, messageId } = it;
    if (it.stage === "completion") {
      this.#send({ type: "pubrel", messageId });
      return;
    }
    const topic = { kind: "predefined", id: qos } as const;
    const data = Buffer.from(String(it.number));
    const dup = it.times > 1;
    this.#send({ type: "publish", dup, qos, retain: false, topic, messageId, data });
  }

  #handle(packet: Packet): void {
    if (packet.type === "connack" && packet.returnCode === 0) this.#begin();
    else if (packet.type === "disconnect") this.#isConnected = false;
    else if (packet.type === "suback") this.#isSubscribed = packet.returnCode === 0;
    else if (packet.type === "puback") this.#answered(packet.messageId, packet.returnCode);
    else if (packet.type === "pubrec") this.#received(packet.messageId);
    else if (packet.type === "pubcomp") this.#completed(packet.messageId);
    else if (packet.type === "publish") this.#take(packet);
    else if (packet.type === "pubrel") {
      this.#receiver.release(packet.messageId);
      this.#send({ type: "pubcomp", messageId: packet.messageId });
    } else if (packet.type === "register") {
      const { topicId, messageId } = packet;
      this.#send({ type: "regack", topicId, messageId, returnCode: 0 });
    }
  }

  #begin(): void {
    this.#isConnected = true;
    if (!this.#isSubscribed) {
      const topic = { kind: "name", name: SN_TOPICS.set } as const;
      this.#send({ type: "subscribe", dup: false, qos: 2, messageId: SUBSCRIBE_ID, topic });
    }
    if (this.#underWay) {
      this.#underWay.times = 1;
      this.#sayUnderWay();
    }
  }

  /** Any other code is no acknowledgement: it is said again later. */
  #answered(messageId: number, returnCode: number): void {
    const it = this.#underWay;
    if (it?.messageId !== messageId || it.qos !== 1 || returnCode !== 0) return;
    this.acknowledged[1].add(it.number);
    this.#underWay = undefined;
  }

  #received(messageId: number): void {
    const it = this.#underWay;
    if (it?.messageId !== messageId || it.qos !== 2) return;
    this.acknowledged[2].add(it.number);
    it.stage = "completion";
    it.times = 0;
    this.#sayUnderWay();
  }

  #completed(messageId: number): void {
    const it = this.#underWay;
    if (it?.messageId === messageId && it.stage === "completion") this.#underWay = undefined;
  }

  #take({ qos, messageId, topic, data }: Publish): void {
    const answer = this.#receiver.take(qos, messageId, data);
    if (answer === "pubrec") this.#send({ type: "pubrec", messageId });
    else this.#send({ type: "puback", topicId: topic.id, messageId, returnCode: 0 });
  }

  #send(packet: Packet): void {
    this.#outlet.write(encodePacket(packet));
  }
}

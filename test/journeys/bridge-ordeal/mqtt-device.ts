// mqtt-device: speaks MQTT 3.1.1 on its line: numbers at QoS 1, a kept session, commands at QoS 2.
// Path: world → [mqtt-device] → outlet. Touches: the clock.
//
// It keeps what it has to across all that happens to its line, as a device with a little flash does,
// and it learns of a dead session as the driver's page says that it must: by its pings.

import { generate, type IPublishPacket, type Packet, type Parser, parser } from "mqtt-packet";
import type { Counter } from "./counter.ts";
import type { Outlet, Plugged } from "./outlet.ts";
import { Receiver } from "./receiver.ts";

export const MQTT_TOPICS = {
  said: "ordeal/mqtt/said",
  set: "ordeal/mqtt/set",
  state: "ordeal/mqtt/state",
} as const;

const EVERY_MS = 30;
const WINDOW = 8;
const LOOK_MS = 500;
const SILENT_MS_MAX = 2_500;
const STATE_ID = 60_001;
const SUBSCRIBE_ID = 60_002;
const NUMBERED_IDS = 60_000;

export class MqttDevice implements Plugged {
  /** PUBACK came for these. */
  readonly acknowledged = new Set<number>();
  /** How often the broker did not know the session that it must keep. */
  sessionsLost = 0;
  readonly #outlet: Outlet;
  readonly #timers: readonly NodeJS.Timeout[];
  readonly #underWay = new Map<number, number>();
  readonly #receiver = new Receiver();
  #parser: Parser = parser();
  #isReady = false;
  #hasSession = false;
  #isPaused = false;
  #heardAtMs = 0;
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
    return this.#isPaused && this.#isReady && this.#underWay.size === 0;
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
    this.#isReady = false;
  }

  hear(bytes: Buffer): void {
    this.#parser.parse(bytes);
  }

  /** What is left of an older connection is not read as part of this one. */
  #connect(): void {
    this.#isReady = false;
    this.#heardAtMs = performance.now();
    const packets = parser({ protocolVersion: 4 });
    packets.on("packet", (packet) => {
      if (packets === this.#parser) this.#handle(packet);
    });
    packets.on("error", () => {});
    this.#parser = packets;
    this.#send({
      cmd: "connect",
      protocolId: "MQTT",
      protocolVersion: 4,
      clientId: "ordeal-mqtt",
      clean: false,
      keepalive: 4,
      will: { topic: MQTT_TOPICS.state, payload: Buffer.from("gone"), qos: 1, retain: true },
    });
  }

  #look(): void {
    if (performance.now() - this.#heardAtMs > SILENT_MS_MAX) this.#connect();
    else if (this.#isReady) this.#send({ cmd: "pingreq" });
  }

  #publish(): void {
    if (this.#isPaused || !this.#isReady || this.#underWay.size >= WINDOW) return;
    this.#said += 1;
    this.#underWay.set((this.#said % NUMBERED_IDS) + 1, this.#said);
    this.#sendNumber((this.#said % NUMBERED_IDS) + 1, this.#said, false);
  }

  #handle(packet: Packet): void {
    if (!this.#isReady && packet.cmd !== "connack") return;
    this.#heardAtMs = performance.now();
    if (packet.cmd === "connack" && packet.returnCode === 0) this.#begin(packet.sessionPresent);
    else if (packet.cmd === "puback") this.#acknowledge(packet.messageId ?? 0);
    else if (packet.cmd === "publish") this.#take(packet);
    else if (packet.cmd === "pubrel") {
      this.#receiver.release(packet.messageId ?? 0);
      this.#send({ cmd: "pubcomp", messageId: packet.messageId ?? 0 });
    }
  }

  #begin(sessionPresent: boolean): void {
    if (this.#hasSession && !sessionPresent) {
      this.sessionsLost += 1;
      this.#receiver.forget();
    }
    this.#hasSession = true;
    this.#isReady = true;
    const subscriptions = [{ topic: MQTT_TOPICS.set, qos: 2 as const }];
    if (!sessionPresent) this.#send({ cmd: "subscribe", messageId: SUBSCRIBE_ID, subscriptions });
    for (const [packetId, number] of this.#underWay) {
      this.#sendNumber(packetId, number, sessionPresent);
    }
    this.#send({
      ...{ cmd: "publish", topic: MQTT_TOPICS.state, payload: "here", qos: 1, retain: true },
      ...{ dup: false, messageId: STATE_ID },
    });
  }

  #acknowledge(packetId: number): void {
    const number = this.#underWay.get(packetId);
    if (number === undefined) return;
    this.#underWay.delete(packetId);
    this.acknowledged.add(number);
  }

  #take({ qos, messageId = 0, payload }: IPublishPacket): void {
    this.#send({ cmd: this.#receiver.take(qos, messageId, payload), messageId });
  }

  #sendNumber(packetId: number, number: number, dup: boolean): void {
    const payload = String(number);
    this.#send({
      ...{ cmd: "publish", topic: MQTT_TOPICS.said, payload, qos: 1, retain: false },
      ...{ dup, messageId: packetId },
    });
  }

  #send(packet: Packet): void {
    this.#outlet.write(generate(packet));
  }
}

// commander: publishes numbered commands to devices at QoS 1 and 2, and knows which the broker has.
// Path: world → [commander] → gateway. Touches: two MQTT connections, again and again.
//
// What was published at QoS 1 and not acknowledged is never sent again: the broker could have it
// twice, and each of the two would be a command of its own.

import { connect, type IClientOptions, type MqttClient } from "mqtt";

export const ANSWERS = "answers";

/** As topics name them. */
export const COMMANDED = {
  lines: "serial/box/set/cmd",
  "modbus-rtu": "serial/meter/set/order",
  mqtt: "ordeal/mqtt/set",
  "mqtt-sn": "ordeal/sn/set",
} as const;

export type Commanded = keyof typeof COMMANDED;

const RECONNECT_MS = 300;
const COMMON: IClientOptions = { protocolVersion: 5, connectTimeout: 5_000 };

export class Commander {
  /** Commands that the broker has acknowledged, by device. */
  readonly acknowledged = new Map<Commanded, Set<number>>();
  /** All commands of a device. */
  readonly sent = new Map<Commanded, Set<number>>();
  /** Commands of QoS 2 whose exchange is not over. */
  #underWay = 0;
  readonly #url: string;
  readonly #kept: MqttClient;
  #passing: MqttClient;
  #hasEnded = false;
  #last = 0;

  constructor(url: string) {
    this.#url = url;
    this.#kept = connect(url, {
      ...COMMON,
      ...{ clientId: "commander-kept", clean: false, reconnectPeriod: RECONNECT_MS },
      properties: { sessionExpiryInterval: 3_600 },
    });
    this.#kept.on("error", () => {});
    this.#passing = this.#pass();
  }

  get isIdle(): boolean {
    return this.#underWay === 0;
  }

  command(device: Commanded, qos: 1 | 2): void {
    const client = qos === 1 ? this.#passing : this.#kept;
    if (!client.connected) return;
    this.#last += 1;
    const number = this.#last;
    entered(this.sent, device, number);
    const topic = COMMANDED[device];
    const correlationData = Buffer.from(String(number));
    const properties = { responseTopic: `${ANSWERS}/${device}`, correlationData };
    if (qos === 2) this.#underWay += 1;
    client.publish(topic, String(number), { qos, properties }, (fault) => {
      if (qos === 2) this.#underWay -= 1;
      if (!fault) entered(this.acknowledged, device, number);
    });
  }

  /** As of an earlier connection, by a broker that is late: what a retained topic says is wrong. */
  async lateWill(topic: string): Promise<void> {
    await this.#kept.publishAsync(topic, "offline", { qos: 2, retain: true });
  }

  async end(): Promise<void> {
    this.#hasEnded = true;
    await Promise.all([this.#kept.endAsync(true), this.#passing.endAsync(true)]);
  }

  #pass(): MqttClient {
    const client = connect(this.#url, { ...COMMON, reconnectPeriod: 0 });
    client.on("error", () => {});
    client.once("close", () => {
      client.end(true);
      setTimeout(() => {
        if (!this.#hasEnded) this.#passing = this.#pass();
      }, RECONNECT_MS);
    });
    return client;
  }
}

function entered(all: Map<Commanded, Set<number>>, device: Commanded, number: number): void {
  all.set(device, (all.get(device) ?? new Set()).add(number));
}

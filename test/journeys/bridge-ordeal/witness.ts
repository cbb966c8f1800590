// witness: a client with a kept session that hears all that devices say, and all results of commands.
// Path: world → [witness] → gateway. Touches: one MQTT connection, again and again.

import { connect, type MqttClient } from "mqtt";
import { ANSWERS } from "./commander.ts";
import { Counter } from "./counter.ts";
import { numberOfLine } from "./line-device.ts";

const RECONNECT_MS = 300;
const FILTERS = ["serial/#", "ordeal/#", `${ANSWERS}/#`];
const RESULT = /^serial\/[^/]+\/result$/;

export class Witness {
  /** By topic; of those whose payloads are numbers, or lines with one. */
  readonly numbers = new Map<string, Counter>();
  /** What became of commands, by their numbers: on the devices' result topics, and on `answers/…`. */
  readonly results = {
    told: new Map<number, Set<string>>(),
    answered: new Map<number, Set<string>>(),
  };
  /** Answers whose Correlation Data was not that of their command. */
  readonly mixedUp: string[] = [];
  sessionsLost = 0;
  readonly #client: MqttClient;

  private constructor(client: MqttClient) {
    this.#client = client;
    client.on("error", () => {});
    client.on("message", (topic, payload, { properties }) => {
      const text = String(payload);
      if (RESULT.test(topic)) this.#result(this.results.told, text);
      else if (topic.startsWith(ANSWERS)) {
        const id = this.#result(this.results.answered, text);
        if (String(properties?.correlationData) !== id) this.mixedUp.push(`${topic} ${text}`);
      } else this.#number(topic, text);
    });
  }

  static async come(url: string): Promise<Witness> {
    const client = connect(url, {
      ...{ protocolVersion: 5, clientId: "witness", clean: false, resubscribe: false },
      ...{ reconnectPeriod: RECONNECT_MS, connectTimeout: 5_000 },
      properties: { sessionExpiryInterval: 3_600 },
    });
    const witness = new Witness(client);
    await new Promise<void>((resolve) => client.once("connect", () => resolve()));
    await client.subscribeAsync(FILTERS, { qos: 2 });
    client.on("connect", ({ sessionPresent }) => {
      if (!sessionPresent) witness.sessionsLost += 1;
    });
    return witness;
  }

  counter(topic: string): Counter {
    return this.numbers.get(topic) ?? new Counter();
  }

  /** How many commands failed. */
  get failed(): number {
    return [...this.results.told.values()].filter((states) => states.has("failed")).length;
  }

  async end(): Promise<void> {
    await this.#client.endAsync(true);
  }

  #number(topic: string, text: string): void {
    const number = /^\d+$/.test(text) ? Number(text) : numberOfLine(text);
    if (number === undefined) return;
    const counter = this.numbers.get(topic) ?? new Counter();
    this.numbers.set(topic, counter);
    counter.count(number);
  }

  #result(results: Map<number, Set<string>>, text: string): string {
    const { id, state } = JSON.parse(text) as { id: string; state: string };
    const states = results.get(Number(id)) ?? new Set<string>();
    results.set(Number(id), states.add(state));
    return id;
  }
}

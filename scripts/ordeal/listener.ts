// listener: an MQTT client with a kept session, and what it was given, topic by topic.
// Path: cluster, gateway → [listener] → findings. Touches: one MQTT connection, again and again.

import { connect, type MqttClient } from "mqtt";

export interface ListenerOptions {
  readonly url: string;
  readonly clientId: string;
  readonly version: 4 | 5;
  readonly filter: string;
  readonly ca?: Buffer;
}

/** The numbers that came on one topic. */
export interface Arrivals {
  /** In the order of their first arrival. */
  readonly firsts: Set<number>;
  /** How many came in all. */
  count: number;
}

const RECONNECT_MS = 500;
const CONNECT_MS_MAX = 10_000;
const SESSION_SECONDS = 86_400;

export class Listener {
  readonly name: string;
  /** By topic. */
  readonly arrivals = new Map<string, Arrivals>();
  readonly #options: ListenerOptions;
  #client: MqttClient | undefined;
  #hasSession = false;
  #sessionsLost = 0;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.name = options.clientId;
  }

  /** How often its broker had no session for it, which it must keep. */
  get sessionsLost(): number {
    return this.#sessionsLost;
  }

  /** How many messages it was given. */
  get received(): number {
    return [...this.arrivals.values()].reduce((sum, { count }) => sum + count, 0);
  }

  /** Connects, and comes back by itself; resolves when it is subscribed for the first time. */
  async come(): Promise<void> {
    const { url, version, clientId, ca } = this.#options;
    const client = connect(url, {
      ...{ protocolVersion: version, clientId, clean: false },
      ...{ reconnectPeriod: RECONNECT_MS, connectTimeout: CONNECT_MS_MAX, resubscribe: false },
      ...(version === 5 ? { properties: { sessionExpiryInterval: SESSION_SECONDS } } : {}),
      ...(ca ? { ca } : {}),
    });
    this.#client = client;
    client.on("message", (topic, payload) => this.#arrived(topic, Number(String(payload))));
    // The close that follows brings the reconnect.
    client.on("error", () => {});
    const isNew = !this.#hasSession;
    const subscribed = new Promise<void>((resolve) => {
      client.on("connect", async ({ sessionPresent }) => {
        if (!sessionPresent) await this.#subscribe(client);
        resolve();
      });
    });
    if (isNew) await subscribed;
  }

  /** Goes without a word. */
  async leave(): Promise<void> {
    await this.#client?.endAsync(true);
  }

  async #subscribe(client: MqttClient): Promise<void> {
    if (this.#hasSession) this.#sessionsLost += 1;
    // Cut off in between, it finds no session, or one without the subscription: it asks again.
    const granted = await client.subscribeAsync(this.#options.filter, { qos: 1 }).catch(() => []);
    if (granted.length > 0) this.#hasSession = true;
  }

  #arrived(topic: string, number: number): void {
    let arrivals = this.arrivals.get(topic);
    if (!arrivals) {
      arrivals = { firsts: new Set(), count: 0 };
      this.arrivals.set(topic, arrivals);
    }
    arrivals.firsts.add(number);
    arrivals.count += 1;
  }
}

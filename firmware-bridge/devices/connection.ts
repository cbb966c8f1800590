// connection: keeps one MQTT session at the broker open.
// Path: device → [connection] → broker. Touches: the network, by mqtt.js.
//
// Each connection is an mqtt.js client of its own that never reconnects. What has to be sent again,
// in which order and when, is decided here and in device.ts: a client of mqtt.js that reconnects by
// itself sends unacknowledged messages again one at a time and without DUP, and drops what is
// published meanwhile if the connection breaks once more.

import { MqttClient } from "mqtt";
import { reasonOf } from "#contract/errors";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { BrokerDoor } from "../driver.ts";
import type { PacketIds } from "./packet-ids.ts";

const LIMITS = {
  connectMsMax: 10_000,
  closeMsMax: 1_000,
  retryMsLeast: 1_000,
  retryMsMost: 30_000,
  /** A connection that held for so long begins again with the shortest wait. */
  healthyMs: 60_000,
  keepAliveSeconds: 30,
} as const;

export interface Publication {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain: boolean;
  /** Its packet identifier, if it was sent before. */
  readonly packetId?: number | undefined;
}

export interface ConnectionOptions {
  readonly clientId: string;
  readonly door: BrokerDoor;
  readonly will: { readonly topic: string; readonly payload: string };
  readonly packetIds: PacketIds;
  readonly log: Log;
  readonly onConnected: () => void;
  readonly onMessage: (topic: string, payload: Uint8Array, retained: boolean) => void;
}

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #stopping = new AbortController();
  #client: MqttClient | undefined;
  #connected = false;
  #lastFault = "";
  #ended: Promise<void> | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  get connected(): boolean {
    return this.#connected;
  }

  start(): void {
    this.#ended ??= this.#keep();
  }

  /** Publishes with QoS 1 on a connection that is up; returns the packet identifier. */
  publish(publication: Publication, acknowledged: () => void): number {
    const { topic, payload, retain, packetId } = publication;
    const { packetIds } = this.#options;
    packetIds.want(packetId);
    this.#up().publish(
      topic,
      Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength),
      { qos: 1, retain, dup: packetId !== undefined },
      (fault) => !fault && acknowledged(),
    );
    return packetIds.getLastAllocated();
  }

  subscribe(filters: readonly string[]): void {
    this.#up().subscribe([...filters], { qos: 1 }, (fault) => {
      // When the connection ended first, its own line says so; the next one subscribes again.
      if (fault && this.#connected) {
        this.#options.log.warn({ filters, why: reasonOf(fault) }, "subscription refused");
      }
    });
  }

  /** Says goodbye to the broker where it can, so that the will is not published. */
  async close(): Promise<void> {
    this.#stopping.abort();
    const client = this.#client;
    const answered = client !== undefined && Object.keys(client.outgoing).length === 0;
    client?.end(!(this.#connected && answered));
    const ended = new AbortController();
    void this.#ended?.then(() => ended.abort());
    await wait(LIMITS.closeMsMax, ended.signal);
    client?.stream.destroy();
    await this.#ended;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stopping;
    let attempt = 0;
    while (!signal.aborted) {
      const startedMs = performance.now();
      const why = await this.#once();
      if (signal.aborted) return;
      this.#tellFault(why);
      if (performance.now() - startedMs >= LIMITS.healthyMs) attempt = 0;
      await wait(backoffMs(attempt++, LIMITS.retryMsLeast, LIMITS.retryMsMost), signal);
    }
  }

  /** One connection from its beginning to its end; resolves with why it ended. */
  #once(): Promise<string> {
    return new Promise((resolve) => {
      let why = "the broker closed the connection";
      const failed = (fault: Error) => {
        why = reasonOf(fault);
        // Two addresses of one name that both fail have only a code in common.
        if (fault instanceof AggregateError && "code" in fault) why = String(fault.code);
        client.stream.destroy();
      };
      const client = new MqttClient(() => this.#options.door.open(), this.#clientOptions());
      this.#client = client;
      client.stream.on("error", failed);
      client.on("error", failed);
      client.on("connect", () => this.#onConnected());
      client.on("message", (topic, payload, { retain }) => {
        this.#options.onMessage(topic, payload, retain);
      });
      client.on("close", () => {
        this.#connected = false;
        resolve(why);
      });
    });
  }

  #clientOptions(): ConstructorParameters<typeof MqttClient>[1] {
    const { clientId, door, will, packetIds } = this.#options;
    const { username, password } = door;
    return {
      clientId,
      protocolVersion: 4,
      // The broker keeps the session, and with it the commands sent while nobody is here.
      clean: false,
      keepalive: LIMITS.keepAliveSeconds,
      connectTimeout: LIMITS.connectMsMax,
      reconnectPeriod: 0,
      messageIdProvider: packetIds,
      will: { topic: will.topic, payload: Buffer.from(will.payload), qos: 1, retain: true },
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password }),
    };
  }

  #onConnected(): void {
    this.#connected = true;
    this.#lastFault = "";
    this.#options.log.info("at the broker");
    this.#options.onConnected();
  }

  /** A fault that stays the same is told once, not at each try. */
  #tellFault(why: string): void {
    const fields = { why };
    if (why === this.#lastFault) this.#options.log.debug(fields, "not at the broker");
    else this.#options.log.warn(fields, "not at the broker");
    this.#lastFault = why;
  }

  #up(): MqttClient {
    if (!this.#client || !this.#connected) throw new Error("used while it is not connected");
    return this.#client;
  }
}

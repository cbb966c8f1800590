// connection: keeps one MQTT session at the broker open.
// Path: device → outgoing → [connection] → broker, and back. Touches: the network, by client.ts.
//
// Each connection is a client of its own. What has to be sent again, in which order and when, is
// decided in outgoing.ts; what was received twice, in commands.ts.

import type { IConnectPacket, IPublishPacket, ISubackPacket, Packet } from "mqtt-packet";
import { backoffMs, wait, within } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { BrokerDoor } from "../driver.ts";
import { Client } from "./client.ts";
import { type Outgoing, SUBSCRIBE_ID } from "./outgoing.ts";
import { REASON, reasonWords } from "./reasons.ts";

const LIMITS = {
  connectMsMax: 10_000,
  goodbyeMsMax: 1_000,
  closeMsMax: 1_000,
  retryMsLeast: 1_000,
  retryMsMost: 30_000,
  /** A connection that held for so long begins again with the shortest wait. */
  healthyMs: 60_000,
  keepAliveSeconds: 30,
  /** For so long the broker keeps the session, and with it the commands sent while nobody is here. */
  sessionSeconds: 7 * 86_400,
  /** One command at a time: the others wait at the broker. */
  receiveMaximum: 1,
  packetBytesMax: 1_048_576,
} as const;

export interface Filter {
  readonly filter: string;
  readonly qos: 0 | 1 | 2;
}

export interface ConnectionOptions {
  readonly clientId: string;
  readonly door: BrokerDoor;
  readonly will?: { readonly topic: string; readonly payload: string };
  /** Does the broker keep the session while nobody is here? */
  readonly isKept: boolean;
  readonly outgoing: Outgoing;
  readonly filters: readonly Filter[];
  readonly log: Log;
  /** Before anything is received; `sessionPresent`: the broker has kept the session. */
  readonly onConnected: (sessionPresent: boolean) => void;
  readonly onMessage: (packet: IPublishPacket) => void;
}

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #stopping = new AbortController();
  #client: Client | undefined;
  #connected = false;
  #lastFault = "";
  #filters: readonly Filter[];
  #faultSinceMs = Date.now();
  #ended: Promise<void> | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#filters = options.filters;
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** Why the broker was not reached at the last try, and since when; undefined while it is. */
  get trouble(): { readonly why: string; readonly sinceMs: number } | undefined {
    if (this.#connected || this.#lastFault === "") return undefined;
    return { why: `not at the broker: ${this.#lastFault}`, sinceMs: this.#faultSinceMs };
  }

  start(): void {
    this.#ended ??= this.#keep();
  }

  /** PUBACK or PUBREC of what was received, or PUBCOMP. */
  acknowledge(cmd: "puback" | "pubrec" | "pubcomp", messageId: number): void {
    if (this.#connected) this.#client?.send({ cmd, messageId, reasonCode: 0 });
  }

  /** QoS 0: now or not at all; false: not at all. */
  shout(topic: string, payload: Buffer): boolean {
    if (!this.#connected) return false;
    this.#client?.send({ cmd: "publish", topic, payload, qos: 0, dup: false, retain: false });
    return true;
  }

  /** From one of its filters, for good. */
  unsubscribe(filter: string): void {
    this.#filters = this.#filters.filter((it) => it.filter !== filter);
    if (!this.#connected) return;
    this.#client?.send({ cmd: "unsubscribe", messageId: SUBSCRIBE_ID, unsubscriptions: [filter] });
  }

  /**
   * Waits a little for the broker's acknowledgements, and says goodbye where it has all, so that the
   * will is not published.
   */
  async close(): Promise<void> {
    const { outgoing } = this.#options;
    this.#stopping.abort();
    if (this.#connected) await within(LIMITS.goodbyeMsMax, outgoing.idle());
    if (this.#connected && outgoing.isIdle) {
      this.#client?.disconnect();
      await within(LIMITS.closeMsMax, this.#ended);
    }
    this.#client?.destroy("stopped");
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
      const { door, outgoing } = this.#options;
      const client = new Client({
        stream: door.open(),
        connect: this.#connect(),
        connectMsMax: LIMITS.connectMsMax,
        onWelcome: (terms) => {
          this.#welcome(terms.sessionPresent);
          outgoing.connected(terms, (bytes) => client.write(bytes));
        },
        onPacket: (packet) => this.#receive(packet),
        onEnd: (why) => {
          this.#connected = false;
          outgoing.disconnected();
          resolve(why);
        },
      });
      this.#client = client;
    });
  }

  #connect(): IConnectPacket & { keepalive: number } {
    const { clientId, door, will, isKept } = this.#options;
    const { username, password } = door;
    return {
      cmd: "connect",
      protocolId: "MQTT",
      protocolVersion: 5,
      clientId,
      clean: !isKept,
      keepalive: LIMITS.keepAliveSeconds,
      properties: {
        sessionExpiryInterval: isKept ? LIMITS.sessionSeconds : 0,
        receiveMaximum: LIMITS.receiveMaximum,
        maximumPacketSize: LIMITS.packetBytesMax,
      },
      ...(will && { will: { ...will, qos: 1, retain: true } }),
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password: Buffer.from(password) }),
    };
  }

  #welcome(sessionPresent: boolean): void {
    this.#connected = true;
    this.#lastFault = "";
    this.#options.log.info("at the broker");
    const subscriptions = this.#filters.map(({ filter, qos }) => ({ topic: filter, qos }));
    if (subscriptions.length > 0) {
      this.#client?.send({ cmd: "subscribe", messageId: SUBSCRIBE_ID, subscriptions });
    }
    this.#options.onConnected(sessionPresent);
  }

  #receive(packet: Packet): void {
    const { outgoing, onMessage } = this.#options;
    const { messageId = 0 } = packet;
    if (packet.cmd === "puback") {
      outgoing.puback(messageId, packet.reasonCode ?? 0, packet.properties?.reasonString);
    } else if (packet.cmd === "publish") onMessage(packet);
    else if (packet.cmd === "pubrel") this.acknowledge("pubcomp", messageId);
    else if (packet.cmd === "suback") this.#subscribed(packet);
  }

  #subscribed({ granted, properties }: ISubackPacket): void {
    this.#filters.forEach(({ filter }, index) => {
      const code = Number(granted[index]);
      if (code < REASON.failed) return;
      const why = reasonWords(code, properties?.reasonString);
      this.#options.log.warn({ why, mend: this.#mend("subscribe to", filter) }, "not subscribed");
    });
  }

  #mend(verb: string, topic: string): string {
    const { door, clientId } = this.#options;
    return mendOf(verb, topic, door.username, clientId);
  }

  /** A fault that stays the same is told once, not at each try. */
  #tellFault(why: string): void {
    const fields = { why };
    if (this.#lastFault === "") this.#faultSinceMs = Date.now();
    if (why === this.#lastFault) this.#options.log.debug(fields, "not at the broker");
    else this.#options.log.warn(fields, "not at the broker");
    this.#lastFault = why;
  }
}

/** What to do about a right that is missing. */
export function mendOf(
  verb: string,
  topic: string,
  username: string | undefined,
  clientId: string,
): string {
  const who = username === undefined ? `client "${clientId}"` : `user "${username}"`;
  return `give ${who} the right to ${verb} ${topic} in [[access.rights]]`;
}

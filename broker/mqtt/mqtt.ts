// mqtt: one MQTT broker: listeners, sessions, access, custody, routing.
// Path: listeners → session → access → custody → routing. Touches: sockets, through listeners.

import type { EventEmitter } from "node:events";
import type { Duplex } from "node:stream";
import type {
  AedesPublishPacket,
  AuthenticateError,
  Client,
  ConnectPacket,
  PublishPacket,
} from "aedes";
import { reasonOf, SluiceError } from "#contract/errors";
import type { Message } from "#contract/message";
import { assertTopicFilter, assertTopicName } from "#contract/topics";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import type { Settings } from "#runtime/settings-schema";
import { Users } from "#runtime/users";
import { Access, RETURN_CODE } from "./access.ts";
import type { AedesInternals, ClientInternals, Done } from "./aedes-internals.ts";
import { Delivery } from "./delivery.ts";
import { type Listeners, openListeners, type Peer } from "./listeners.ts";
import { PacketGate } from "./packet-gate.ts";
import { type ClientRights, rightsOf } from "./rights.ts";
import { Routing } from "./routing.ts";
import { type SysTopicsOptions, startSysTopics } from "./sys-topics.ts";

/** Aedes' emitter takes this many messages at once; Delivery, not the emitter, paces clients. */
const EMITTER_CONCURRENCY = 10_000;
/** A socket that takes nothing for so long ends the connection. */
const DRAIN_MS_MAX = 10_000;
/** How long the balancer may leave its health check open. */
const CHECK_MS_MAX = 5_000;

export interface MqttOptions {
  readonly settings: Pick<Settings, "listeners" | "limits" | "access">;
  /** Stands in the keys of queued messages; with a fixed one `firstNumber` must never go back. */
  readonly brokerId: string;
  readonly firstNumber: number;
  /** An aedes-persistence; in-process `emitter` where there is none. */
  readonly persistence: object;
  readonly emitter?: object;
  readonly persistentWritesMax: number;
  /** The seam: resolves when the message is ours. Only then is it acknowledged [MQTT-4.3.2-2]. */
  readonly custody: (message: Message) => Promise<void>;
  /** Why this role refuses a client's topic or filter; undefined where it does not. */
  readonly refusal?: (use: "publish" | "subscribe", topic: string) => string | undefined;
  /** Why clients cannot be served now; undefined when they can. */
  readonly unavailable: () => string | undefined;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** A running broker. */
export class Mqtt {
  readonly #options: MqttOptions;
  readonly #routing: Routing;
  readonly #access: Access;
  readonly #count: ReturnType<typeof countersOf>;
  readonly #peers = new WeakMap<Client, Peer>();
  readonly #deliveries = new WeakMap<Client, Delivery>();
  readonly #users = new WeakMap<Client, string>();
  readonly #rights = new WeakMap<Client, ClientRights>();
  /** Clients whose CONNECT asks for a will that they may not publish. */
  readonly #wrongWills = new WeakSet<Client>();
  #listeners: Listeners | undefined;
  #stopStatistics: () => void = () => {};

  private constructor(options: MqttOptions) {
    const { log, metrics, settings } = options;
    this.#options = options;
    this.#count = countersOf(metrics);
    const onBroken = (why: string) => log.error({ why }, "users file: the last good one stays");
    const users = new Users(settings.access.users_file, onBroken);
    this.#access = new Access({ anonymous: settings.access.anonymous, users, log, metrics });
    this.#routing = this.#createRouting();
  }

  /** Opens the listeners last, when everything behind them is ready. */
  static async start(options: MqttOptions): Promise<Mqtt> {
    const mqtt = new Mqtt(options);
    await mqtt.#routing.listen();
    const { settings, log, metrics } = options;
    mqtt.#listeners = await openListeners({
      listeners: settings.listeners,
      limits: settings.limits,
      log,
      metrics,
      accept: (stream, peer) => mqtt.#accept(stream, peer),
    });
    return mqtt;
  }

  get addresses(): readonly string[] {
    return this.#listeners?.addresses ?? [];
  }

  get connections(): number {
    return this.#routing.connectedClients;
  }

  /** The number of the newest message. */
  get number(): number {
    return (this.#routing as unknown as AedesInternals).counter;
  }

  /** Publishes in the broker's own name; resolves when it is stored and emitted. */
  publish(message: Message): Promise<void> {
    const { topic, qos, retain } = message;
    const payload = Buffer.from(message.payload);
    return new Promise((resolve, reject) => {
      const packet: PublishPacket = { cmd: "publish", topic, payload, qos, retain, dup: false };
      this.#routing.publish(packet, (cause) => (cause ? reject(asStoreFailure(cause)) : resolve()));
    });
  }

  /** Publishes what `read` says on $SYS/broker/…, for as long as the broker runs. */
  publishStatistics(read: SysTopicsOptions["read"]): void {
    this.#stopStatistics = startSysTopics({ read, publish: (message) => this.publish(message) });
  }

  /** Ends every client's connection: they come back, and find in their queues what they missed. */
  disconnectAll(why: string): void {
    for (const client of Object.values((this.#routing as unknown as AedesInternals).clients)) {
      this.#disconnect(client, why);
    }
  }

  /** Stops accepting, then closes the connections that there are. */
  async close(): Promise<void> {
    this.#stopStatistics();
    await this.#listeners?.close();
    await new Promise<void>((resolve) => this.#routing.close(resolve));
  }

  #createRouting(): Routing {
    const options = this.#options;
    const routing = new Routing({
      id: options.brokerId,
      persistence: options.persistence,
      ...(options.emitter ? { mq: options.emitter } : {}),
      concurrency: EMITTER_CONCURRENCY,
      drainTimeout: DRAIN_MS_MAX,
      connectTimeout: options.settings.limits.connect_seconds_max * 1_000,
      preConnect: (client, packet, done) => this.#preConnect(client, packet, done),
      authenticate: (client, username, password, done) =>
        this.#authenticate(client, username, password, done),
      authorizePublish: (client, packet, done) => this.#authorizePublish(client, packet, done),
      authorizeSubscribe: (client, subscription, done) =>
        done(null, this.#isFilterRefused(client, subscription.topic) ? null : subscription),
      isFilterRefused: (client, filter) => this.#isFilterRefused(client, filter),
      authorizeForward: (client, packet) => this.#authorizeForward(client, packet),
    });
    (routing as unknown as AedesInternals).counter = options.firstNumber;
    routing.on("clientReady", (client) => this.#deliveries.get(client)?.open());
    routing.on("clientError", (client, fault) => this.#clientFailed(client, fault));
    routing.on("connectionError", (client, fault) => this.#clientFailed(client, fault));
    (routing as EventEmitter).on("error", (fault: unknown) =>
      options.log.error({ why: reasonOf(fault) }, "the persistence failed"),
    );
    return routing;
  }

  #accept(stream: Duplex, peer: Peer): void {
    const client = this.#routing.handle(stream);
    const { limits } = this.#options.settings;
    this.#peers.set(client, peer);
    this.#guardParser(client);
    const delivery = new Delivery(client, {
      limits,
      persistentWritesMax: this.#options.persistentWritesMax,
      delivered: this.#count.delivered,
      dropped: this.#count.dropped,
      disconnect: (slow, why) => this.#disconnect(slow, why),
    });
    this.#deliveries.set(client, delivery);
  }

  /** Measures each packet before the parser, which would buffer up to 256 MB. */
  #guardParser(client: Client): void {
    const { limits } = this.#options.settings;
    const gate = new PacketGate({
      beforeConnectBytesMax: limits.packet_before_connect_bytes_max,
      bytesMax: limits.packet_bytes_max,
    });
    const parser = (client as unknown as ClientInternals)._parser;
    const parse = parser.parse.bind(parser);
    parser.parse = (chunk) => {
      if (client.connecting || client.connected) gate.connected();
      try {
        gate.push(chunk);
      } catch (fault) {
        client.emit("error", fault);
        return 0;
      }
      return parse(chunk);
    };
  }

  #preConnect(
    client: Client,
    packet: ConnectPacket,
    done: (error: Error | null, success: boolean) => void,
  ): void {
    const why = this.#options.unavailable();
    if (this.#peers.get(client)?.proxied === "balancer") {
      this.#answerCheck(client, why === undefined ? 0 : RETURN_CODE.unavailable);
    } else if (why === undefined) {
      this.#learnIdentity(client, packet);
      done(null, true);
    } else {
      // Without a CONNACK 3: there are clients that take any refusal for final (mqtt.js does,
      // unless told otherwise), and all of them return after a connection that broke.
      this.#disconnect(client, why);
    }
  }

  /** What CONNECT says of the client; #authenticate lets in only who proves it. */
  #learnIdentity(client: Client, { username, clientId, will }: ConnectPacket): void {
    if (username !== undefined) this.#users.set(client, username);
    const rights = this.#rightsAs(client, clientId);
    if (will && !rights.mayPublish(will.topic, will.retain ?? false)) this.#wrongWills.add(client);
  }

  /** Of a client that is connected: by the client id that it has, or was given. */
  #rightsOf(client: Client): ClientRights {
    const known = this.#rights.get(client);
    if (known) return known;
    const rights = this.#rightsAs(client, client.id);
    this.#rights.set(client, rights);
    return rights;
  }

  #rightsAs(client: Client, clientId: string): ClientRights {
    const user = this.#users.get(client);
    const certificateName = this.#peers.get(client)?.certificateName;
    const { rights } = this.#options.settings.access;
    return rightsOf(rights, { clientId, user, certificateName });
  }

  /** The balancer's health check is answered here: it is no session. */
  #answerCheck(client: Client, code: number): void {
    client.conn.write(Buffer.from([0x20, 0x02, 0x00, code]));
    setTimeout(() => client.conn.destroy(), CHECK_MS_MAX).unref();
  }

  #authenticate(
    client: Client,
    username: string | undefined,
    password: Buffer | undefined,
    done: (error: AuthenticateError | null, success: boolean | null) => void,
  ): void {
    const refuse = (returnCode: number, why: string) =>
      done(Object.assign(new Error(why), { returnCode }) as AuthenticateError, false);
    if (this.#wrongWills.has(client)) {
      refuse(RETURN_CODE.notAuthorized, "its will is on a topic that it may not publish to");
      return;
    }
    const { ip, certificateName } = this.#peers.get(client) ?? ({} as Peer);
    this.#access.refusalOf({ ip, certificateName }, { username, password }).then(
      (code) => (code === undefined ? done(null, true) : refuse(code, "login refused")),
      (fault) => refuse(RETURN_CODE.unavailable, reasonOf(fault)),
    );
  }

  /** Aedes acknowledges when `done` is called without an error; with one it ends the connection. */
  #authorizePublish(client: Client | null, packet: PublishPacket, done: Done): void {
    this.#count.received({ qos: String(packet.qos) });
    this.#takeCustody(client, packet).then(
      () => done(),
      (fault: Error) => {
        this.#count.refused({ reason: fault instanceof SluiceError ? fault.code : "error" });
        this.#options.log.debug({ client: client?.id, why: reasonOf(fault) }, "publish refused");
        done(fault);
      },
    );
  }

  async #takeCustody(client: Client | null, packet: PublishPacket): Promise<void> {
    assertTopicName(packet.topic);
    const why = packet.topic.startsWith("$SYS/")
      ? "$SYS is the broker's own"
      : this.#options.refusal?.("publish", packet.topic);
    if (why !== undefined) throw new SluiceError("ACCESS_DENIED", `${packet.topic}: ${why}`);
    // Without a client it is a will, which was checked when its client connected.
    if (client && !this.#rightsOf(client).mayPublish(packet.topic, packet.retain)) {
      throw new SluiceError("ACCESS_DENIED", `${client.id} may not publish to ${packet.topic}`);
    }
    if (client && packet.qos === 2 && (await this.#isRepeat(client, packet))) return;
    const { topic, qos, retain } = packet;
    const payload =
      typeof packet.payload === "string" ? Buffer.from(packet.payload) : packet.payload;
    await this.#options.custody({ topic, payload, qos, retain, takenAtMs: Date.now() });
  }

  /** Is this QoS 2 message in our custody already, under the same packet id [MQTT-4.3.3-2]? */
  async #isRepeat(client: Client, packet: PublishPacket): Promise<boolean> {
    const { persistence } = this.#routing as unknown as AedesInternals;
    return persistence.incomingGetPacket(client, packet).then(
      () => true,
      () => false,
    );
  }

  #isFilterRefused(client: Client, filter: string): boolean {
    if (!isTopicFilter(filter) || !this.#rightsOf(client).maySubscribe(filter)) return true;
    return this.#options.refusal?.("subscribe", filter) !== undefined;
  }

  #authorizeForward(client: Client, packet: AedesPublishPacket): AedesPublishPacket | null {
    // Before the client is ready only the drain of its queue comes by here.
    this.#deliveries.get(client)?.drained(packet);
    // Aedes speaks to its peers on $SYS/<id>/…, with client ids and filters of everybody.
    const isInternal = packet.topic.startsWith("$SYS/") && !packet.topic.startsWith("$SYS/broker/");
    return isInternal || !this.#rightsOf(client).mayReceive(packet.topic) ? null : packet;
  }

  #disconnect(client: Client, why: string): void {
    this.#options.log.info({ client: client.id, why }, "client disconnected");
    client.conn.destroy();
  }

  #clientFailed(client: Client, fault: Error): void {
    const { ip } = this.#peers.get(client) ?? { ip: undefined };
    this.#count.failed();
    this.#options.log.debug({ client: client.id, ip, why: reasonOf(fault) }, "client failed");
  }
}

function isTopicFilter(text: string): boolean {
  try {
    assertTopicFilter(text);
    return true;
  } catch (fault) {
    if (!(fault instanceof SluiceError)) throw fault;
    return false;
  }
}

function asStoreFailure(cause: Error): SluiceError {
  if (cause instanceof SluiceError) return cause;
  return new SluiceError("STORE_FAILED", reasonOf(cause), { cause });
}

function countersOf(metrics: Metrics) {
  return {
    received: metrics.counter("sluice_messages_received_total", "PUBLISH packets from clients."),
    delivered: metrics.counter("sluice_messages_delivered_total", "PUBLISH packets to clients."),
    dropped: metrics.counter("sluice_messages_dropped_total", "QoS 0 messages dropped, by reason."),
    refused: metrics.counter(
      "sluice_publishes_refused_total",
      "PUBLISH packets refused, by reason.",
    ),
    failed: metrics.counter("sluice_client_failures_total", "Connections that ended by a fault."),
  };
}

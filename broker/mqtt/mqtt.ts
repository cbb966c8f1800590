// mqtt: one MQTT broker: listeners, clients, sessions, access, custody, routing.
// Path: listeners → client → session → access → custody → routing. Touches: sockets, through listeners.

import type { Duplex } from "node:stream";
import { Aedes, type AedesOptions } from "aedes";
import type { Message } from "#contract/message";
import type { Custody, SessionStore } from "#contract/session";
import { wait } from "#runtime/backoff";
import { steadyNowMs } from "#runtime/clock";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import type { Settings } from "#runtime/settings-schema";
import { Users } from "#runtime/users";
import { Access } from "./access.ts";
import { Admission } from "./admission.ts";
import { Aftermath } from "./aftermath.ts";
import { Brokers } from "./brokers.ts";
import { Claims } from "./claims.ts";
import { Client, type Host } from "./client.ts";
import { type Counters, countersOf } from "./counters.ts";
import { Crowding } from "./crowding.ts";
import { type Listeners, openListeners } from "./listeners.ts";
import { Notices } from "./notices.ts";
import { FlushTurn } from "./output.ts";
import type { Entrance, Peer } from "./reception.ts";
import { Retained } from "./retained.ts";
import { type Order, type Recipient, Routing } from "./routing.ts";
import { Sessions } from "./sessions.ts";
import { SparingLog } from "./sparing-log.ts";
import { Subscribing } from "./subscribing.ts";
import { Subscriptions } from "./subscriptions.ts";
import { type SysTopicsOptions, startSysTopics } from "./sys-topics.ts";
import { Gathering } from "./wire/packet-reader.ts";
import { REASON } from "./wire/reason-codes.ts";

/** How often deadlines are looked at: of connections, of sessions, of brokers that are silent. */
const TICK_MS = 500;
const HEARTBEAT_MS = 5_000;
/** A broker of the cluster that was silent for longer is dead. */
const SILENT_MS_MAX = 3 * HEARTBEAT_MS;
/** How long clients may take to hear that the broker stops. */
const CLOSE_MS_MAX = 2_500;
const EXPIRED_SWEEP_MS = 60_000;

export interface MqttOptions {
  readonly settings: Pick<Settings, "listeners" | "limits" | "access">;
  /** This broker's own among those of its cluster; a gateway's is the same after a restart. */
  readonly brokerId: string;
  readonly store: SessionStore;
  readonly custody: Custody;
  /** Carries messages to every broker of the cluster; in process where there is none. */
  readonly emitter?: object;
  /** Why this role refuses a client's topic or filter; undefined where it does not. */
  readonly refusal?: (use: "publish" | "subscribe", topic: string) => string | undefined;
  /** Why clients cannot be served now; undefined when they can. */
  readonly unavailable: () => string | undefined;
  /** Why a balancer should take clients away from here; undefined: when they cannot be served. */
  readonly unwell?: () => string | undefined;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** A running broker. */
export class Mqtt {
  readonly #options: MqttOptions;
  readonly #limits: Settings["limits"];
  readonly #aedes: Aedes;
  readonly #access: Access;
  readonly #routing: Routing;
  readonly #sessions: Sessions;
  readonly #notices: Notices;
  readonly #retained = new Retained();
  readonly #crowding = new Crowding({
    tell: () => {
      // A moment without it harms nobody who was not lost anyway.
      Promise.resolve(this.#routing.notify({ kind: "crowded" })).catch(() => {});
    },
    nowMs: () => performance.now(),
  });
  readonly #gathering: Gathering;
  readonly #admission: Admission;
  readonly #clients = new Set<Client>();
  readonly #host: Host;
  readonly #timers: NodeJS.Timeout[] = [];
  #listeners: Listeners | undefined;
  #stopStatistics: () => void = () => {};

  private constructor(options: MqttOptions, aedes: Aedes) {
    const { settings, log, metrics, store, brokerId } = options;
    const { limits } = settings;
    this.#options = options;
    this.#limits = limits;
    this.#aedes = aedes;
    this.#gathering = new Gathering(limits.unfinished_bytes_max);
    const onBroken = (why: string) => log.error({ why }, "users file: the last good one stays");
    const openUsers = (path: string) => new Users(path, onBroken);
    this.#access = new Access({ settings: settings.access, openUsers, log, metrics });
    this.#admission = new Admission({
      access: this.#access,
      limits,
      retained: this.#retained,
      refusal: (topic) => options.refusal?.("publish", topic),
    });
    const subscriptions = new Subscriptions<Recipient>();
    const brokers = new Brokers({
      brokerId,
      silentMsMax: SILENT_MS_MAX,
      now: () => performance.now(),
    });
    const failures = new SparingLog((line) => log.error(line, "a message was not handed over"));
    const custody = this.#custodyOfAll();
    this.#routing = new Routing({
      aedes,
      subscriptions,
      custody,
      retain: (message) => this.#retained.set(message),
      noticed: (notice, from) => {
        if (notice.kind === "crowded") this.#crowding.heard();
        else this.#notices.noticed(notice, from);
      },
      heard: (from) => {
        if (brokers.heard(from)) this.#sessions.announceShared();
      },
      failed: (fault) => failures.tellFault(fault),
    });
    const claims = new Claims({ brokerId, routing: this.#routing });
    const aftermath = this.#createAftermath();
    const parts = { brokerId, routing: this.#routing, brokers, claims, aftermath };
    this.#sessions = new Sessions({
      ...parts,
      store,
      subscriptions,
      limits,
      rightsOf: (identity) => this.#access.rightsOf(identity),
    });
    this.#notices = new Notices({ ...parts, sessions: this.#sessions, log });
    const counts = countersOf(metrics);
    const subscribing = new Subscribing({
      sessions: this.#sessions,
      subscriptions,
      retained: this.#retained,
      custody,
      limits,
      refusal: (filter) => options.refusal?.("subscribe", filter),
      refused: counts.subscriptionRefused,
    });
    this.#host = this.#createHost(subscribing, counts);
    this.#registerGauges(subscriptions);
  }

  /** Opens the listeners last, when everything behind them is ready. */
  static async start(options: MqttOptions): Promise<Mqtt> {
    const aedes = await Aedes.createBroker({
      id: options.brokerId,
      heartbeatInterval: HEARTBEAT_MS,
      ...(options.emitter ? { mq: options.emitter } : {}),
    } as AedesOptions);
    const mqtt = new Mqtt(options, aedes);
    await mqtt.#open();
    return mqtt;
  }

  get addresses(): readonly string[] {
    return this.#listeners?.addresses ?? [];
  }

  /** Clients that are connected here. */
  get connections(): number {
    return this.#sessions.connected;
  }

  /**
   * Publishes in the broker's own name, or for the cloud by its command; resolves when it is in
   * custody and handed on.
   */
  async publish(message: Message, command?: string): Promise<void> {
    await this.#routing.publish(message, { last: undefined }, undefined, command);
  }

  /**
   * A publisher in the broker's own name: its messages need not wait for each other to keep their
   * order, and behind one that fails none is handed on. undefined: done already.
   */
  publisher(): (message: Message) => Promise<void> | undefined {
    const order: Order = { last: undefined, endsAtFault: true };
    return (message) => this.#routing.publish(message, order);
  }

  /** A moment for clients that cannot keep up, before more is handed on in bulk; undefined: none. */
  hold(): Promise<void> | undefined {
    return this.#crowding.hold();
  }

  /** Publishes what `read` says on $SYS/broker/…, for as long as the broker runs. */
  publishStatistics(read: SysTopicsOptions["read"]): void {
    this.#stopStatistics = startSysTopics({ read, publish: (message) => this.publish(message) });
  }

  /** Other brokers may have said what passed us by: reads what is kept again. */
  async readAnew(): Promise<void> {
    await this.#retained.readAnew(this.#options.store.retained());
    await this.#sessions.readAnew();
    await this.#routing.notify({ kind: "born" });
  }

  /** Ends every client's connection: they come back, and find in their queues what they missed. */
  disconnectAll(why: string): void {
    this.#options.log.info({ why }, "clients disconnected");
    for (const client of this.#clients) client.end(REASON.serverBusy, why);
  }

  /**
   * What can change without a restart; connected clients stay, with the new rights.
   * @throws SluiceError when the files cannot be used, with nothing changed.
   */
  reload(settings: MqttOptions["settings"]): void {
    // All files are read before anything changes.
    const applyListeners = this.#listeners?.prepare(settings.listeners);
    const applyAccess = this.#access.prepare(settings.access);
    applyListeners?.();
    applyAccess();
    this.#sessions.judgeAnew();
  }

  /** Stops accepting, tells the clients, and sees to what their connections leave behind. */
  async close(): Promise<void> {
    this.#stopStatistics();
    await this.#listeners?.close();
    for (const client of this.#clients) client.end(REASON.serverShuttingDown, "the broker stops");
    const until = performance.now() + CLOSE_MS_MAX;
    while (this.#clients.size > 0 && performance.now() < until) await wait(TICK_MS / 50);
    for (const timer of this.#timers) clearInterval(timer);
    await this.#sessions.close();
    await new Promise<void>((resolve) => this.#aedes.close(resolve));
  }

  async #open(): Promise<void> {
    const { settings, store, log, metrics } = this.#options;
    await this.#routing.listen();
    await this.#retained.readAnew(store.retained());
    await this.#sessions.open();
    await this.#routing.notify({ kind: "born" });
    const tick = () => {
      const nowMs = performance.now();
      for (const client of this.#clients) client.tick(nowMs);
      this.#notices.sweep();
      this.#sessions.sweep();
    };
    this.#timers.push(
      setInterval(tick, TICK_MS),
      setInterval(() => this.#retained.dropExpired(steadyNowMs()), EXPIRED_SWEEP_MS),
    );
    this.#listeners = await openListeners({
      listeners: settings.listeners,
      limits: settings.limits,
      log,
      metrics,
      accept: (stream, peer, entrance) => this.#accept(stream, peer, entrance),
    });
  }

  #accept(stream: Duplex, peer: Peer, entrance: Entrance): void {
    this.#clients.add(new Client(stream, peer, entrance, this.#host));
  }

  #createAftermath(): Aftermath {
    const { brokerId, store, log } = this.#options;
    return new Aftermath({
      brokerId,
      store,
      routing: this.#routing,
      publish: (will) => this.publish(this.#admission.retainable(will)),
      forget: (clientId) => this.#sessions.forget(clientId),
      log,
    });
  }

  #createHost(subscribing: Subscribing, counts: Counters): Host {
    const { log, store, unavailable, unwell = unavailable } = this.#options;
    return {
      limits: this.#limits,
      serverReference: () => this.#access.serverReference,
      turn: new FlushTurn(),
      gathering: this.#gathering,
      sessions: this.#sessions,
      subscribing,
      log,
      counts,
      unavailable,
      unwell,
      admission: this.#admission,
      publish: (message, order, incoming) =>
        this.#admission.retaining(message, () => this.#routing.publish(message, order, incoming)),
      crowded: () => this.#crowding.felt(),
      queueOf: ({ clientId }) => store.queue(clientId),
      ended: (client, why) => {
        this.#clients.delete(client);
        log.debug({ client: client.clientId, ip: client.peer.ip, why }, "connection over");
      },
    };
  }

  /** Statistics of the broker itself are retained in memory alone. */
  #custodyOfAll(): Custody {
    const { custody } = this.#options;
    return {
      take(taking) {
        const { message } = taking;
        const isOurs = message.retain && message.topic.startsWith("$SYS/");
        return custody.take(
          isOurs ? { ...taking, message: { ...message, retain: false } } : taking,
        );
      },
      queue: (message, queues) => custody.queue(message, queues),
    };
  }

  #registerGauges(subscriptions: Subscriptions<Recipient>): void {
    const { metrics } = this.#options;
    const gauge = (name: string, help: string, read: () => number) =>
      metrics.gauge(`sluice_${name}`, help, read);
    const limit = (name: string, help: string, read: () => number) =>
      gauge(`limit_${name}`, `The limit: ${help}`, read);
    gauge("sessions", "Sessions, their clients connected or away.", () => this.#sessions.count);
    limit("sessions", "sessions.", () => this.#limits.sessions_max);
    gauge(
      "inflight_messages_most",
      "Under way to the client that has most.",
      () => this.#sessions.inFlightMost,
    );
    limit(
      "inflight_messages",
      "messages under way to one client.",
      () => this.#limits.inflight_messages_max,
    );
    gauge("subscriptions", "Subscriptions of all sessions.", () => subscriptions.count);
    gauge("subscriptions_bytes", "What subscriptions take.", () => subscriptions.bytes);
    limit("subscriptions_bytes", "their bytes.", () => this.#limits.subscriptions_bytes_max);
    gauge("unfinished_bytes", "Packets that have not all come.", () => this.#gathering.bytes);
    limit("unfinished_bytes", "their bytes.", () => this.#limits.unfinished_bytes_max);
    gauge("retained_messages", "Retained messages.", () => this.#retained.count);
    limit("retained_messages", "retained messages.", () => this.#limits.retained_messages_max);
    gauge("retained_bytes", "What retained messages take.", () => this.#retained.bytes);
    limit("retained_bytes", "their bytes.", () => this.#limits.retained_bytes_max);
  }
}

// cluster: what makes several brokers one: sessions, queues and messages shared over Redis.
// Path: mqtt → [cluster] → cluster Redis → the other brokers. Touches: the cluster Redis.

import type { Redis } from "ioredis";
import { reasonOf } from "#contract/errors";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { createRedis, explainRedis } from "#runtime/redis";
import type { RedisSettings } from "#runtime/settings-schema";
import { Bus } from "./bus.ts";
import { ClusterSessions, type ClusterSessionsOptions } from "./sessions.ts";

const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 5_000;
/**
 * How long clients may stay at a broker that is cut off: it may yet read on as if nothing had been.
 * After 15 s the others take it for dead.
 */
const CUT_OFF_MS_MAX = 10_000;

export interface ClusterOptions {
  readonly settings: RedisSettings;
  readonly sessions: ClusterSessionsOptions;
  readonly log: Log;
  readonly metrics: Metrics;
}

/**
 * The shared half of a cloud broker. A connection that breaks costs nothing but the time until it is
 * back: the bus reads on where it was. Only when that cannot be, or Redis itself has begun anew and
 * may have forgotten its last second, what is kept must be read again, and clients must connect anew.
 */
export class Cluster {
  /** Sessions, queues and retained messages, and custody of what is published. */
  readonly sessions: ClusterSessions;
  /** Brings live messages to every broker; has the surface of an mqemitter. */
  readonly emitter: Bus;
  readonly #log: Log;
  readonly #connections: readonly Redis[];
  readonly #countLost: () => void;
  readonly #begun = Promise.withResolvers<void>();
  #why: string | undefined = "connecting to the cluster Redis";
  #onLost: (why: string) => void = () => {};
  #onBack: () => Promise<void> = async () => {};
  /** Which run of Redis each connection is to. */
  readonly #runOf = new Map<Redis, string>();
  /** The runs that what this broker knows comes from; undefined: it knows nothing yet. */
  #runs: string | undefined;
  /** Why what is kept must be read anew, until it has been. */
  #lost: string | undefined;
  #isLossTold = false;
  #working: Promise<void> = Promise.resolve();
  #turn = 0;
  #cutOffSinceMs: number | undefined;

  constructor({ settings, sessions, log, metrics }: ClusterOptions) {
    const store = createRedis(settings, "strict");
    const publisher = createRedis(settings, "strict");
    const reader = createRedis(settings, "strict");
    this.#log = log;
    this.#connections = [store, publisher, reader];
    this.#countLost = metrics.counter(
      "sluice_bus_holes_total",
      "Times that messages of the bus may have been missed, and all was read anew.",
    );
    this.sessions = new ClusterSessions(store, sessions);
    const lost = (why: string) => this.#missed(why);
    const foreign = foreignMessages(log, metrics);
    const silent = () => {
      for (const connection of this.#connections) connection.disconnect(true);
    };
    this.emitter = new Bus({ publisher, reader, foreign, lost, silent, metrics });
    for (const connection of this.#connections) {
      connection.on("error", (cause) => this.#failed(explainRedis(cause)));
      connection.on("close", () => {
        this.#cutOffSinceMs ??= performance.now();
      });
      connection.on("ready", () => {
        this.#runOf.delete(connection);
        this.#recover();
      });
    }
  }

  /** Resolves at the first connection to the cluster Redis, however long that takes. */
  async connected(): Promise<void> {
    // A first try that fails is followed by others, in the background.
    for (const connection of this.#connections) connection.connect().catch(() => {});
    await this.#begun.promise;
  }

  /** `listener` runs when messages have passed us by: what clients were sent is not all. */
  onLost(listener: (why: string) => void): void {
    this.#onLost = listener;
  }

  /** `listener` runs after that, when messages are heard again, and catches up with what is kept. */
  onBack(listener: () => Promise<void>): void {
    this.#onBack = listener;
  }

  /** Why clients cannot be served by the cluster now; undefined when they can. */
  unavailable(): string | undefined {
    return this.#isReady() ? this.#why : (this.#why ?? "the cluster Redis closed the connection");
  }

  /** Why clients should go to another broker; undefined also while that is too early to say. */
  unwell(): string | undefined {
    const sinceMs = this.#cutOffSinceMs;
    if (sinceMs === undefined || performance.now() - sinceMs < CUT_OFF_MS_MAX) return undefined;
    return this.unavailable();
  }

  close(): void {
    this.#turn += 1;
    for (const connection of this.#connections) connection.disconnect();
  }

  /** Without the store there is no custody, without the bus no live message. */
  #isReady(): boolean {
    return this.#connections.every(({ status }) => status === "ready");
  }

  #failed(why: string): void {
    if (why !== this.#why) this.#log.warn({ why }, "cluster Redis");
    this.#why = why;
  }

  #missed(why: string): void {
    this.#lost ??= why;
    this.#recover();
  }

  /** One recovery at a time; one that was begun before the last event says nothing of now. */
  #recover(): void {
    if (!this.#isReady()) return;
    this.#why = "catching up with the cluster";
    const turn = ++this.#turn;
    this.#working = this.#working.then(() => this.#catchUp(turn));
  }

  async #catchUp(turn: number): Promise<void> {
    for (let attempt = 0; turn === this.#turn && this.#isReady(); attempt += 1) {
      try {
        await this.#step();
        if (turn !== this.#turn) return;
        this.#why = undefined;
        this.#cutOffSinceMs = undefined;
        this.#begun.resolve();
        return;
      } catch (fault) {
        // A connection that broke comes back with an event; Redis may also still be loading.
        if (turn === this.#turn) this.#failed(explainRedis(fault));
        await wait(backoffMs(attempt, RETRY_MS_LEAST, RETRY_MS_MOST));
      }
    }
  }

  async #step(): Promise<void> {
    const runs = await this.#seenRuns();
    const isFirst = this.#runs === undefined;
    if (isFirst) await this.emitter.begin();
    else if (runs !== this.#runs) this.#lost ??= "the cluster Redis has begun anew";
    else if (!this.#lost && !(await this.emitter.resume())) {
      this.#lost = "the bus does not go on where this broker was cut off";
    }
    this.#runs = runs;
    if (this.#lost) await this.#readAnew(this.#lost);
  }

  async #readAnew(why: string): Promise<void> {
    if (!this.#isLossTold) {
      this.#isLossTold = true;
      this.#log.warn({ why }, "messages of the cluster may have been missed");
      this.#countLost();
      this.#onLost(why);
    }
    await this.emitter.begin();
    await this.#onBack();
    this.#isLossTold = false;
    this.#lost = undefined;
  }

  /**
   * Redis gives itself a new id at each start; a replica that takes over has another one, too. Each
   * connection is asked once, when it is new: the reader's answers nothing while it waits.
   */
  async #seenRuns(): Promise<string> {
    const asked = this.#connections.map(async (redis) => {
      const run = this.#runOf.get(redis) ?? /^run_id:(\w+)/m.exec(await redis.info("server"))?.[1];
      if (run !== undefined) this.#runOf.set(redis, run);
      return run;
    });
    return (await Promise.all(asked)).join(" ");
  }
}

/** Counts what is on the bus and no broker's; the log hears of the first, not of a flood. */
function foreignMessages(log: Log, metrics: Metrics): (why: unknown) => void {
  const count = metrics.counter(
    "sluice_cluster_foreign_messages_total",
    "Messages on the cluster's bus that no broker can have sent.",
  );
  let isTold = false;
  return (why) => {
    count();
    if (!isTold) log.warn({ why: reasonOf(why) }, "somebody else writes to the cluster's bus");
    isTold = true;
  };
}

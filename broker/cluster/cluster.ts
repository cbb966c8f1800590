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

export interface ClusterOptions {
  readonly settings: RedisSettings;
  readonly sessions: ClusterSessionsOptions;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** The shared half of a cloud broker. */
export class Cluster {
  /** Sessions, queues and retained messages, and custody of what is published. */
  readonly sessions: ClusterSessions;
  /** Brings live messages to every broker; has the surface of an mqemitter. */
  readonly emitter: Bus;
  readonly #store: Redis;
  readonly #subscriber: Redis;
  readonly #connections: readonly Redis[];
  #why: string | undefined = "connecting to the cluster Redis";
  #onLost: (why: string) => void = () => {};
  #onBack: () => Promise<void> = async () => {};
  #turn = 0;

  constructor({ settings, sessions, log, metrics }: ClusterOptions) {
    this.#store = createRedis(settings, "strict");
    const publisher = createRedis(settings, "patient");
    this.#subscriber = createRedis(settings, "patient");
    this.#connections = [this.#store, publisher, this.#subscriber];
    for (const connection of this.#connections) {
      connection.on("error", (cause) => this.#failed(explainRedis(cause), log));
      connection.on("ready", () => this.#recovered());
    }
    // While this connection is down, live messages pass us by: PUBLISH waits for nobody.
    this.#subscriber.on("close", () => this.#onLost(this.#lostWhy()));
    this.sessions = new ClusterSessions(this.#store, sessions);
    this.emitter = new Bus(publisher, this.#subscriber, foreignMessages(log, metrics));
  }

  /** Resolves at the first connection to the cluster Redis, however long that takes. */
  async connected(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => firstAnswer(connection)));
  }

  /** `listener` runs each time when messages of the other brokers may have passed us by. */
  onLost(listener: (why: string) => void): void {
    this.#onLost = listener;
  }

  /** `listener` runs when all connections are there again, and catches up with what was missed. */
  onBack(listener: () => Promise<void>): void {
    this.#onBack = listener;
  }

  /** Why clients cannot be served by the cluster now; undefined when they can. */
  unavailable(): string | undefined {
    return this.#isReady() ? this.#why : this.#lostWhy();
  }

  /** Ends the connections that mqemitter-redis does not end by itself. */
  close(): void {
    for (const connection of this.#connections) connection.disconnect();
  }

  /** Without the store there is no custody, without the subscriber no live message. */
  #isReady(): boolean {
    return this.#store.status === "ready" && this.#subscriber.status === "ready";
  }

  #lostWhy(): string {
    return this.#why ?? "the cluster Redis closed the connection";
  }

  #failed(why: string, log: Log): void {
    if (why !== this.#why) log.warn({ why }, "cluster Redis");
    this.#why = why;
  }

  #recovered(): void {
    if (!this.#isReady()) return;
    this.#why = "catching up with the cluster";
    const turn = ++this.#turn;
    const settle = (why: string | undefined) => {
      // One that was begun before Redis went away once more says nothing of now.
      if (turn === this.#turn) this.#why = why;
    };
    this.#onBack().then(
      () => settle(undefined),
      (fault) => settle(reasonOf(fault)),
    );
  }
}

async function firstAnswer(connection: Redis): Promise<void> {
  // A first try that fails is followed by others, in the background.
  await connection.connect().catch(() => {});
  for (let attempt = 0; ; attempt += 1) {
    try {
      await connection.ping();
      return;
    } catch {
      // Not there yet, or a refused password; the error event has told why.
      await wait(backoffMs(attempt, RETRY_MS_LEAST, RETRY_MS_MOST));
    }
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
    if (!isTold) log.warn({ why: reasonOf(why) }, "somebody else publishes to the cluster Redis");
    isTold = true;
  };
}

// cluster: what makes several brokers one: sessions, queues and messages shared over Redis.
// Path: mqtt → [cluster] → cluster Redis → the other brokers. Touches: the cluster Redis.

import aedesPersistenceRedis from "aedes-persistence-redis";
import type { Redis } from "ioredis";
import mqemitterRedis from "mqemitter-redis";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import { createRedis, explainRedis } from "#runtime/redis";
import type { RedisSettings } from "#runtime/settings-schema";

/** aedes-persistence-redis sends a session this many queued messages when it reconnects. */
const SESSION_DELIVERY_MESSAGES_MAX = 100_000;
/** ioredis keeps the order of commands on one connection, so several may be under way. */
export const CLUSTER_PERSISTENT_WRITES_MAX = 32;

const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 5_000;

/** What mqemitter-redis cannot tell from its own patterns, and what its tables inherit. */
const UNSAFE_IN_FILTER = /[*?[\]\\]/;
const UNSAFE_NAMES = new Set(["constructor", "__proto__", "toString", "hasOwnProperty", "valueOf"]);

/** The shared half of a cloud broker. */
export class Cluster {
  readonly persistence: object;
  readonly emitter: object;
  readonly #connections: readonly Redis[];
  readonly #subscriber: Redis;
  #why: string | undefined = "connecting to the cluster Redis";
  #onLost: (why: string) => void = () => {};

  constructor(settings: RedisSettings, log: Log) {
    const [store, publisher, subscriber] = [1, 2, 3].map(() =>
      createRedis(settings, "patient"),
    ) as [Redis, Redis, Redis];
    this.#connections = [store, publisher, subscriber];
    this.#subscriber = subscriber;
    for (const connection of this.#connections) {
      connection.on("error", (cause) => this.#failed(explainRedis(cause), log));
    }
    // While this connection is down, live messages pass us by: PUBLISH waits for nobody.
    subscriber.on("close", () =>
      this.#onLost(this.#why ?? "the cluster Redis closed the connection"),
    );
    subscriber.on("ready", () => {
      this.#why = undefined;
    });
    this.persistence = aedesPersistenceRedis({
      conn: store,
      maxSessionDelivery: SESSION_DELIVERY_MESSAGES_MAX,
    });
    this.emitter = mqemitterRedis({
      pubConn: publisher,
      subConn: subscriber,
      matchEmptyLevels: true,
    }) as object;
    (this.emitter as { state: NodeJS.EventEmitter }).state.on("error", () => {});
  }

  /** Resolves at the first connection to the cluster Redis, however long that takes. */
  async connected(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => firstAnswer(connection)));
  }

  /** `listener` runs each time when messages of the other brokers may have passed us by. */
  onLost(listener: (why: string) => void): void {
    this.#onLost = listener;
  }

  /** Why the cluster cannot be reached now; undefined when it can. */
  unavailable(): string | undefined {
    if (this.#subscriber.status === "ready") return undefined;
    return this.#why ?? "the cluster Redis closed the connection";
  }

  /** Ends the connections that mqemitter-redis does not end by itself. */
  close(): void {
    for (const connection of this.#connections) connection.disconnect();
  }

  #failed(why: string, log: Log): void {
    if (why !== this.#why) log.warn({ why }, "cluster Redis");
    this.#why = why;
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
      // A refused password; the error event has told why.
      await wait(backoffMs(attempt, RETRY_MS_LEAST, RETRY_MS_MOST));
    }
  }
}

/** Why a filter would silence other subscribers of mqemitter-redis; undefined when it would not. */
export function unsafeFilter(filter: string): string | undefined {
  if (UNSAFE_IN_FILTER.test(filter)) return "the cluster's filters cannot hold * ? [ ] or \\";
  return UNSAFE_NAMES.has(filter) ? "the cluster cannot subscribe to this name" : undefined;
}

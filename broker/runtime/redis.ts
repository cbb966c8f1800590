// redis: connections to a Redis as the settings name it.
// Path: cluster, ingest, uplink. Touches: the network.

import { Redis, type RedisOptions } from "ioredis";
import { reasonOf, SluiceError } from "#contract/errors";
import { readSecret, readTlsFiles } from "./files.ts";
import { isClockPlausible } from "./machine.ts";
import type { RedisSettings } from "./settings-schema.ts";

const CONNECT_MS_MAX = 10_000;
const KEEPALIVE_MS = 15_000;
const RECONNECT_MS_MOST = 2_000;

/**
 * How a connection behaves when it breaks.
 * - `patient` queues commands and repeats what was under way once it is back: for libraries.
 * - `strict` refuses commands until it is back, and repeats nothing: whoever must know what Redis
 *   holds asks anew.
 * - `single` ends; the caller opens another one.
 */
export type Temper = "patient" | "strict" | "single";

const TEMPERS: Record<Temper, RedisOptions> = {
  patient: { maxRetriesPerRequest: null, retryStrategy: reconnectMs },
  strict: {
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    retryStrategy: reconnectMs,
  },
  single: {
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    retryStrategy: () => null,
  },
};

function reconnectMs(attempt: number): number {
  return Math.min(100 * 2 ** Math.min(attempt, 10), RECONNECT_MS_MOST);
}

/** A connection that does not connect before connect() is called. */
export function createRedis(
  settings: RedisSettings,
  temper: Temper,
  options: RedisOptions = {},
): Redis {
  const url = new URL(settings.url);
  const tls =
    url.protocol === "rediss:"
      ? { ...readTlsFiles(settings), servername: url.hostname }
      : undefined;
  return new Redis({
    host: url.hostname,
    port: Number(url.port || 6379),
    ...loginOf(settings, url),
    ...(tls ? { tls } : {}),
    connectTimeout: CONNECT_MS_MAX,
    keepAlive: KEEPALIVE_MS,
    lazyConnect: true,
    // Users with few rights may not run INFO, which the check needs; a loading Redis says so itself.
    enableReadyCheck: false,
    // ioredis 5.11 takes a connection for ready when it ends before Redis has taken the client's
    // name and version, and never opens it again.
    disableClientInfo: true,
    ...TEMPERS[temper],
    ...options,
  });
}

/** Without a password there is no login: Redis would refuse even the name of its default user. */
function loginOf(settings: RedisSettings, url: URL): RedisOptions {
  if (!settings.password_file) return {};
  const password = readSecret(settings.password_file);
  return url.username ? { username: decodeURIComponent(url.username), password } : { password };
}

/** A connection that is open and logged in, with why it was lost, once it is. */
export interface OpenRedis {
  readonly redis: Redis;
  readonly lostWhy: () => string;
}

/**
 * Opens a `single` connection. @throws SluiceError ACCESS_DENIED or CLOUD_UNREACHABLE, beginning
 * with `whose`, with the reason that came first.
 */
export async function openRedis(
  whose: string,
  settings: RedisSettings,
  options: RedisOptions = {},
): Promise<OpenRedis> {
  const redis = createRedis(settings, "single", options);
  // ioredis tells the reason in an event, and rejects commands with what followed from it.
  let why: string | undefined;
  redis.on("error", (cause) => {
    why ??= explainRedis(cause);
  });
  try {
    await redis.connect();
    // A refused password shows in the answer to a command only.
    await redis.ping();
    return { redis, lostWhy: () => why ?? `${whose} closed the connection` };
  } catch (cause) {
    redis.disconnect();
    throw redisFailure(whose, why ?? explainRedis(cause), cause);
  }
}

/** Runs a command; @throws SluiceError ACCESS_DENIED or CLOUD_UNREACHABLE, beginning with `whose`. */
export async function askRedis<T>(whose: string, command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } catch (cause) {
    throw redisFailure(whose, explainRedis(cause), cause);
  }
}

/** Did Redis itself say so? Otherwise the connection broke, and the command was carried out or not. */
export function isRedisAnswer(cause: unknown): boolean {
  return cause instanceof Error && cause.name === "ReplyError";
}

/** The typed error for `why`, as explainRedis tells it. */
export function redisFailure(whose: string, why: string, cause: unknown): SluiceError {
  const isDenied = /WRONGPASS|NOAUTH|NOPERM/.test(why);
  const code = isDenied ? "ACCESS_DENIED" : "CLOUD_UNREACHABLE";
  return new SluiceError(code, `${whose}: ${why}`, { cause });
}

/** Did Redis refuse a write because it has reached its maxmemory? */
export function isOutOfMemory(cause: unknown): boolean {
  return reasonOf(cause).startsWith("OOM ");
}

/** What an operator can act on, from what Redis, TLS or the network said. */
export function explainRedis(cause: unknown, nowMs: number = Date.now()): string {
  const text = reasonOf(cause);
  const code = (cause as { code?: string } | undefined)?.code ?? "";
  if (/WRONGPASS|NOAUTH/.test(text)) return `Redis refuses the user or the password (${text})`;
  if (/NOPERM/.test(text)) return `Redis refuses the right (${text})`;
  if (isOutOfMemory(cause)) return "Redis has no memory left for it (maxmemory is reached)";
  if (/Function not found/i.test(text)) {
    return "the landing has no function library yet: no cloud broker has loaded it";
  }
  if (/CERT_NOT_YET_VALID|CERT_HAS_EXPIRED/.test(code) && !isClockPlausible(nowMs)) {
    const now = new Date(nowMs).toISOString();
    return `the clock says ${now}, so no certificate is valid: waiting for the time to be set`;
  }
  return code && !text.includes(code) ? `${text} (${code})` : text;
}

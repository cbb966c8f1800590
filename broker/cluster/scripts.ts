// scripts: the steps that the cluster Redis takes as one, each in one round trip.
// Path: sessions, queue → [scripts] → cluster Redis. Touches: the cluster Redis.

import { createHash } from "node:crypto";
import type { Redis } from "ioredis";
import { wait } from "#runtime/backoff";
import { askRedis, isRedisAnswer } from "#runtime/redis";
import { ENTRY_FIELDS, SESSION_FIELDS } from "./keys.ts";

type Args = readonly (string | Buffer | number)[];

/** A Lua script, and the name under which Redis holds it. */
interface Script {
  readonly lua: string;
  readonly sha: string;
}

function script(lua: string): Script {
  return { lua, sha: createHash("sha1").update(lua).digest("hex") };
}

const { document, broker, count, bytes, newest } = SESSION_FIELDS;

export const SCRIPTS = {
  /**
   * KEYS sessions session, ARGV client id, document, id of the broker that its client is at or '',
   * and of the one that it was at, or '' for any. Answers 0 when it is at another one by now.
   */
  save: script(`
local at = redis.call('HGET', KEYS[2], '${broker}')
if ARGV[4] ~= '' and at and at ~= '' and at ~= ARGV[4] then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], '${document}', ARGV[2], '${broker}', ARGV[3])
redis.call('HSETNX', KEYS[2], '${count}', 0)
redis.call('HSETNX', KEYS[2], '${bytes}', 0)
redis.call('HSETNX', KEYS[2], '${newest}', 0)
return 1`),

  /**
   * KEYS sessions session queue released incoming, ARGV client id, id of the broker that its client
   * was at, or '' for any: one that is at another by now is not ours. UNLINK frees in the background.
   */
  forget: script(`
local at = redis.call('HGET', KEYS[2], '${broker}')
if ARGV[2] ~= '' and at and at ~= '' and at ~= ARGV[2] then return end
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5])`),

  /**
   * KEYS retained, the publisher's session and incoming, then session and queue of each target.
   * ARGV record, topic, 'keep' or 'clear' or '', packet id or '', the publisher's broker or '', most
   * messages, most bytes, then the head for each target. Answers 'taken', or why nothing changed:
   * 'repeat', or 'moved' when the publisher is at another broker by now; then the places of the
   * targets over their limit, and of those that have no session.
   */
  take: script(`
local record, topic, retain, packet_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local messages_max, bytes_max = tonumber(ARGV[6]), tonumber(ARGV[7])
local refused, missing = {}, {}
if packet_id ~= '' then
  local at = redis.call('HGET', KEYS[2], '${broker}')
  if ARGV[5] ~= '' and at ~= ARGV[5] then return {'moved', refused, missing} end
  if at and redis.call('SADD', KEYS[3], packet_id) == 0 then return {'repeat', refused, missing} end
end
if retain == 'keep' then redis.call('HSET', KEYS[1], topic, record) end
if retain == 'clear' then redis.call('HDEL', KEYS[1], topic) end
for place = 0, #ARGV - 8 do
  local session, queue = KEYS[4 + 2 * place], KEYS[5 + 2 * place]
  local held = redis.call('HMGET', session, '${count}', '${bytes}')
  if not held[1] then
    missing[#missing + 1] = place
  elseif held[1] + 1 > messages_max or held[2] + #record > bytes_max then
    refused[#refused + 1] = place
  else
    local id = redis.call('XADD', queue, '0-*',
      '${ENTRY_FIELDS.record}', record, '${ENTRY_FIELDS.head}', ARGV[8 + place])
    redis.call('HSET', session, '${count}', held[1] + 1, '${bytes}', held[2] + #record,
      '${newest}', string.sub(id, 3))
  end
end
return {'taken', refused, missing}`),

  /**
   * KEYS queue released, ARGV number to begin behind, most entries, most bytes. Answers whether
   * there may be more messages, the released numbers, and the stream's entries.
   */
  read: script(`
local count_max, bytes_max = tonumber(ARGV[2]), tonumber(ARGV[3])
local entries, bytes, from, more = {}, 0, '(0-' .. ARGV[1], true
while more do
  local wanted = math.min(16, count_max - #entries)
  local batch = wanted > 0 and redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', wanted) or {}
  for _, entry in ipairs(batch) do
    bytes = bytes + #entry[2][2]
    if bytes > bytes_max and #entries > 0 then wanted = 0 break end
    entries[#entries + 1] = entry
    from = '(' .. entry[1]
  end
  if wanted == 0 then break end
  more = #batch == wanted
end
local released = redis.call(
  'ZRANGE', KEYS[2], '(' .. ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, count_max)
return {more and 1 or 0, released, entries}`),

  /** KEYS session queue released, ARGV number. */
  release: script(`
local id = '0-' .. ARGV[1]
local entry = redis.call('XRANGE', KEYS[2], id, id)[1]
if not entry then return end
redis.call('XDEL', KEYS[2], id)
redis.call('ZADD', KEYS[3], ARGV[1], ARGV[1])
redis.call('HINCRBY', KEYS[1], '${bytes}', -#entry[2][2])`),

  /** KEYS session queue released, ARGV number. */
  remove: script(`
local id = '0-' .. ARGV[1]
local entry = redis.call('XRANGE', KEYS[2], id, id)[1]
if entry then
  redis.call('XDEL', KEYS[2], id)
  redis.call('HINCRBY', KEYS[1], '${bytes}', -#entry[2][2])
elseif redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then
  return
end
redis.call('HINCRBY', KEYS[1], '${count}', -1)`),
} as const;

/** What ioredis has, and its types do not name. */
type BufferScripting = Redis & {
  evalshaBuffer(sha: string, keyCount: number, ...args: unknown[]): Promise<unknown>;
};

/** How long a step that may be repeated waits for a connection that broke. */
const PATIENT_MS_MAX = 5_000;
const LOADING_MS = 100;

/**
 * Runs scripts on one connection, which must not repeat commands by itself. They are loaded each
 * time that it comes up, before anything else is sent: a script that is loaded only when Redis asks
 * for it is overtaken by the next command, and messages would change their order.
 */
export class Scripts {
  readonly redis: Redis;
  /** Those that wait for the connection, in their order. */
  #waiting: (() => void)[] = [];

  constructor(redis: Redis) {
    this.redis = redis;
    redis.on("ready", () => {
      this.#load();
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const goOn of waiting) goOn();
    });
  }

  /**
   * Runs a step once. Answers as Redis does, texts as Buffers.
   * @throws SluiceError CLOUD_UNREACHABLE: it may have been taken or not; ACCESS_DENIED
   */
  run(script: Script, keys: readonly string[], args: Args): Promise<unknown> {
    return askRedis("cluster Redis", () => this.#evaluate(script, keys, args));
  }

  /**
   * As run, of a step that may be taken twice: a connection that breaks for a moment delays it.
   */
  runSurely(script: Script, keys: readonly string[], args: Args): Promise<unknown> {
    return this.#patiently(() => this.#evaluate(script, keys, args));
  }

  /**
   * Runs a plain command that changes nothing the second time.
   * @throws SluiceError CLOUD_UNREACHABLE, ACCESS_DENIED
   */
  ask<T>(command: (redis: Redis) => Promise<T>): Promise<T> {
    return this.#patiently(() => command(this.redis));
  }

  async #evaluate({ sha }: Script, keys: readonly string[], args: Args): Promise<unknown> {
    const redis = this.redis as BufferScripting;
    try {
      return await redis.evalshaBuffer(sha, keys.length, ...keys, ...args);
    } catch (cause) {
      // Somebody flushed the scripts, or Redis was still loading when they were sent.
      if (cause instanceof Error && cause.message.startsWith("NOSCRIPT")) this.#load();
      throw cause;
    }
  }

  #patiently<T>(command: () => Promise<T>): Promise<T> {
    const untilMs = performance.now() + PATIENT_MS_MAX;
    const attempt = async (): Promise<T> => {
      try {
        return await command();
      } catch (cause) {
        const isLoading = cause instanceof Error && cause.message.startsWith("LOADING");
        const leftMs = untilMs - performance.now();
        if (leftMs <= 0 || (isRedisAnswer(cause) && !isLoading)) throw cause;
        await (isLoading ? wait(LOADING_MS) : this.#connected(leftMs));
        return attempt();
      }
    };
    return askRedis("cluster Redis", attempt);
  }

  /** Resolves at the next connection, or when the time is over. */
  async #connected(msMax: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, msMax);
    this.#waiting.push(resolve);
    await promise;
    clearTimeout(timer);
  }

  #load(): void {
    for (const { lua } of Object.values(SCRIPTS)) {
      // What hinders this shows in the next command, which loads them again.
      this.redis.script("LOAD", lua).catch(() => {});
    }
  }
}

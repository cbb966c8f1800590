// scripts: the steps that the cluster Redis takes as one, each in one round trip.
// Path: sessions, takes, queue, removals → [scripts] → cluster Redis. Touches: the cluster Redis.

import { createHash } from "node:crypto";
import type { Redis } from "ioredis";
import type { Taken } from "#contract/session";
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
   * Messages in their order. KEYS retained, then session, queue and incoming of each client that
   * they are from or for. ARGV most messages, most bytes, then the messages, those in a row that are
   * alike said once: how many, 'keep' or 'clear' or '', the place among KEYS of the QoS 2 publisher
   * or 0, how many targets; with a publisher the packet id and its broker or ''; with a verb the
   * topic; for each target its place and the head; the record of each message. Answers what became
   * of each, see TAKE_OUTCOMES; then which targets are over their limit, and which have no session,
   * each as the message's index and its own in that. Out of memory, Redis refuses a script at its
   * first write, and never behind it.
   */
  take: script(`
local messages_max, bytes_max = tonumber(ARGV[1]), tonumber(ARGV[2])
local held, outcomes, refused, missing = {}, {}, {}, {}

local function admit(retain, publisher, packet_id, from, topic, record)
  if publisher > 0 then
    local at = redis.call('HGET', KEYS[publisher], '${broker}')
    if from ~= '' and at ~= from then return '2' end
    if at and redis.call('SADD', KEYS[publisher + 2], packet_id) == 0 then return '1' end
  end
  if retain == 'keep' then redis.call('HSET', KEYS[1], topic, record) end
  if retain == 'clear' then redis.call('HDEL', KEYS[1], topic) end
  return '0'
end

local function size_of(place)
  local size = redis.call('HMGET', KEYS[place], '${count}', '${bytes}')
  return size[1] and {count = tonumber(size[1]), bytes = tonumber(size[2])} or false
end

local function queue(index, target, place, head, record)
  if held[place] == nil then held[place] = size_of(place) end
  local of = held[place]
  if not of then
    missing[#missing + 1] = index
    missing[#missing + 1] = target
  elseif of.count + 1 > messages_max or of.bytes + #record > bytes_max then
    refused[#refused + 1] = index
    refused[#refused + 1] = target
  else
    of.newest = redis.call('XADD', KEYS[place + 1], '0-*',
      '${ENTRY_FIELDS.record}', record, '${ENTRY_FIELDS.head}', head)
    of.count, of.bytes = of.count + 1, of.bytes + #record
  end
end

local at, last = 3, #ARGV
while at <= last do
  local messages, retain = tonumber(ARGV[at]), ARGV[at + 1]
  local publisher, targets = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local packet_id, from, topic
  at = at + 4
  if publisher > 0 then packet_id, from, at = ARGV[at], ARGV[at + 1], at + 2 end
  if retain ~= '' then topic, at = ARGV[at], at + 1 end
  local records = at + 2 * targets
  for message = 0, messages - 1 do
    local index, record = #outcomes, ARGV[records + message]
    local outcome = admit(retain, publisher, packet_id, from, topic, record)
    outcomes[index + 1] = outcome
    for target = 0, outcome == '0' and targets - 1 or -1 do
      queue(index, target, tonumber(ARGV[at + 2 * target]), ARGV[at + 2 * target + 1], record)
    end
  end
  at = records + messages
end
for place, of in pairs(held) do
  if of and of.newest then
    redis.call('HSET', KEYS[place], '${count}', of.count, '${bytes}', of.bytes,
      '${newest}', string.sub(of.newest, 3))
  end
end
return {table.concat(outcomes), refused, missing}`),

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

  /**
   * KEYS session, queue and released of each queue; ARGV for each how many runs of numbers, then the
   * first of each run and the one behind its last. Mostly it is the queue's front: that is cut off.
   */
  remove: script(`
local at = 1
for place = 1, #KEYS, 3 do
  local session, queue, released = KEYS[place], KEYS[place + 1], KEYS[place + 2]
  local count, bytes = 0, 0
  for run = 1, tonumber(ARGV[at]) do
    local first, behind = ARGV[at + 1], ARGV[at + 2]
    at = at + 2
    local entries = redis.call('XRANGE', queue, '0-' .. first, '(0-' .. behind)
    local ids = {}
    for index, entry in ipairs(entries) do
      ids[index] = entry[1]
      bytes = bytes + #entry[2][2]
    end
    count = count + #ids
    if #ids > 0 and redis.call('XRANGE', queue, '-', '+', 'COUNT', 1)[1][1] == ids[1] then
      redis.call('XTRIM', queue, 'MINID', '0-' .. behind)
    elseif #ids > 0 then
      redis.call('XDEL', queue, unpack(ids))
    end
    if #ids < behind - first then
      count = count + redis.call('ZREMRANGEBYSCORE', released, first, '(' .. behind)
    end
  end
  at = at + 1
  if count > 0 then redis.call('HINCRBY', session, '${count}', -count) end
  if bytes > 0 then redis.call('HINCRBY', session, '${bytes}', -bytes) end
end`),
} as const;

/** What SCRIPTS.take answers for a message, by the code of its character: 'moved' has no outcome. */
export const TAKE_OUTCOMES: Readonly<Record<number, Taken>> = {
  [codeOf("0")]: "taken",
  [codeOf("1")]: "repeat",
};

function codeOf(character: string): number {
  return character.charCodeAt(0);
}

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

// queue: what one kept session has not acknowledged, in the cluster Redis.
// Path: mqtt → sessions → [queue] → cluster Redis. Touches: the cluster Redis.

import type { QueuedMessage, QueueTarget, SessionQueue } from "#contract/session";
import { decodeMessage } from "./document.ts";
import { SESSION_FIELDS, type SessionKeys, sessionKeys } from "./keys.ts";
import type { Removals } from "./removals.ts";
import { SCRIPTS, type Scripts } from "./scripts.ts";

/** An entry of a stream as Redis answers it: the id, then names and values in turn. */
type Entry = readonly [id: Buffer, fields: readonly Buffer[]];

/** One session's queue: a stream that numbers its entries 0-1, 0-2, … even after it was emptied. */
export class ClusterQueue implements SessionQueue {
  readonly #scripts: Scripts;
  readonly #removals: Removals;
  readonly #clientId: string;
  readonly #keys: SessionKeys;

  constructor(scripts: Scripts, removals: Removals, clientId: string) {
    this.#scripts = scripts;
    this.#removals = removals;
    this.#clientId = clientId;
    this.#keys = sessionKeys(clientId);
  }

  async read(after: number, countMax: number, bytesMax: number): Promise<QueuedMessage[]> {
    const { queue, released } = this.#keys;
    const args = [after, countMax, bytesMax];
    const answer = await this.#scripts.runSurely(SCRIPTS.read, [queue, released], args);
    const [more, numbers, entries] = answer as [number, Buffer[], Entry[]];
    const waiting = entries.map(entryOf);
    const last = more === 1 ? (waiting.at(-1)?.number ?? after) : Number.POSITIVE_INFINITY;
    // Behind a window that is full there may be messages before the next released number.
    const done = numbers.map(releasedOf).filter(({ number }) => number < last);
    return [...waiting, ...done].sort((a, b) => a.number - b.number).slice(0, countMax);
  }

  async release(number: number): Promise<void> {
    const { session, queue, released } = this.#keys;
    await this.#scripts.runSurely(SCRIPTS.release, [session, queue, released], [number]);
  }

  remove(number: number): Promise<void> {
    return this.#removals.add(this.#clientId, number);
  }

  async newest(): Promise<number> {
    const { session } = this.#keys;
    const number = await this.#scripts.ask((redis) => redis.hget(session, SESSION_FIELDS.newest));
    return Number(number ?? 0);
  }

  async size(): Promise<{ count: number; bytes: number }> {
    const { session } = this.#keys;
    const fields = [SESSION_FIELDS.count, SESSION_FIELDS.bytes];
    const [count, bytes] = await this.#scripts.ask((redis) => redis.hmget(session, ...fields));
    return { count: Number(count ?? 0), bytes: Number(bytes ?? 0) };
  }

  async incoming(): Promise<number[]> {
    const ids = await this.#scripts.ask((redis) => redis.smembers(this.#keys.incoming));
    return ids.map(Number);
  }

  async removeIncoming(packetId: number): Promise<void> {
    await this.#scripts.ask((redis) => redis.srem(this.#keys.incoming, packetId));
  }
}

/** What a session's entry says beside the message: `[qos, retain, subscription ids, shared]`. */
export function encodeHead({ qos, retain, subscriptionIds, shared }: QueueTarget): string {
  return JSON.stringify([qos, retain ? 1 : 0, subscriptionIds, shared]);
}

function entryOf([id, fields]: Entry): QueuedMessage {
  const [, record = Buffer.alloc(0), , head = Buffer.alloc(0)] = fields;
  const [qos, retain, subscriptionIds, shared] = JSON.parse(head.toString());
  return {
    number: Number(id.toString().slice("0-".length)),
    message: decodeMessage(record, Buffer.from),
    qos,
    retain: retain === 1,
    subscriptionIds,
    // JSON has null where nothing was.
    ...(shared === null || shared === undefined ? {} : { shared }),
  };
}

function releasedOf(number: Buffer): QueuedMessage {
  return {
    number: Number(number.toString()),
    message: undefined,
    qos: 2,
    retain: false,
    subscriptionIds: [],
  };
}

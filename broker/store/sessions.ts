// sessions: the sessions, queues and retained messages of a gateway, kept in LevelDB.
// Path: mqtt → [sessions] → store. Touches: the store that it is given.
//
//   session!<client id>                → queue id, how far it was sent, document as JSON, will
//   queue!<queue id>!<number>          → QoS, RETAIN, subscription ids, the message's record
//   incoming!<queue id>!<packet id>    → nothing: a QoS 2 message that its publisher has not released
//   retained!<topic>                   → the message's record
//
// A queue id stands for one session from its first save to its removal. What lies under a queue id
// that no document names belongs to nobody; it is cleared at the start.

import { encodeMessage, type Message } from "#contract/message";
import type {
  QueueTarget,
  SessionQueue,
  SessionStore,
  StoredSession,
  Taking,
} from "#contract/session";
import { storedAs } from "./broken-entry.ts";
import { joined, type Operation, type Write, type WritePart } from "./group-commit.ts";
import {
  entriesOf,
  INCOMING,
  incomingOf,
  numbersOfKey,
  QUEUES,
  RETAINED,
  retainedKey,
  SESSIONS,
  sessionKey,
} from "./keys.ts";
import { Queue, type QueueStore } from "./queue.ts";
import { messageOf } from "./queue-entry.ts";
import { QueueMemory } from "./queue-memory.ts";
import { decodeDocument, decodePlace, encodeDocument } from "./session-document.ts";

/** Memory for the newest entries of all queues together. */
const MEMORY_BYTES_MAX = 16 * 1024 * 1024;

/** How much the queue of one session may hold, and who hears of a message that did not fit. */
export interface QueueLimits {
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  dropped(clientId: string, count: number): void;
}

const UNLIMITED: QueueLimits = {
  queueMessagesMax: Number.POSITIVE_INFINITY,
  queueBytesMax: Number.POSITIVE_INFINITY,
  dropped: () => {},
};

/** What is kept of a gateway's clients. A session is known from the call of save() on. */
export class Sessions implements SessionStore {
  readonly #store: QueueStore;
  readonly #limits: QueueLimits;
  readonly #memory = new QueueMemory(MEMORY_BYTES_MAX);
  /** The queue of each session that is kept. */
  readonly #queues = new Map<string, Queue>();
  #lastQueueId = 0;

  private constructor(store: QueueStore, limits: QueueLimits) {
    this.#store = store;
    this.#limits = limits;
  }

  /** Reads through what is kept, once. @throws SluiceError STORE_FAILED naming what is broken. */
  static async open(store: QueueStore, limits: QueueLimits = UNLIMITED): Promise<Sessions> {
    const sessions = new Sessions(store, limits);
    await sessions.#count();
    return sessions;
  }

  async *sessions(): AsyncIterable<StoredSession> {
    for await (const [key, value] of this.#store.entries(SESSIONS)) {
      yield storedAs(key, "session", () => decodeDocument(value));
    }
  }

  async load(clientId: string): Promise<StoredSession | undefined> {
    if (!this.#queues.has(clientId)) return undefined;
    const key = sessionKey(clientId);
    const value = await this.#store.get(key);
    return value && storedAs(key, "session", () => decodeDocument(value));
  }

  async save(session: StoredSession): Promise<void> {
    const { clientId, sentUpTo } = session;
    const queue = this.#queues.get(clientId) ?? this.#newQueue(clientId, sentUpTo);
    const value = encodeDocument(session, queue.id);
    await this.#store.commit({
      sync: true,
      prepare: () => [{ type: "put", key: sessionKey(clientId), value }],
    });
  }

  /** Resolves when the document is gone for good; its queue, of no use without it, goes behind it. */
  async remove(clientId: string): Promise<void> {
    const queue = this.#queues.get(clientId);
    if (!queue) return;
    this.#queues.delete(clientId);
    queue.close();
    await this.#store.commit({
      sync: true,
      prepare: () => [{ type: "del", key: sessionKey(clientId) }],
    });
    // A long queue must not keep its client waiting; what stays behind is cleared at the next start.
    void queue.clear().catch(() => {});
  }

  queue(clientId: string): SessionQueue {
    return new QueueOf(() => this.#queues.get(clientId));
  }

  async *retained(): AsyncIterable<Message> {
    for await (const [key, value] of this.#store.entries(RETAINED)) {
      yield storedAs(key, "message", () => messageOf(value));
    }
  }

  /**
   * The write that takes a message into custody for the sessions that are kept, and as the retained
   * one; undefined when it is for none of them. Synced from QoS 1 on.
   */
  write(taking: Taking): Write | undefined {
    const { message } = taking;
    // Each start of a broker has statistics of its own.
    const isRetained = message.retain && !message.topic.startsWith("$SYS/");
    if (taking.queues.length === 0 && !taking.incoming && !isRetained) return undefined;
    const record = encodeMessage(message);
    const parts = this.#queueParts(taking.queues, record);
    const { incoming } = taking;
    const publisher = incoming && this.#queues.get(incoming.clientId);
    if (incoming && publisher) parts.push(publisher.addIncoming(incoming.packetId));
    if (isRetained) parts.push({ prepare: () => [retain(message, record)] });
    return parts.length === 0 ? undefined : joined(parts, message.qos > 0);
  }

  /** The store was opened anew after a failure: what it refused may be there all the same. */
  async recover(): Promise<void> {
    for (const queue of this.#queues.values()) await queue.deleteRefused();
  }

  #queueParts(targets: readonly QueueTarget[], record: Uint8Array): WritePart[] {
    if (targets.length === 0) return [];
    const { queueMessagesMax: countMax, queueBytesMax: bytesMax } = this.#limits;
    // Not the message itself: its bytes may be part of a much larger chunk from the socket.
    const message = messageOf(record);
    return targets.flatMap((target) => {
      const full = () => this.#limits.dropped(target.clientId, 1);
      const queue = this.#queues.get(target.clientId);
      return queue ? [queue.add(target, record, message, { countMax, bytesMax }, full)] : [];
    });
  }

  #newQueue(clientId: string, last: number): Queue {
    this.#lastQueueId += 1;
    const queue = new Queue(this.#store, this.#memory, this.#lastQueueId, last);
    this.#queues.set(clientId, queue);
    return queue;
  }

  async #count(): Promise<void> {
    const queues = new Map<number, Queue>();
    for await (const [key, value] of this.#store.entries(SESSIONS)) {
      const { queueId, sentUpTo } = storedAs(key, "session", () => decodePlace(value));
      const queue = new Queue(this.#store, this.#memory, queueId, sentUpTo);
      queues.set(queueId, queue);
      this.#queues.set(key.slice(SESSIONS.gte.length), queue);
    }
    const orphans = new Set<number>();
    for await (const [key, value] of this.#store.entries(QUEUES)) {
      const { queueId, number } = numbersOfKey(key);
      const queue = queues.get(queueId);
      if (queue) queue.found(number, value.length);
      else orphans.add(queueId);
    }
    for await (const [key] of this.#store.entries(INCOMING)) {
      const { queueId, number } = numbersOfKey(key);
      const queue = queues.get(queueId);
      if (queue) queue.foundIncoming(number);
      else orphans.add(queueId);
    }
    for (const id of [...queues.keys(), ...orphans]) {
      this.#lastQueueId = Math.max(this.#lastQueueId, id);
    }
    await this.#clear(orphans);
  }

  async #clear(queueIds: Iterable<number>): Promise<void> {
    for (const id of queueIds) {
      await this.#store.clear(entriesOf(id));
      await this.#store.clear(incomingOf(id));
    }
  }
}

/**
 * The queue of one session, which need not be saved yet when it is asked for; it stays with that
 * session when another takes its name.
 */
class QueueOf implements SessionQueue {
  readonly #find: () => Queue | undefined;
  #found: Queue | undefined;

  constructor(find: () => Queue | undefined) {
    this.#find = find;
    this.#found = find();
  }

  async read(after: number, countMax: number, bytesMax: number) {
    return (await this.#queue?.read(after, countMax, bytesMax)) ?? [];
  }

  async release(number: number): Promise<void> {
    await this.#queue?.release(number);
  }

  async remove(number: number, sync: boolean): Promise<void> {
    await this.#queue?.remove(number, sync);
  }

  async newest(): Promise<number> {
    return (await this.#queue?.newest()) ?? 0;
  }

  async size() {
    return (await this.#queue?.size()) ?? { count: 0, bytes: 0 };
  }

  async incoming(): Promise<number[]> {
    return (await this.#queue?.incoming()) ?? [];
  }

  async removeIncoming(packetId: number): Promise<void> {
    await this.#queue?.removeIncoming(packetId);
  }

  get #queue(): Queue | undefined {
    this.#found ??= this.#find();
    return this.#found;
  }
}

/** A retained message takes the place of the last one; an empty one clears it [MQTT-3.3.1-6]. */
function retain(message: Message, record: Uint8Array): Operation {
  const key = retainedKey(message.topic);
  return message.payload.length === 0 ? { type: "del", key } : { type: "put", key, value: record };
}

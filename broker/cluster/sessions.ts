// sessions: the kept sessions, their queues and the retained messages of all brokers of the cluster.
// Path: mqtt → [sessions] → cluster Redis. Touches: the cluster Redis.

import type { Redis } from "ioredis";
import type { Message } from "#contract/message";
import type {
  QueueTarget,
  SessionQueue,
  SessionStore,
  StoredSession,
  Taken,
  Taking,
} from "#contract/session";
import { decodeMessage, decodeSession, encodeSession } from "./document.ts";
import { RETAINED_KEY, SESSION_FIELDS, SESSIONS_KEY, sessionKeys } from "./keys.ts";
import { ClusterQueue } from "./queue.ts";
import { Removals } from "./removals.ts";
import { SCRIPTS, Scripts } from "./scripts.ts";
import { type RetainVerb, sessionMoved, Takes } from "./takes.ts";

/** How many documents, or retained messages, one round trip brings about. */
const SCAN_COUNT = 64;

export interface ClusterSessionsOptions {
  /** Limits of each queue: entries, and bytes of their records. */
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  /** `count` messages were not queued for `clientId`: its queue is at a limit. */
  readonly dropped: (clientId: string, count: number) => void;
  /** A message was not queued: there is no such session any more, whoever ended or lost it. */
  readonly missing: (clientId: string) => void;
}

/**
 * The store over one Redis that every broker of the cluster asks. The connection must repeat nothing
 * by itself: a command whose answer was lost may have been carried out, and an entry queued twice
 * is a message that comes twice [MQTT-4.3.3].
 */
export class ClusterSessions implements SessionStore {
  readonly #scripts: Scripts;
  readonly #takes: Takes;
  readonly #removals: Removals;

  /** `redis` is `strict` and not connected yet. */
  constructor(redis: Redis, options: ClusterSessionsOptions) {
    this.#scripts = new Scripts(redis);
    this.#removals = new Removals(this.#scripts);
    this.#takes = new Takes({
      ...options,
      scripts: this.#scripts,
      beforeBatch: () => this.#removals.flush(),
    });
  }

  /**
   * Takes custody of a message in one step: all that must be kept of it is, or nothing. undefined
   * when nothing must. A QoS 2 repeat [MQTT-4.3.3-2] changes nothing.
   * @throws SluiceError CLOUD_UNREACHABLE: it may be kept or not.
   */
  take(taking: Taking): Promise<Taken> | undefined {
    const verb = retainVerb(taking.message);
    if (taking.queues.length === 0 && verb === "" && !taking.incoming) return undefined;
    return this.#takes.add({ taking, verb, isPatient: false });
  }

  /**
   * As take, of a message that was taken before: what is retained by now stays as it is. Nobody can
   * be told that it failed, so a connection that breaks delays it; at QoS 1 it may come twice then.
   */
  takeAlso(message: Message, queues: readonly QueueTarget[]): Promise<void> | undefined {
    if (queues.length === 0) return undefined;
    const mayComeTwice = queues.every(({ qos }) => qos === 1);
    const asked = { taking: { message, queues }, verb: "", isPatient: mayComeTwice } as const;
    return this.#takes.add(asked).then(() => {});
  }

  async *sessions(): AsyncIterable<StoredSession> {
    // SSCAN may name an id twice while the set grows.
    const seen = new Set<string>();
    let cursor = "0";
    do {
      const [next, ids] = await this.#scripts.ask((redis) =>
        redis.sscan(SESSIONS_KEY, cursor, "COUNT", SCAN_COUNT),
      );
      cursor = next;
      const fresh = ids.filter((id) => !seen.has(id));
      for (const id of fresh) seen.add(id);
      for (const session of await Promise.all(fresh.map((id) => this.load(id)))) {
        if (session) yield session;
      }
    } while (cursor !== "0");
  }

  async load(clientId: string): Promise<StoredSession | undefined> {
    const { session } = sessionKeys(clientId);
    const text = await this.#scripts.ask((redis) => redis.hget(session, SESSION_FIELDS.document));
    return text === null ? undefined : decodeSession(clientId, text);
  }

  async save(session: StoredSession, by = ""): Promise<void> {
    const { clientId } = session;
    const keys = [SESSIONS_KEY, sessionKeys(clientId).session];
    const args = [clientId, encodeSession(session), session.connectedTo ?? "", by];
    const isSaved = await this.#scripts.runSurely(SCRIPTS.save, keys, args);
    if (isSaved !== 1) throw sessionMoved(clientId);
  }

  async remove(clientId: string, by = ""): Promise<void> {
    const { session, queue, released, incoming } = sessionKeys(clientId);
    const keys = [SESSIONS_KEY, session, queue, released, incoming];
    // What is on its way to this session must not get into one that is created behind it.
    const settled = this.#takes.settled();
    if (settled) await settled;
    await this.#scripts.runSurely(SCRIPTS.forget, keys, [clientId, by]);
  }

  queue(clientId: string): SessionQueue {
    return new ClusterQueue(this.#scripts, this.#removals, clientId);
  }

  async *retained(): AsyncIterable<Message> {
    let cursor = "0";
    do {
      const [next, fields] = await this.#scripts.ask((redis) =>
        redis.hscanBuffer(RETAINED_KEY, cursor, "COUNT", SCAN_COUNT),
      );
      cursor = next.toString();
      for (const [index, value] of fields.entries()) {
        if (index % 2 === 1) yield decodeMessage(value);
      }
    } while (cursor !== "0");
  }
}

/**
 * What becomes of the topic's retained message [MQTT-3.3.1-5, 3.3.1-6, 3.3.1-12]. A broker's own
 * statistics are nothing to keep: the next one has its own.
 */
function retainVerb({ topic, retain, payload }: Message): RetainVerb {
  if (!retain || topic.startsWith("$SYS/")) return "";
  return payload.length === 0 ? "clear" : "keep";
}

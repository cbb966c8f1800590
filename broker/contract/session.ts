// session: what is kept of an MQTT session over connections and restarts, and the verbs of what keeps it.
// Path: mqtt → [session] → store, cluster. Touches: nothing.

import type { Message, Qos } from "./message.ts";

/** The Session Expiry Interval that never ends (MQTT 5.0 §3.1.2.11.2), in seconds. */
export const NEVER_EXPIRES_SECONDS = 0xffff_ffff;

export interface Subscription {
  /** As the client named it, `$share/<group>/<filter>` included. */
  readonly filter: string;
  readonly qos: Qos;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  readonly retainHandling: 0 | 1 | 2;
  /** Subscription Identifier (MQTT 5.0 §3.8.2.1.2), 1 to 268,435,455. */
  readonly id?: number;
}

export interface Will {
  /** Without an expiry yet: that runs from its publication on. */
  readonly message: Message;
  readonly delaySeconds: number;
  readonly expirySeconds?: number;
}

/** A session as it is kept; one that ends with its connection is kept for the sake of its will. */
export interface StoredSession {
  readonly clientId: string;
  /** Who its client proved to be: rights are asked for while it is away, too. */
  readonly user?: string;
  readonly certificateName?: string;
  /** 0: ends with its connection. */
  readonly expirySeconds: number;
  readonly subscriptions: readonly Subscription[];
  readonly will?: Will;
  /** Id of the broker that its client is connected to; absent while the client is away. */
  readonly connectedTo?: string;
  /** When the connection ended, by the steady clock; absent while there is one. */
  readonly awaySinceMs?: number;
  /** Numbers up to this one of its queue have been sent at least once. */
  readonly sentUpTo: number;
}

/** One session's entitlement to one message. */
export interface QueueTarget {
  readonly clientId: string;
  /** Effective: the lesser of the published and the granted. */
  readonly qos: 1 | 2;
  /** RETAIN as it is to be delivered. */
  readonly retain: boolean;
  readonly subscriptionIds: readonly number[];
  /** The shared subscription that it comes by, `$share/<group>/<filter>`. */
  readonly shared?: string;
}

/** An entry of a session's queue. Numbers of one queue are contiguous when given out, and grow. */
export interface QueuedMessage extends Omit<QueueTarget, "clientId"> {
  readonly number: number;
  /** undefined: a QoS 2 message that the client has (PUBREC); what is left to do is PUBREL. */
  readonly message: Message | undefined;
}

/** One message on its way into custody: for whom it must be kept. */
export interface Taking {
  readonly message: Message;
  readonly queues: readonly QueueTarget[];
  /** Its QoS 2 publisher, if that session is kept, to know a repeat [MQTT-4.3.3-2]. */
  readonly incoming?: Incoming;
  /**
   * On a gateway, the id of the cloud's command that it came by. It is kept with the message, as the
   * last one that was carried out; what came from the cloud does not go back there.
   */
  readonly command?: string;
}

/** A QoS 2 PUBLISH of a session that is kept. */
export interface Incoming {
  readonly clientId: string;
  readonly packetId: number;
  /** The broker that it came in by: in custody it is only while the session's client is there. */
  readonly broker?: string;
}

/** In custody now; or a QoS 2 repeat of what is in custody already, which changed nothing. */
export type Taken = "taken" | "repeat";

/**
 * The seam: resolves when the message is ours, for all who are entitled to it; only then is it
 * acknowledged [MQTT-4.3.2-2]. undefined: nothing that lasts is entitled to it, so it is done.
 */
export interface Custody {
  take(taking: Taking): Promise<Taken> | undefined;
  /** Of a message that was taken before: sessions that are entitled to it only now. */
  queue(message: Message, queues: readonly QueueTarget[]): Promise<void> | undefined;
}

/** What keeps sessions, their queues and the retained messages: LevelDB or the cluster's Redis. */
export interface SessionStore {
  /** All that are kept, once; for the start. */
  sessions(): AsyncIterable<StoredSession>;
  load(clientId: string): Promise<StoredSession | undefined>;
  /**
   * Creates or replaces the document; resolves when it is durable. `by` is the broker that the
   * session's client was at, as far as the caller knows: if it is at another one by now, nothing
   * changes. @throws SluiceError SESSION_MOVED then.
   */
  save(session: StoredSession, by?: string): Promise<void>;
  /** Removes the document, the queue and the QoS 2 ids; `by` as for save, but without an error. */
  remove(clientId: string, by?: string): Promise<void>;
  queue(clientId: string): SessionQueue;
  /** All retained messages, in no order; for the start. */
  retained(): AsyncIterable<Message>;
}

/** The QoS 1 and 2 messages that one kept session has not acknowledged, and its own QoS 2 ids. */
export interface SessionQueue {
  /** The entries behind `after`, in order, at most `countMax`, and at most `bytesMax` but one. */
  read(after: number, countMax: number, bytesMax: number): Promise<QueuedMessage[]>;
  /** PUBREC came: forgets the message, keeps the number; resolves when that is durable. */
  release(number: number): Promise<void>;
  /** Acknowledged, or not to be delivered: forgets the entry. Durable at once if `sync`. */
  remove(number: number, sync: boolean): Promise<void>;
  /** The highest number that was given out; 0 where there was none. */
  newest(): Promise<number>;
  /** What waits, without what was removed. */
  size(): Promise<{ readonly count: number; readonly bytes: number }>;
  /** Packet ids of QoS 2 messages that were taken and not yet released by the client. */
  incoming(): Promise<number[]>;
  /** PUBREL came; resolves when that is durable, or a new message under that id would be lost. */
  removeIncoming(packetId: number): Promise<void>;
}

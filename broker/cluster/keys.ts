// keys: where the cluster Redis keeps sessions, their queues and the retained messages.
// Path: sessions, queue → [keys] → cluster Redis. Touches: nothing.

/** Set of the client ids of all kept sessions. */
export const SESSIONS_KEY = "sluice:sessions";

/** Hash topic → record of the retained message. */
export const RETAINED_KEY = "sluice:retained";

/** Fields of a session's hash; beside the document, where its client is, what its queue holds and its newest number. */
export const SESSION_FIELDS = {
  document: "document",
  broker: "broker",
  count: "count",
  bytes: "bytes",
  newest: "newest",
} as const;

/** Fields of an entry of a session's stream, in this order. */
export const ENTRY_FIELDS = { record: "record", head: "head" } as const;

/** The keys of one session. */
export interface SessionKeys {
  /** Hash: the document and the queue's size. There is a session where this key is. */
  readonly session: string;
  /** Stream: the messages that wait, under the ids `0-<number>`. */
  readonly queue: string;
  /** Sorted set of the numbers whose messages the client has: PUBREL is left to do. */
  readonly released: string;
  /** Set of packet ids: the QoS 2 messages that its client published and has not released. */
  readonly incoming: string;
}

/** The client id comes last and whole, so that no two ids share a key. */
export function sessionKeys(clientId: string): SessionKeys {
  return {
    session: `sluice:session:${clientId}`,
    queue: `sluice:queue:${clientId}`,
    released: `sluice:released:${clientId}`,
    incoming: `sluice:incoming:${clientId}`,
  };
}

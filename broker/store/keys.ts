// keys: where in LevelDB a session, its queue and a retained message lie.
// Path: sessions → [keys] → store. Touches: nothing.

/** Keys are compared by their UTF-8 bytes; numbers have as many digits as the largest safe one. */
const NUMBER_DIGITS = 16;
const PACKET_ID_DIGITS = 5;

/** All keys of one keyspace, or of one queue in it. */
export interface KeyRange {
  readonly gte: string;
  readonly lt: string;
}

export const SESSIONS = under("session!");
export const QUEUES = under("queue!");
export const INCOMING = under("incoming!");
export const RETAINED = under("retained!");

/** The document of a session. A client id ends the key, so that none needs to be escaped. */
export function sessionKey(clientId: string): string {
  return `session!${clientId}`;
}

/** The retained message of a topic, which ends the key as a client id does. */
export function retainedKey(topic: string): string {
  return `retained!${topic}`;
}

/** An entry of a queue: the queue's own number, not the client id, which may have 64 KB. */
export function entryKey(queueId: number, number: number): string {
  return `queue!${padded(queueId)}!${padded(number)}`;
}

/** A packet id that a QoS 2 publisher has not released; `queueId` is that of its session. */
export function incomingKey(queueId: number, packetId: number): string {
  return `incoming!${padded(queueId)}!${String(packetId).padStart(PACKET_ID_DIGITS, "0")}`;
}

export function entriesOf(queueId: number): KeyRange {
  return under(`queue!${padded(queueId)}!`);
}

export function incomingOf(queueId: number): KeyRange {
  return under(`incoming!${padded(queueId)}!`);
}

/** The entry's number in its key, without what comes before it. */
export function entryNumberOf(key: string): number {
  return Number(key.slice(-NUMBER_DIGITS));
}

/** Reads the two numbers of an entry's or a packet id's key. */
export function numbersOfKey(key: string): { queueId: number; number: number } {
  const [, queueId, number] = key.split("!");
  return { queueId: Number(queueId), number: Number(number) };
}

function padded(number: number): string {
  return String(number).padStart(NUMBER_DIGITS, "0");
}

/** What begins with `prefix`, whose last character is `!`; the next one by its byte is `"`. */
function under(prefix: string): KeyRange {
  return { gte: prefix, lt: `${prefix.slice(0, -1)}"` };
}

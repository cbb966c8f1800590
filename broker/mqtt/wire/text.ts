// text: the strings of MQTT packets: UTF-8 as the specification wants it, and topic names.
// Path: cursor → [text]. Touches: nothing.

import { isUtf8 } from "node:buffer";
import { REASON } from "./reason-codes.ts";
import { malformed, WireError } from "./wire-error.ts";

// What a string holds besides plain ASCII.
const HIGH = 1;
const NULL = 2;
const WILDCARD = 4;

/** Topics are short and come again: the latest are kept, one a slot, so as not to be made anew. */
const CACHE = { slots: 2048, topicBytesMax: 128 } as const;
const cache: string[] = new Array(CACHE.slots).fill("");

/**
 * The string in `bytes` from `from` up to `to`, as the packet's field of that name.
 * @throws WireError malformedPacket, see assertText.
 */
export function textAt(bytes: Buffer, from: number, to: number, field: string): string {
  const contents = assertContents(bytes, from, to, field);
  return bytes.toString((contents & HIGH) === 0 ? "latin1" : "utf8", from, to);
}

/**
 * The topic name in `bytes` from `from` up to `to`; it may be empty.
 * @throws WireError malformedPacket, or topicNameInvalid where it holds a wildcard.
 */
export function topicNameAt(bytes: Buffer, from: number, to: number, field: string): string {
  const length = to - from;
  if (length > CACHE.topicBytesMax) return newTopicName(bytes, from, to, field);
  const slot = slotOf(bytes, from, to);
  const known = cache[slot] ?? "";
  if (known.length === length && isAt(known, bytes, from)) return known;
  const topic = newTopicName(bytes, from, to, field);
  // As many units as bytes: ASCII, which isAt can compare without decoding.
  if (topic.length === length) cache[slot] = topic;
  return topic;
}

function newTopicName(bytes: Buffer, from: number, to: number, field: string): string {
  const contents = assertContents(bytes, from, to, field);
  if ((contents & WILDCARD) !== 0) {
    // [MQTT-3.3.2-2, 4.7.1-1; MQTT 5: 3.3.2-2, 3.3.2-14, 4.7.0-1]
    throw new WireError(REASON.topicNameInvalid, `${field} holds a wildcard [MQTT-3.3.2-2]`);
  }
  return bytes.toString((contents & HIGH) === 0 ? "latin1" : "utf8", from, to);
}

/**
 * Refuses what is no string of MQTT's: ill-formed UTF-8, surrogates among it [MQTT-1.5.3-1,
 * MQTT 5: 1.5.4-1], and U+0000 [MQTT-1.5.3-2, MQTT 5: 1.5.4-2]. U+FEFF is text [1.5.3-3, 1.5.4-3].
 */
export function assertText(bytes: Buffer, from: number, to: number, field: string): void {
  assertContents(bytes, from, to, field);
}

/** Does a topic name hold what only a filter may? */
export function holdsWildcard(bytes: Buffer, from: number, to: number): boolean {
  return (contentsOf(bytes, from, to) & WILDCARD) !== 0;
}

/** What the string holds: HIGH, WILDCARD, both or none. */
function assertContents(bytes: Buffer, from: number, to: number, field: string): number {
  const contents = contentsOf(bytes, from, to);
  if (contents === 0) return contents;
  if ((contents & NULL) !== 0) throw malformed(`${field} holds U+0000 [MQTT-1.5.4-2]`);
  if ((contents & HIGH) !== 0 && !isUtf8(bytes.subarray(from, to))) {
    throw malformed(`${field} is not well-formed UTF-8 [MQTT-1.5.4-1]`);
  }
  return contents;
}

function contentsOf(bytes: Buffer, from: number, to: number): number {
  let contents = 0;
  for (let at = from; at < to; at += 1) {
    const byte = bytes[at] ?? 0;
    if (byte >= 0x80) contents |= HIGH;
    else if (byte === 0) contents |= NULL;
    else if (byte === 0x23 || byte === 0x2b) contents |= WILDCARD;
  }
  return contents;
}

/** Of long topics not every byte is looked at: a collision costs a string, nothing else. */
function slotOf(bytes: Buffer, from: number, to: number): number {
  const step = 1 + ((to - from) >> 5);
  let hash = to - from;
  for (let at = to - 1; at >= from; at -= step) {
    hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0;
  }
  return (hash ^ (hash >>> 11)) & (CACHE.slots - 1);
}

function isAt(ascii: string, bytes: Buffer, from: number): boolean {
  for (let index = 0; index < ascii.length; index += 1) {
    if (ascii.charCodeAt(index) !== bytes[from + index]) return false;
  }
  return true;
}

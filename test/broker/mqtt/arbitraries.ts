// arbitraries: topics and filters of few levels, so that they often meet, and messages on them.
// Path: tests of broker/mqtt → [arbitraries]. Touches: the heap, to see what is left of it.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import type { Message } from "#contract/message";

const LEVELS = ["a", "b", "", "$x", "$SYS"] as const;

/** Well-formed topic names; some begin with `$`, some have empty levels. */
export const topicName: fc.Arbitrary<string> = fc
  .array(fc.constantFrom(...LEVELS), { minLength: 1, maxLength: 4 })
  .map((levels) => levels.join("/"))
  .filter((topic) => topic !== "");

/** Well-formed filters of the same levels. */
export const topicFilter: fc.Arbitrary<string> = fc
  .tuple(fc.array(fc.constantFrom(...LEVELS, "+", "+"), { maxLength: 4 }), fc.boolean())
  .map(([levels, isMulti]) => (isMulti ? [...levels, "#"] : levels).join("/"))
  .filter((filter) => filter !== "");

/** All topics of up to three of those levels: what a filter selects is among them. */
export const ALL_TOPICS: readonly string[] = [1, 2, 3].flatMap(namesOf).filter((it) => it !== "");

function namesOf(levels: number): string[] {
  if (levels === 1) return [...LEVELS];
  return namesOf(levels - 1).flatMap((name) => LEVELS.map((level) => `${name}/${level}`));
}

/** A message of QoS 1 that was taken now, with `more` laid over it. */
export function messageOf(topic: string, text: string, more: Partial<Message> = {}): Message {
  const payload = new TextEncoder().encode(text);
  return { topic, payload, qos: 1, retain: false, takenAtMs: Date.now(), ...more };
}

export function textOf({ payload }: Pick<Message, "payload">): string {
  return new TextDecoder().decode(payload);
}

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** The bytes of the heap that are in use. */
export function heapBytes(): number {
  collect();
  return process.memoryUsage().heapUsed;
}

/** Topics that share nothing but their depth: a tree has about 100,000 nodes of their own for them. */
export const DEEP_TOPICS: readonly string[] = Array.from({ length: 5_000 }, (_, index) =>
  Array.from({ length: 20 }, () => index).join("/"),
);

/** Less than a twentieth of what the nodes of DEEP_TOPICS take. */
export const LEFT_OVER_BYTES_MAX = 1_000_000;

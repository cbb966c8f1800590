// retained.test: the retained messages are what looking at every one of them would find.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Message } from "#contract/message";
import { filterMatches } from "#contract/topics";
import { Retained } from "../../../broker/mqtt/retained.ts";
import {
  DEEP_TOPICS,
  heapBytes,
  LEFT_OVER_BYTES_MAX,
  messageOf,
  textOf,
  topicFilter,
  topicName,
} from "./arbitraries.ts";

const NOW_MS = 1_000;

/** What a topic is set to: often nothing, which clears it; some of it expires. */
const retainedMessage = fc
  .record({
    topic: topicName,
    text: fc.oneof(fc.constant(""), fc.string({ maxLength: 8 })),
    expiresAtMs: fc.constantFrom(undefined, undefined, NOW_MS, NOW_MS + 1),
    properties: fc.option(fc.uint8Array({ maxLength: 4 }), { nil: undefined }),
  })
  .map(({ topic, text, expiresAtMs, properties }) =>
    messageOf(topic, text, {
      retain: true,
      ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
      ...(properties === undefined ? {} : { properties }),
    }),
  );
const several = fc.array(retainedMessage, { maxLength: 20 });

type ByTopic = Map<string, Message>;

function setIn(all: ByTopic, message: Message): void {
  if (message.payload.length > 0) all.set(message.topic, message);
  else all.delete(message.topic);
}

const isOurs = ({ topic }: Message) => topic.startsWith("$SYS/");

/** As text, sorted, to compare what comes in no order. */
function said(messages: Iterable<Message>): string[] {
  const of = ({ topic, expiresAtMs, properties, ...message }: Message) =>
    JSON.stringify([topic, textOf(message), expiresAtMs, [...(properties ?? [])]]);
  return [...messages].map(of).sort();
}

function assertHolds(retained: Retained, all: ByTopic, filters: readonly string[]): void {
  for (const filter of ["#", "$SYS/#", "$x/#", ...filters]) {
    const expected = [...all.values()].filter(
      ({ topic, expiresAtMs }) =>
        filterMatches(filter, topic) && (expiresAtMs === undefined || expiresAtMs > NOW_MS),
    );
    assert.deepEqual(said(retained.match(filter, NOW_MS)), said(expected), filter);
  }
  const counted = [...all.values()].filter((message) => !isOurs(message));
  assert.equal(retained.count, counted.length);
  // What one takes does not depend on what is there beside it.
  const bytes = counted.map((message) => new Retained().growth(message).bytes);
  assert.equal(
    retained.bytes,
    bytes.reduce((sum, it) => sum + it, 0),
  );
}

test("a filter finds the newest message of exactly the topics that it selects, unexpired", () => {
  const filters = fc.array(topicFilter, { minLength: 10, maxLength: 20 });
  const property = fc.property(several, filters, (messages, asked) => {
    const retained = new Retained();
    const all: ByTopic = new Map();
    for (const message of messages) {
      const { count, bytes } = retained.growth(message);
      const before = { count: retained.count, bytes: retained.bytes };
      retained.set(message);
      setIn(all, message);
      assert.deepEqual(
        { count: retained.count - before.count, bytes: retained.bytes - before.bytes },
        { count, bytes },
        "it grows by as much as was foretold",
      );
    }
    assertHolds(retained, all, asked);
    for (const { topic } of messages) retained.set(messageOf(topic, ""));
    assertHolds(retained, new Map(), asked);
    assert.deepEqual([retained.count, retained.bytes], [0, 0]);
  });
  fc.assert(property, { seed: 1, numRuns: 500 });
});

test("those that have expired are forgotten, and nothing else is", () => {
  const property = fc.property(several, (messages) => {
    const retained = new Retained();
    const all: ByTopic = new Map();
    for (const message of messages) {
      retained.set(message);
      setIn(all, message);
    }
    retained.dropExpired(NOW_MS);
    for (const [topic, { expiresAtMs = Number.POSITIVE_INFINITY }] of all) {
      if (expiresAtMs <= NOW_MS) all.delete(topic);
    }
    assertHolds(retained, all, []);
  });
  fc.assert(property, { seed: 1, numRuns: 200 });
});

test("reading anew takes over what is stored, but for what is set meanwhile and the broker's own", async () => {
  const stored = fc.uniqueArray(
    retainedMessage.filter((message) => message.payload.length > 0 && !isOurs(message)),
    { selector: ({ topic }) => topic, maxLength: 10 },
  );
  const meanwhile = fc.array(fc.tuple(fc.nat(10), retainedMessage), { maxLength: 10 });
  const property = fc.asyncProperty(several, stored, meanwhile, async (before, read, between) => {
    const retained = new Retained();
    const all: ByTopic = new Map();
    for (const message of before) {
      retained.set(message);
      setIn(all, message);
    }
    const set = (at: number) => {
      for (const [, message] of between.filter(([when]) => when === at)) retained.set(message);
    };
    await retained.readAnew(
      (async function* () {
        for (let at = 0; at <= 10; at += 1) {
          set(at);
          const message = read[at];
          if (message) yield message;
        }
      })(),
    );
    for (const [topic, message] of all) if (!isOurs(message)) all.delete(topic);
    for (const message of read) all.set(message.topic, message);
    for (const [, message] of between.toSorted(([a], [b]) => a - b)) setIn(all, message);
    assertHolds(retained, all, []);
  });
  await fc.assert(property, { seed: 1, numRuns: 500 });
});

test("a read that breaks off leaves all as it was, and the next one counts", async () => {
  const retained = new Retained();
  retained.set(messageOf("a", "old"));
  const broken = async function* () {
    yield messageOf("b", "half");
    throw new Error("the store is away");
  };
  await assert.rejects(retained.readAnew(broken()), /the store is away/);
  assert.deepEqual(said(retained.match("#", NOW_MS)), said([messageOf("a", "old")]));
  const whole = async function* () {
    yield messageOf("c", "new");
  };
  await retained.readAnew(whole());
  assert.deepEqual(said(retained.match("#", NOW_MS)), said([messageOf("c", "new")]));
});

test("a retained message keeps nothing of the bytes that it came in with", () => {
  const packet = new Uint8Array(10_000).fill(1);
  const [payload, properties] = [packet.subarray(10, 12), packet.subarray(20, 23)];
  const retained = new Retained();
  retained.set({ ...messageOf("a", ""), payload, properties });
  packet.fill(2);
  const [kept] = retained.match("a", NOW_MS);
  assert.deepEqual([...(kept?.payload ?? [])], [1, 1]);
  assert.deepEqual([...(kept?.properties ?? [])], [1, 1, 1]);
  assert.deepEqual([kept?.payload.buffer.byteLength, kept?.properties?.buffer.byteLength], [2, 3]);
});

test("nothing is left of topics that were cleared", () => {
  const retained = new Retained();
  const before = heapBytes();
  for (const topic of DEEP_TOPICS) retained.set(messageOf(topic, "1"));
  assert.ok(heapBytes() - before > 20 * LEFT_OVER_BYTES_MAX);
  for (const topic of DEEP_TOPICS) retained.set(messageOf(topic, ""));
  assert.ok(heapBytes() - before < LEFT_OVER_BYTES_MAX);
  assert.equal(retained.count, 0);
});

test("of two reads at once neither puts what was stored over what is set meanwhile", async () => {
  const retained = new Retained();
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const readUntil = async function* (end: Promise<void>) {
    yield messageOf("a", "stored");
    await end;
  };
  const reads = [first, second].map(({ promise }) => retained.readAnew(readUntil(promise)));
  first.resolve();
  await reads[0];
  retained.set(messageOf("a", "set meanwhile"));
  second.resolve();
  await reads[1];
  assert.deepEqual(said(retained.match("a", NOW_MS)), said([messageOf("a", "set meanwhile")]));
});

// outgoing.test: what one client is sent: in order, within its window, and never more than is due.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import type { Message, Qos } from "#contract/message";
import { steadyNowMs } from "#runtime/clock";
import { type Form, Publication } from "../../../broker/mqtt/publication.ts";
import type { Entry } from "../../../broker/mqtt/sources.ts";
import { waitFor } from "../../support/wait-for.ts";
import { messageOf, textOf } from "./arbitraries.ts";
import { FakeQueue } from "./fake-queue.ts";
import { Receiver, type ReceiverOptions } from "./receiver.ts";

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("come" as const),
      all: fc.array(fc.constantFrom<1 | 2>(1, 2), { minLength: 1, maxLength: 6 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("act" as const),
      at: fc.nat(9),
      isRefused: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("turn" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("block" as const), is: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reconnect" as const) }) },
);
const steps = fc.array(step, { minLength: 5, maxLength: 60, size: "max" });
const window = fc.integer({ min: 1, max: 6 });

function formOf(qos: Qos, more: Partial<Form> = {}): Form {
  return { qos, retain: false, subscriptionIds: [], ...more };
}

function offer(receiver: Receiver, text: string, qos: 1 | 2 = 1, more: Partial<Message> = {}) {
  receiver.outgoing.offer(new Publication(messageOf("t", text, more)), formOf(qos));
}

function send(receiver: Receiver, text: string, topic = "t"): void {
  receiver.outgoing.send(new Publication(messageOf(topic, text)), formOf(0));
}

const sharedOf = (receiver: Receiver, texts: readonly string[]) => {
  for (const text of texts) {
    receiver.outgoing.offer(new Publication(messageOf("t", text)), formOf(1), "$share/g/t");
  }
};
const textsOf = (entries: readonly Entry[]) =>
  entries.map(({ publication }) => publication && textOf(publication.message));

function numbers(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, index) => String(from + index));
}

/** Completes all exchanges, whatever they wait for, until so many came and nothing is left. */
async function complete(receiver: Receiver, count: number, queue?: FakeQueue): Promise<void> {
  receiver.block(false);
  const isOver = () =>
    receiver.received.length >= count &&
    receiver.inFlight.length === 0 &&
    (queue?.entries.size ?? 0) === 0;
  for (let turns = 0; !isOver(); turns += 1) {
    assert.ok(turns < 10_000, `${receiver.received.length} of ${count} messages came`);
    for (const at of receiver.inFlight.keys()) receiver.act(at);
    await turn();
  }
}

test("a stored queue reaches its client once and in order, over every connection and window", async () => {
  const first = fc.constantFrom(0, 65_530);
  const property = fc.asyncProperty(steps, window, window, first, async (all, mine, ours, from) => {
    const queue = new FakeQueue(from);
    const limits = { inflight_messages_max: ours };
    const receiver = new Receiver({ queue, receiveMaximum: mine, limits });
    let count = 0;
    for (const one of all) {
      if (one.kind === "come") {
        for (const qos of one.all) queue.add(messageOf("t", String(count++)), qos);
        receiver.outgoing.poke();
      } else if (one.kind === "act") receiver.act(one.at, one.isRefused);
      else if (one.kind === "turn") await turn();
      else if (one.kind === "block") receiver.block(one.is);
      else receiver.reconnect();
    }
    await complete(receiver, count, queue);
    assert.deepEqual(receiver.received, numbers(count));
    assert.deepEqual([receiver.ended, receiver.dropped], [[], []]);
  });
  await fc.assert(property, { seed: 1, numRuns: 200 });
});

test("what lies in memory reaches its client once and in order, over every window", async () => {
  const property = fc.asyncProperty(steps, window, window, async (all, mine, ours) => {
    const limits = { inflight_messages_max: ours };
    const receiver = new Receiver({ receiveMaximum: mine, limits });
    let count = 0;
    for (const one of all) {
      if (one.kind === "come") for (const qos of one.all) offer(receiver, String(count++), qos);
      else if (one.kind === "act") receiver.act(one.at, one.isRefused);
      else if (one.kind === "turn") await turn();
      else if (one.kind === "block") receiver.block(one.is);
    }
    await complete(receiver, count);
    assert.deepEqual(receiver.received, numbers(count));
    assert.deepEqual([receiver.outgoing.inFlightCount, receiver.ended], [0, []]);
  });
  await fc.assert(property, { seed: 1, numRuns: 200 });
});

test("an id that is still in flight when ids have gone round is waited for", () => {
  const receiver = new Receiver({ receiveMaximum: 2 });
  for (let number = 0; number < 65_600; number += 1) {
    offer(receiver, String(number));
    // The first one is never acknowledged, all others are.
    while (receiver.inFlight.length === 2) receiver.act(1);
  }
  assert.equal(receiver.received.length, 65_535);
  receiver.act(0);
  while (receiver.inFlight.length > 0) receiver.act(0);
  assert.deepEqual(receiver.received.slice(-2), ["65598", "65599"]);
});

test("an acknowledgement that does not fit what is in flight is told from one that comes late", async () => {
  const receiver = new Receiver();
  offer(receiver, "one", 1);
  offer(receiver, "two", 2);
  const { outgoing } = receiver;
  const [one = 0, two = 0] = receiver.inFlight;
  assert.deepEqual(
    [outgoing.pubrec(one, 0), outgoing.pubcomp(one), outgoing.puback(two), outgoing.pubcomp(two)],
    [false, false, false, false],
  );
  assert.deepEqual(
    [outgoing.puback(9), outgoing.pubcomp(9), outgoing.pubrec(9, 0x80)],
    [true, true, true],
  );
  assert.deepEqual(receiver.pubrels, []);
  assert.equal(outgoing.pubrec(9, 0), true);
  assert.deepEqual(receiver.pubrels, [{ packetId: 9, reasonCode: 0x92 }]);
  assert.equal(outgoing.inFlightCount, 2);
});

test("PUBREL leaves when the release is durable, and not before [MQTT-4.3.3-8]", async () => {
  const queue = new FakeQueue();
  const durable = Promise.withResolvers<void>();
  queue.pace = (verb) => (verb === "release" ? durable.promise : turn());
  queue.add(messageOf("t", "1"), 2);
  const receiver = new Receiver({ queue });
  receiver.outgoing.poke();
  await waitFor("the message", () => receiver.received.length === 1);
  receiver.act(0);
  assert.deepEqual(queue.asked.slice(-1), ["release 1"]);
  await turn();
  assert.deepEqual(receiver.pubrels, []);
  durable.resolve();
  await waitFor("PUBREL", () => receiver.pubrels.length === 1);
});

test("a release that cannot be written ends the connection, and the message comes once more", async () => {
  const queue = new FakeQueue();
  queue.pace = (verb) => (verb === "release" ? Promise.reject(new Error("full")) : turn());
  queue.add(messageOf("t", "1"), 2);
  const receiver = new Receiver({ queue });
  receiver.outgoing.poke();
  await waitFor("the message", () => receiver.received.length === 1);
  receiver.act(0);
  await waitFor("the end", () => receiver.ended.length === 1);
  assert.deepEqual([receiver.ended[0]?.reasonCode, receiver.pubrels], [0x89, []]);
  queue.pace = () => turn();
  receiver.reconnect();
  await complete(receiver, 1, queue);
  assert.deepEqual(
    receiver.packets.map(({ payload, dup }) => [payload, dup]),
    [
      ["1", false],
      ["1", true],
    ],
  );
});

interface Drop {
  readonly reason: string;
  readonly message: Message;
  readonly options?: ReceiverOptions;
}

const DROPS: readonly Drop[] = [
  { reason: "expired", message: messageOf("t", "bad", { expiresAtMs: steadyNowMs() - 1 }) },
  {
    reason: "too-large",
    message: messageOf("t", "x".repeat(500)),
    options: { maximumPacketBytes: 100 },
  },
  {
    reason: "not-authorized",
    message: messageOf("secret", "bad"),
    options: { mayReceive: (topic) => topic !== "secret" },
  },
];

for (const { reason, message, options = {} } of DROPS) {
  for (const qos of [1, 2] as const) {
    test(`QoS ${qos} that is ${reason} is dropped from memory and queue, and holds nothing up`, async () => {
      const queue = new FakeQueue();
      const stored = new Receiver({ ...options, queue, receiveMaximum: 1 });
      queue.add(message, qos);
      queue.add(messageOf("t", "good"), qos);
      stored.outgoing.poke();
      await complete(stored, 1, queue);
      const inMemory = new Receiver({ ...options, receiveMaximum: 1 });
      inMemory.outgoing.offer(new Publication(message), formOf(qos));
      offer(inMemory, "good", qos);
      await complete(inMemory, 1);
      for (const { received, dropped, delivered } of [stored, inMemory]) {
        assert.deepEqual([received, dropped, delivered], [["good"], [reason], 1]);
      }
    });
  }
}

test("what was sent before is sent again though it has expired since [MQTT-4.3.3-7]", async () => {
  const queue = new FakeQueue();
  queue.add(messageOf("t", "1", { expiresAtMs: steadyNowMs() + 30 }), 1);
  const receiver = new Receiver({ queue });
  receiver.outgoing.poke();
  await waitFor("the message", () => receiver.packets.length === 1);
  const [entry] = queue.entries.values();
  await waitFor("its expiry", () => (entry?.message?.expiresAtMs ?? 0) < steadyNowMs());
  receiver.reconnect();
  await waitFor("the message again", () => receiver.packets.length === 2);
  assert.equal(receiver.packets[1]?.properties.messageExpiryInterval, 0);
});

test("a stored queue drops what has waited for too long", async () => {
  const queue = new FakeQueue();
  const limits = { queue_seconds_max: 10 };
  const receiver = new Receiver({ queue, limits });
  queue.add(messageOf("t", "old", { takenAtMs: steadyNowMs() - 11_000 }), 1);
  queue.add(messageOf("t", "good", { takenAtMs: steadyNowMs() - 8_000 }), 1);
  receiver.outgoing.poke();
  await complete(receiver, 1);
  assert.deepEqual([receiver.received, receiver.dropped], [["good"], ["too-old"]]);
});

test("topic aliases stand for their topics, in every order, and are as many as the client takes", () => {
  const sent = fc.array(fc.tuple(fc.nat(4), fc.boolean()), { maxLength: 30 });
  const property = fc.property(sent, fc.nat(3), (all, topicAliasMaximum) => {
    const receiver = new Receiver({ topicAliasMaximum, maximumPacketBytes: 60 });
    const expected: string[] = [];
    for (const [topic, isLong] of all) {
      const name = `topic/${topic}`;
      send(receiver, isLong ? "x".repeat(60) : "short", name);
      if (!isLong) expected.push(name);
    }
    assert.deepEqual(
      receiver.packets.map(({ topic }) => topic),
      expected,
    );
  });
  fc.assert(property, { seed: 1, numRuns: 300 });
});

test("QoS 0 for a client that does not read is dropped when as much waits as may", () => {
  const receiver = new Receiver({
    limits: { delivery_messages_max: 5, delivery_bytes_max: 5_000 },
  });
  send(receiver, "1");
  receiver.block(true);
  send(receiver, "2");
  receiver.wire.waitingPackets = 5;
  send(receiver, "3");
  receiver.wire.waitingPackets = 0;
  receiver.wire.unsentBytes = 5_000;
  send(receiver, "4");
  assert.deepEqual(
    [receiver.received, receiver.dropped],
    [
      ["1", "2"],
      ["slow-reader", "slow-reader"],
    ],
  );
});

test("QoS 1 in memory for a client that does not read ends its connection when as much waits as may", () => {
  for (const [limits, texts] of [
    [{ delivery_messages_max: 3 }, ["1", "2", "3", "4"]],
    [{ delivery_bytes_max: 2_000 }, ["x".repeat(1_998), "2", "3"]],
  ] as const) {
    const receiver = new Receiver({ limits });
    receiver.block(true);
    for (const text of texts.slice(0, -1)) offer(receiver, text);
    assert.equal(receiver.ended.length, 0);
    offer(receiver, texts.at(-1) ?? "");
    assert.equal(receiver.ended[0]?.reasonCode, 0x97);
  }
});

test("a client is told of as crowded when a quarter of what may wait for it does", () => {
  for (const [limits, text] of [
    [{ delivery_messages_max: 12 }, ""],
    [{ delivery_bytes_max: 12_000 }, "x".repeat(998)],
  ] as const) {
    const receiver = new Receiver({ limits });
    receiver.block(true);
    for (const number of numbers(3)) offer(receiver, `${number}${text}`);
    assert.equal(receiver.crowded, 0);
    offer(receiver, `4${text}`);
    assert.equal(receiver.crowded, 1);
  }
});

test("what a member of a shared subscription has not acknowledged goes to others, but QoS 2 begun", () => {
  const receiver = new Receiver({ receiveMaximum: 3 });
  const take = (text: string, qos: 1 | 2, shared?: string) =>
    receiver.outgoing.offer(new Publication(messageOf("t", text)), formOf(qos), shared);
  take("acknowledged", 1, "$share/g/t");
  receiver.act(0);
  take("its own", 1);
  take("under way", 1, "$share/g/t");
  // Its client may have got it: another one must not [MQTT 5.0 §4.8.2].
  take("begun", 2, "$share/g/t");
  take("waits", 1, "$share/g/t");
  take("waits, too", 2, "$share/g/t");
  const left = receiver.outgoing.end();
  assert.deepEqual(textsOf(left), ["under way", "waits", "waits, too"]);
});

function replayOf(texts: readonly string[], qos: Qos = 0) {
  return texts.map((text) => ({
    message: messageOf("t", text),
    form: formOf(qos, { retain: true }),
  }));
}

test("retained messages come in front of all that comes meanwhile, at the client's own pace", async () => {
  const live = fc.array(fc.tuple(fc.constantFrom("offer", "send", "block", "act"), fc.nat(3)), {
    maxLength: 40,
  });
  const qos = fc.constantFrom<Qos>(0, 1, 2);
  const property = fc.asyncProperty(
    fc.nat(600),
    qos,
    live,
    window,
    async (count, at, all, mine) => {
      const receiver = new Receiver({ receiveMaximum: mine });
      receiver.outgoing.replay(replayOf(numbers(count), at));
      let next = count;
      for (const [kind, more] of all) {
        if (kind === "offer") offer(receiver, String(next++), more === 0 ? 2 : 1);
        // Of QoS 0 it is only while something is replayed that it waits behind QoS 1.
        else if (kind === "send" && at === 0) send(receiver, String(next++));
        else if (kind === "block") receiver.block(more > 1);
        else if (kind === "act") receiver.act(more);
        for (let turns = 0; turns < more; turns += 1) await turn();
      }
      await complete(receiver, next);
      const replayed = receiver.received.slice(0, count);
      assert.deepEqual(replayed, numbers(count));
      assert.deepEqual(
        receiver.received.toSorted((a, b) => Number(a) - Number(b)),
        numbers(next),
      );
      assert.deepEqual(receiver.ended, []);
    },
  );
  await fc.assert(property, { seed: 1, numRuns: 100 });
});

test("what waits behind retained messages is bounded: QoS 0 is dropped, QoS 1 ends the connection", async () => {
  for (const [limits, text] of [
    [{ delivery_messages_max: 3 }, ""],
    [{ delivery_bytes_max: 3_100 }, "x".repeat(1_000)],
  ] as const) {
    const receiver = new Receiver({ limits });
    receiver.block(true);
    receiver.outgoing.replay(replayOf(["retained"]));
    for (const number of numbers(3)) send(receiver, `${number}${text}`);
    send(receiver, `dropped${text}`);
    assert.deepEqual(receiver.dropped, ["slow-reader"]);
    assert.equal(receiver.ended.length, 0);
    receiver.block(false);
    await waitFor("all", () => receiver.received.length === 4);
    assert.deepEqual(
      receiver.received.map((it) => it.slice(0, 1)),
      ["r", "0", "1", "2"],
    );
    receiver.block(true);
    receiver.outgoing.replay(replayOf(["retained"]));
    for (const number of numbers(3)) offer(receiver, `${number}${text}`);
    assert.equal(receiver.ended.length, 0);
    offer(receiver, `over${text}`);
    assert.equal(receiver.ended[0]?.reasonCode, 0x97);
  }
});

test("retained messages that wait to be sent are as many as may be retained, but for one replay", async () => {
  const receiver = new Receiver({ limits: { retained_messages_max: 10 } });
  for (const from of [0, 10]) {
    receiver.block(true);
    receiver.outgoing.replay(replayOf(numbers(8, from)));
    receiver.outgoing.replay(replayOf(numbers(2, from + 8)));
    assert.equal(receiver.ended.length, 0);
    receiver.block(false);
    await waitFor("all", () => receiver.received.length === from + 10);
    assert.deepEqual(receiver.received, numbers(from + 10));
  }
  receiver.block(true);
  receiver.outgoing.replay(replayOf(numbers(12)));
  assert.equal(receiver.ended.length, 0);
  receiver.outgoing.replay(replayOf(["one more"]));
  assert.equal(receiver.ended[0]?.reasonCode, 0x97);
});

test("a replay ends with its connection", async () => {
  const receiver = new Receiver();
  receiver.outgoing.replay(replayOf(numbers(2_000)));
  await turn();
  receiver.wire.isOpen = false;
  receiver.outgoing.end();
  const { length } = receiver.received;
  await turn();
  await turn();
  assert.ok(length < 2_000);
  assert.deepEqual([receiver.received.length, receiver.delivered], [length, length]);
});

test("a shared subscription loses nothing that waits behind retained messages when its member leaves", () => {
  const receiver = new Receiver();
  receiver.block(true);
  receiver.outgoing.replay(replayOf(["retained"]));
  sharedOf(receiver, ["shared"]);
  receiver.wire.isOpen = false;
  assert.deepEqual(textsOf(receiver.outgoing.end()), ["shared"]);
});

test("what a stored queue holds comes behind the retained messages that are replayed", async () => {
  const queue = new FakeQueue();
  const receiver = new Receiver({ queue });
  receiver.outgoing.replay(replayOf(numbers(3_000)));
  queue.add(messageOf("t", "3000"), 1);
  receiver.outgoing.poke();
  await complete(receiver, 3_001, queue);
  assert.deepEqual(receiver.received, numbers(3_001));
});

test("a shared subscription loses nothing by a member that is over its limit", () => {
  for (const isReplayed of [false, true]) {
    const receiver = new Receiver({ limits: { delivery_messages_max: 3 } });
    receiver.block(true);
    if (isReplayed) receiver.outgoing.replay(replayOf(["retained"]));
    sharedOf(receiver, numbers(3));
    assert.equal(receiver.ended.length, 0);
    sharedOf(receiver, ["3"]);
    assert.equal(receiver.ended[0]?.reasonCode, 0x97);
    assert.deepEqual(textsOf(receiver.left), numbers(4));
  }
});

test("nor by one that is over its limit when what waited behind retained messages has its turn", async () => {
  const receiver = new Receiver({ receiveMaximum: 1, limits: { delivery_messages_max: 2 } });
  receiver.outgoing.replay(replayOf(["under way", "waits"], 1));
  sharedOf(receiver, numbers(2));
  await waitFor("the end", () => receiver.ended.length > 0);
  assert.deepEqual(textsOf(receiver.left), numbers(2));
});

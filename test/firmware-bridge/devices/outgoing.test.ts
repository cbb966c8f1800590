// outgoing.test: what is sent, sent again and given up of what a client has to say.
// Path: test. Touches: nothing; the clock is mocked.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type IPublishPacket, parser } from "mqtt-packet";
import { Outgoing, type Refusal } from "../../../firmware-bridge/devices/outgoing.ts";

const NOT_AUTHORIZED = 0x87;
const QUOTA_EXCEEDED = 0x97;
const TERMS = { sessionPresent: true, receiveMaximum: 65_535, maximumPacketBytes: 1_000 };

function setUp(messagesMax = 10) {
  const refusals: Refusal[] = [];
  const outgoing = new Outgoing({ messagesMax, onRefused: (refusal) => refusals.push(refusal) });
  let sent: IPublishPacket[] = [];
  const packets = parser({ protocolVersion: 5 });
  packets.on("packet", (packet) => sent.push(packet as IPublishPacket));
  return {
    outgoing,
    refusals,
    connect: (some: Partial<typeof TERMS> = {}) =>
      outgoing.connected({ ...TERMS, ...some }, (bytes) => packets.parse(bytes)),
    publish: (text: string) =>
      outgoing.publish({ topic: "t", payload: Buffer.from(text), retain: false }),
    say: (topic: string, text: string) =>
      outgoing.say({ topic, payload: Buffer.from(text), retain: true }),
    /** What was sent since it was asked last. */
    sent() {
      const since = sent;
      sent = [];
      return since;
    },
    texts() {
      return this.sent().map(({ payload }) => payload.toString());
    },
  };
}

test("hands out each packet identifier before any a second time, and none that is taken", () => {
  const it = setUp(70_000);
  it.connect();
  const first = new Set<number>();
  it.publish("kept");
  const kept = it.sent()[0]?.messageId ?? 0;
  for (let n = 0; n < 65_533; n += 1) {
    it.publish("x");
    const id = it.sent()[0]?.messageId ?? 0;
    first.add(id);
    it.outgoing.puback(id, 0, undefined);
  }
  assert.equal(first.size, 65_533);
  assert.ok(!first.has(kept));
  it.publish("again");
  assert.equal(it.sent()[0]?.messageId, kept + 1);
});

test("holds only so much of what is urgent and not retained, and says who waits for nothing", () => {
  const it = setUp();
  let settled = 0;
  const payload = Buffer.from("x");
  for (let n = 0; n < 1_000; n += 1) {
    it.outgoing.say({ topic: "r", payload, retain: false, settled: () => (settled += 1) });
  }
  it.say("a", "kept");
  it.connect();
  const sent = it.sent();
  assert.equal(sent.length, 1_000 - settled + 1);
  assert.ok(sent.length <= 300, `${sent.length} were held`);
  assert.equal(sent.at(-1)?.topic, "a");
  assert.equal(it.outgoing.discarded, settled);
});

test("sends what is in flight again with DUP, but not to a broker that lost the session", () => {
  const it = setUp();
  it.connect();
  it.publish("1");
  it.publish("2");
  const ids = it.sent().map(({ messageId }) => messageId);
  it.outgoing.disconnected();
  it.publish("3");
  it.connect();
  const again = it.sent();
  assert.deepEqual(
    again.map(({ payload, dup }) => [payload.toString(), dup]),
    [
      ["1", true],
      ["2", true],
      ["3", false],
    ],
  );
  assert.deepEqual(
    again.slice(0, 2).map(({ messageId }) => messageId),
    ids,
  );
  it.outgoing.disconnected();
  it.connect({ sessionPresent: false });
  assert.deepEqual(
    it.sent().map(({ dup }) => dup),
    [false, false, false],
  );
});

test("has no more under way than the broker's Receive Maximum, also of what is sent again", () => {
  const it = setUp();
  it.connect();
  for (const text of "12345678") it.publish(text);
  it.sent();
  it.outgoing.disconnected();
  it.connect({ receiveMaximum: 2 });
  const [first, second, third] = it.sent();
  assert.equal(third, undefined);
  it.outgoing.puback(first?.messageId ?? 0, 0, undefined);
  it.outgoing.puback(second?.messageId ?? 0, 0, undefined);
  assert.deepEqual(it.texts(), ["3", "4"]);
});

test("says what is urgent past messages that wait, and of a retained topic the newest alone", () => {
  const it = setUp();
  for (const text of "123") it.publish(text);
  it.say("a", "old");
  it.say("b", "other");
  it.say("a", "new");
  it.connect({ receiveMaximum: 4 });
  assert.deepEqual(it.texts(), ["other", "new"]);
});

test("drops and tells what the broker refuses for good, and what is too long for it", () => {
  const it = setUp();
  it.connect();
  it.publish("no");
  it.outgoing.puback(it.sent()[0]?.messageId ?? 0, NOT_AUTHORIZED, "because");
  it.publish("x".repeat(2_000));
  assert.deepEqual(
    it.refusals.map(({ reasonCode, said }) => [reasonCode, said?.replace(/\d+/, "n")]),
    [
      [NOT_AUTHORIZED, "because"],
      [0x95, "n bytes"],
    ],
  );
  assert.equal(it.outgoing.refusedForGood, 2);
  assert.equal(it.outgoing.acknowledged, 0);
  assert.equal(it.outgoing.isIdle, true);
});

test("keeps what the broker has no room for, in order, and holds the port back", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const it = setUp(3);
  it.connect();
  for (const text of "123") assert.equal(it.publish(text), undefined);
  const room = it.publish("4");
  assert.ok(room);
  for (const { messageId } of it.sent()) {
    it.outgoing.puback(messageId ?? 0, QUOTA_EXCEEDED, undefined);
  }
  assert.deepEqual(it.texts(), []);
  for (const waitMs of [500, 1_000, 2_000]) {
    t.mock.timers.tick(waitMs);
    const [one, ...more] = it.sent();
    assert.deepEqual([one?.payload.toString(), one?.dup, more], ["1", false, []]);
    it.outgoing.puback(one?.messageId ?? 0, QUOTA_EXCEEDED, undefined);
  }
  t.mock.timers.tick(4_000);
  it.outgoing.puback(it.sent()[0]?.messageId ?? 0, 0, undefined);
  await room;
  assert.deepEqual(it.texts(), ["2", "3", "4"]);
  assert.equal(it.outgoing.size, 3);
  assert.deepEqual(it.refusals, []);
});

test("keeps the order of what is refused one after the other, however long that takes", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const it = setUp();
  it.connect();
  for (const text of "1234") it.publish(text);
  const ids = it.sent().map(({ messageId = 0 }) => messageId);
  for (const id of ids) {
    it.outgoing.puback(id, QUOTA_EXCEEDED, undefined);
    t.mock.timers.tick(30_000);
  }
  const seen: string[] = [];
  for (let [one] = it.sent(); one; [one] = it.sent()) {
    seen.push(one.payload.toString());
    it.outgoing.puback(one.messageId ?? 0, seen.length < 3 ? QUOTA_EXCEEDED : 0, undefined);
    t.mock.timers.tick(30_000);
    if (seen.length === 3) break;
  }
  assert.deepEqual([...seen, ...it.texts()], ["1", "1", "1", "2", "3", "4"]);
});

test("never says again of a retained topic what is older than what the broker has of it", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const it = setUp();
  it.connect();
  it.say("a", "old");
  it.say("a", "new");
  it.say("b", "old");
  const [oldA = 0, newA = 0, oldB = 0] = it.sent().map(({ messageId }) => messageId);
  it.outgoing.puback(oldA, QUOTA_EXCEEDED, undefined);
  it.outgoing.puback(newA, 0, undefined);
  it.outgoing.puback(oldB, QUOTA_EXCEEDED, undefined);
  it.say("b", "new");
  t.mock.timers.tick(500);
  assert.deepEqual(it.texts(), ["new"]);
});

test("gives up any number of messages that are too long for the broker, one after the other", () => {
  const it = setUp(1);
  for (let n = 0; n < 10_000; n += 1) void it.publish("x".repeat(20));
  it.connect({ maximumPacketBytes: 10 });
  assert.equal(it.refusals.length, 10_000);
  assert.equal(it.outgoing.isIdle, true);
});

test("is bounded, whoever does not wait for room, and counts what that costs", () => {
  const it = setUp(2);
  for (let n = 0; n < 10_010; n += 1) void it.publish("x");
  assert.deepEqual([it.outgoing.size, it.outgoing.discarded], [2, 8]);
});

test("loses nothing and keeps the order, however connections come and go", () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant("publish" as const), count: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ kind: fc.constant("acknowledge" as const), count: fc.nat(6) }),
      fc.record({
        kind: fc.constant("break" as const),
        receiveMaximum: fc.integer({ min: 1, max: 9 }),
      }),
    ),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 8 }), (run, messagesMax) => {
      const it = setUp(messagesMax);
      const seen: number[] = [];
      let open: number[] = [];
      let published = 0;
      const take = () => {
        for (const { payload, messageId = 0 } of it.sent()) {
          seen.push(Number(payload.toString()));
          open.push(messageId);
        }
        assert.equal(new Set(open).size, open.length);
      };
      const acknowledge = (count: number) => {
        for (const id of open.splice(0, count)) it.outgoing.puback(id, 0, undefined);
        take();
      };
      it.connect();
      for (const step of run) {
        if (step.kind === "publish") {
          for (let n = 0; n < step.count; n += 1) void it.publish(String(published++));
        } else if (step.kind === "acknowledge") acknowledge(step.count);
        else {
          it.outgoing.disconnected();
          open = [];
          it.connect({ receiveMaximum: step.receiveMaximum });
          take();
          assert.ok(open.length <= step.receiveMaximum);
        }
        take();
        assert.ok(it.outgoing.size <= messagesMax);
      }
      for (let turn = 0; turn <= published && open.length > 0; turn += 1) acknowledge(open.length);
      assert.deepEqual(
        [...new Set(seen)],
        Array.from({ length: published }, (_, n) => n),
      );
      assert.equal(it.outgoing.isIdle, true);
    }),
    { seed: 5, numRuns: 500 },
  );
});

// findings.test: each way to break the invariant is found, and a kept one is not called broken.
// Path: [findings] → table. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Evidence, findingsOf } from "../../../scripts/ordeal/findings.ts";
import type { Landed } from "../../../scripts/ordeal/landed.ts";

function message(seq: number, payload: string, epoch = "7"): Landed {
  const bytes = new TextEncoder().encode(payload);
  const flags = { qos: 1, retain: false, takenAtMs: 0 } as const;
  const record = { kind: "message", message: { topic: "t", payload: bytes, ...flags } } as const;
  return { lane: "default", epoch, first: seq, last: seq, record };
}

function gap(from: number, to: number): Landed {
  const record = { kind: "gap", gap: { from, to, count: to - from + 1, reason: "" } } as const;
  return { lane: "default", epoch: "7", first: from, last: to, record };
}

/** Three messages, acknowledged, landed, heard by a consumer and a session. */
function evidence(over: Partial<Evidence> = {}, heard = [1, 2, 3]): Evidence {
  const arrivals = () => ({ firsts: new Set(heard), count: heard.length });
  return {
    gateway: "gw-001",
    promised: [{ topic: "t", qos: 1, acknowledged: new Set([1, 2, 3]) }],
    landed: [message(1, "1"), message(2, "2"), message(3, "3")],
    heard: [
      { who: "consumer", isConsumer: true, arrivals },
      { who: "session", isConsumer: false, arrivals },
    ],
    ...over,
  };
}

test("what is promised and came is not called broken", () => {
  const { broken, lost, landedRecords, epochs } = findingsOf([evidence(), evidence()]);
  assert.deepEqual(
    { broken, lost, landedRecords, epochs },
    { broken: [], lost: 0, landedRecords: 6, epochs: 2 },
  );
});

test("an acknowledged message that did not come is lost, once however many miss it", () => {
  const { broken, lost } = findingsOf([evidence({}, [1, 3])]);
  assert.equal(lost, 1);
  assert.equal(broken.length, 2);
  assert.match(broken[0] ?? "", /gw-001: t at consumer: 1 of 3 are lost: 2/);
});

test("messages that came in another order are told; repeats of them are counted", () => {
  const { broken } = findingsOf([evidence({}, [1, 3, 2])]);
  assert.match(broken[0] ?? "", /2 came after 3/);
  const again = findingsOf([evidence({}, [1, 2, 1, 2, 3])]);
  assert.deepEqual([again.broken, again.repeatedToConsumers, again.repeatedToSessions], [[], 2, 2]);
});

test("a sequence that landed twice, or not at all, is told", () => {
  const twice = findingsOf([
    evidence({ landed: [message(1, "1"), message(1, "1"), message(2, "2")] }),
  ]);
  assert.deepEqual([twice.landedTwice, twice.broken.length], [1, 1]);
  const never = findingsOf([evidence({ landed: [message(1, "1"), message(4, "4")] })]);
  assert.deepEqual([never.landedNever, never.broken.length], [2, 1]);
  const late = findingsOf([evidence({ landed: [message(2, "2")] })]);
  assert.equal(late.landedNever, 1);
});

test("a gap record takes the place of its sequences, and an epoch begins at 1", () => {
  const landed = [message(1, "1"), gap(2, 5), message(6, "6"), message(1, "7", "8")];
  const { broken, gapRecords, gapMessages, epochs } = findingsOf([evidence({ landed })]);
  assert.deepEqual(
    { broken, gapRecords, gapMessages, epochs },
    { broken: [], gapRecords: 1, gapMessages: 4, epochs: 2 },
  );
});

test("a message that was taken twice is told at QoS 2, and counted at QoS 1", () => {
  const landed = [message(1, "1"), message(2, "1"), message(3, "3")];
  const one = findingsOf([evidence({ landed })]);
  assert.deepEqual([one.takenTwice, one.broken], [1, []]);
  const promised = [{ topic: "t", qos: 2, acknowledged: new Set([1, 2, 3]) }] as const;
  const two = findingsOf([evidence({ landed, promised })]);
  assert.match(two.broken[0] ?? "", /of QoS 2, was taken twice: 1: 1/);
});

// brokers.test: which brokers of a cluster are taken for alive, and which of them looks after all.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Brokers } from "../../../broker/mqtt/brokers.ts";

function open(brokerId: string) {
  let nowMs = 0;
  const brokers = new Brokers({ brokerId, silentMsMax: 10, now: () => nowMs });
  const at = (ms: number) => {
    nowMs = ms;
    return brokers;
  };
  return { brokers, at };
}

test("a broker that is alone looks after all, whatever it hears of itself", () => {
  const { brokers, at } = open("b");
  brokers.heard("b");
  assert.equal(brokers.isFirst, true);
  assert.deepEqual(at(1_000).sweep(), [], "and never dies for itself");
});

test("of those that live one looks after all: the first by name", () => {
  const { brokers, at } = open("b");
  brokers.heard("c");
  assert.equal(brokers.isFirst, true);
  brokers.heard("a");
  assert.equal(brokers.isFirst, false);
  at(5).heard("c");
  assert.deepEqual(at(11).sweep(), ["a"]);
  assert.equal(brokers.isFirst, true);
});

test("a broker is dead once, when it was silent for longer than it may be", () => {
  const { brokers, at } = open("b");
  brokers.heard("a");
  assert.deepEqual(at(10).sweep(), []);
  at(10).heard("a");
  assert.deepEqual(at(20).sweep(), []);
  assert.deepEqual(at(21).sweep(), ["a"]);
  assert.deepEqual(at(21).sweep(), []);
});

test("a broker that another one speaks of has its time to speak, once", () => {
  const { brokers, at } = open("b");
  brokers.expect("a");
  brokers.expect("b");
  assert.equal(brokers.isFirst, false);
  at(8).expect("a");
  assert.deepEqual(at(11).sweep(), ["a"]);
});

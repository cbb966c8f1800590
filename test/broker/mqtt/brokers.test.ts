// brokers.test: which brokers of a cluster are taken for alive, and which of them looks after all.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Brokers } from "../../../broker/mqtt/brokers.ts";

function open(brokerId: string) {
  let nowMs = 0;
  const brokers = new Brokers({ brokerId, silentMsMax: 10, now: () => nowMs });
  const at = (ms: number, self: "hears itself" | "is deaf" = "hears itself") => {
    nowMs = ms;
    if (self === "hears itself") brokers.heard(brokerId);
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
  at(10);
  assert.deepEqual(at(11).sweep(), ["a"]);
  assert.equal(brokers.isFirst, true);
});

test("a broker is dead once, when it was silent for longer than it may be", () => {
  const { brokers, at } = open("b");
  brokers.heard("a");
  at(5);
  assert.deepEqual(at(10).sweep(), []);
  at(10).heard("a");
  at(15);
  assert.deepEqual(at(20).sweep(), []);
  assert.deepEqual(at(21).sweep(), ["a"]);
  assert.deepEqual(at(21).sweep(), []);
});

test("a broker that another one speaks of has its time to speak, once", () => {
  const { brokers, at } = open("b");
  brokers.expect("a");
  brokers.expect("b");
  assert.equal(brokers.isFirst, false);
  at(4).expect("a");
  at(8).expect("a");
  assert.deepEqual(at(11).sweep(), ["a"]);
});

test("who does not hear itself judges nobody, and gives all their time when it hears again", () => {
  const { brokers, at } = open("b");
  brokers.heard("a");
  assert.deepEqual(at(1_000, "is deaf").sweep(), []);
  assert.deepEqual(at(1_000).sweep(), []);
  at(1_005);
  assert.deepEqual(at(1_010).sweep(), []);
  assert.deepEqual(at(1_011).sweep(), ["a"]);
});

test("who was silent for so long that others took it for dead is told so", () => {
  const { brokers, at } = open("b");
  at(10, "is deaf");
  assert.equal(brokers.heard("b"), false);
  at(21, "is deaf");
  assert.equal(brokers.heard("a"), false, "it is not about others");
  assert.equal(brokers.heard("b"), true);
  assert.equal(brokers.heard("b"), false, "once");
});

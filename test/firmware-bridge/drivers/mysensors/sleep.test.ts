// sleep.test: when a sleeping node can be reached.
// Path: test. Touches: the clock, for as little as it can.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Sleep } from "../../../../firmware-bridge/drivers/mysensors/sleep.ts";

const never = new AbortController().signal;

test("takes a node that tells nothing for awake", async () => {
  assert.equal(await new Sleep().isAwakeWithin(0, never), true);
});

test("reaches a node that falls asleep as long as it listens, and not after", async () => {
  let nowMs = 0;
  const sleep = new Sleep(() => nowMs);
  sleep.fallsAsleepIn(500);
  nowMs = 499;
  assert.equal(await sleep.isAwakeWithin(0, never), true);
  nowMs = 500;
  assert.equal(await sleep.isAwakeWithin(1, never), false);
  sleep.wakes();
  assert.equal(await sleep.isAwakeWithin(0, never), true);
});

test("tells all who wait when the node wakes, or listens before it sleeps again", async () => {
  const sleep = new Sleep(() => 0);
  for (const wakes of [() => sleep.wakes(), () => sleep.fallsAsleepIn(500)]) {
    sleep.fallsAsleepIn(0);
    const waiting = [1, 2].map(() => sleep.isAwakeWithin(60_000, never));
    wakes();
    assert.deepEqual(await Promise.all(waiting), [true, true]);
  }
});

test("waits no longer than the link is there", async () => {
  const sleep = new Sleep(() => 0);
  sleep.fallsAsleepIn(0);
  const link = new AbortController();
  const waiting = sleep.isAwakeWithin(60_000, link.signal);
  link.abort();
  assert.equal(await waiting, false);
  assert.equal(await sleep.isAwakeWithin(60_000, link.signal), false);
});

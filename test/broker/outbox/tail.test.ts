import assert from "node:assert/strict";
import { test } from "node:test";
import { Tail } from "../../../broker/outbox/tail.ts";

function tailAt(clock: { ms: number }, limits = { tailBytesMax: 100, tailSecondsMax: 60 }): Tail {
  return new Tail(limits, () => clock.ms);
}

test("lets parts go when they are older than the limit", () => {
  const clock = { ms: 0 };
  const tail = tailAt(clock);
  tail.add({ end: 5, count: 5, bytes: 10 });
  clock.ms = 30_000;
  tail.add({ end: 8, count: 3, bytes: 10 });
  clock.ms = 61_000;
  assert.equal(tail.dropOld(), 5);
  assert.deepEqual([tail.count, tail.bytes], [3, 10]);
});

test("lets the oldest parts go when the bytes are over the limit", () => {
  const clock = { ms: 0 };
  const tail = tailAt(clock);
  for (let part = 1; part <= 5; part += 1) {
    clock.ms += 2_000;
    tail.add({ end: part, count: 1, bytes: 40 });
  }
  assert.equal(tail.dropOld(), 3);
  assert.equal(tail.bytes, 80);
});

test("joins parts of one second, so that their number does not grow with the rate", () => {
  const clock = { ms: 0 };
  const tail = tailAt(clock, { tailBytesMax: 100, tailSecondsMax: 1 });
  tail.add({ end: 1, count: 1, bytes: 1 });
  clock.ms = 999;
  tail.add({ end: 2, count: 1, bytes: 1 });
  clock.ms = 1_000;
  assert.equal(tail.dropOld(), 2, "both go at once");
});

test("gives back what the cloud forgot", () => {
  const clock = { ms: 0 };
  const tail = tailAt(clock);
  tail.add({ end: 10, count: 10, bytes: 50 });
  tail.takeBack(6, 4, 20);
  assert.deepEqual([tail.count, tail.bytes], [6, 30]);
  clock.ms = 61_000;
  assert.equal(tail.dropOld(), 6);
});

// schedule.test: each block keeps its period, however late it is, and whoever is held is passed over.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { blocksOf } from "../../../../firmware-bridge/drivers/modbus-rtu/blocks.ts";
import { Poll, Schedule } from "../../../../firmware-bridge/drivers/modbus-rtu/schedule.ts";
import { registerSettings } from "./settings-for.ts";

function block(...addresses: number[]) {
  const registers = addresses.map((address) =>
    registerSettings({ channel: `c${address}`, address }),
  );
  const [first] = blocksOf(registers, { gapMax: 124, registersMax: 125 });
  return first ?? assert.fail();
}

const free = () => Number.NEGATIVE_INFINITY;

test("a poll that is late does not move its period", () => {
  const poll = new Poll("a", block(0), 100, 1_000);
  assert.equal(poll.take(1_000), 0);
  assert.equal(poll.dueAtMs, 1_100);
  assert.equal(poll.take(1_130), 0);
  assert.equal(poll.dueAtMs, 1_200);
});

test("counts the beats that passed unread, and does not make up for them", () => {
  const poll = new Poll("a", block(0), 100, 1_000);
  assert.equal(poll.take(1_350), 3);
  assert.equal(poll.dueAtMs, 1_400);
});

test("gives what is due the longest, and says when there is something", () => {
  const fast = new Poll("a", block(0), 100, 50);
  const slow = new Poll("b", block(0), 1_000, 20);
  const schedule = new Schedule([fast, slow]);
  assert.deepEqual(schedule.next(10, free), { atMs: 20 });
  assert.deepEqual(schedule.next(60, free), { poll: slow });
  assert.deepEqual(
    schedule.next(60, (owner) => (owner === "b" ? 500 : 0)),
    { poll: fast },
  );
  assert.deepEqual(
    schedule.next(60, () => 500),
    { atMs: 500 },
  );
});

test("gives every poll its share of a line that has room for all", () => {
  const anyPeriods = fc.array(fc.integer({ min: 20, max: 500 }), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(anyPeriods, (periods) => {
      const schedule = new Schedule(periods.map((it, index) => new Poll(index, block(0), it)));
      const read = periods.map(() => 0);
      let nowMs = 0;
      let missed = 0;
      while (nowMs < 20_000) {
        const next = schedule.next(nowMs, free);
        if ("atMs" in next) {
          nowMs = next.atMs;
          continue;
        }
        missed += next.poll.take(nowMs);
        read[next.poll.owner] = (read[next.poll.owner] ?? 0) + 1;
        nowMs += 2;
      }
      assert.equal(missed, 0);
      for (const [index, period] of periods.entries()) {
        assert.ok(Math.abs((read[index] ?? 0) - 20_000 / period) <= 1, `${read} of ${periods}`);
      }
    }),
    { seed: 5, numRuns: 100 },
  );
});

test("rests longer after each refusal, on its beat, and no more when it worked", () => {
  const poll = new Poll("a", block(0), 1_000, 0);
  const rests: number[] = [];
  for (let times = 0; times < 12; times += 1) {
    const nowMs = poll.dueAtMs;
    poll.take(nowMs);
    poll.rest(nowMs);
    rests.push(poll.dueAtMs - nowMs);
    assert.equal(poll.dueAtMs % 1_000, 0);
  }
  assert.deepEqual(rests.slice(0, 3), [2_000, 4_000, 8_000]);
  assert.equal(rests.at(-1), 600_000);
  poll.worked();
  const nowMs = poll.dueAtMs;
  poll.take(nowMs);
  assert.equal(poll.dueAtMs - nowMs, 1_000);
});

test("a split poll becomes one for each register, due at once", () => {
  const poll = new Poll("a", block(0, 1, 5), 1_000, 0);
  const schedule = new Schedule([poll]);
  schedule.split(poll, 7);
  const read: number[] = [];
  for (let times = 0; times < 3; times += 1) {
    const next = schedule.next(7, free);
    assert.ok("poll" in next);
    next.poll.take(7);
    read.push(next.poll.block.address);
  }
  assert.deepEqual(read, [0, 1, 5]);
  assert.deepEqual(schedule.next(7, free), { atMs: 1_007 });
});

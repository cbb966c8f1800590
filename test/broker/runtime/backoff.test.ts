// backoff.test: what the wait before a retry promises.
// Path: test. Touches: the clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { backoffMs, wait, within } from "#runtime/backoff";

test("doubles from the least to the most", () => {
  const longest = [0, 1, 2, 3, 8, 9, 40].map((attempt) => backoffMs(attempt, 100, 30_000, () => 1));
  assert.deepEqual(longest, [100, 200, 400, 800, 25_600, 30_000, 30_000]);
});

test("stays in the upper half, for any attempt", () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 1, max: 10_000 }),
      fc.nat(100_000),
      (attempt, least, more) => {
        const most = least + more;
        const full = Math.min(most, least * 2 ** Math.min(attempt, 30));
        const waited = backoffMs(attempt, least, most);
        assert.ok(waited >= Math.floor(full / 2) && waited <= full, `${waited} of ${full}`);
      },
    ),
    { seed: 20_260_204, numRuns: 1_000 },
  );
});

test("spreads those who failed together", () => {
  assert.equal(
    backoffMs(3, 100, 30_000, () => 0),
    400,
  );
  assert.equal(
    backoffMs(3, 100, 30_000, () => 0.5),
    600,
  );
});

test("ends a wait early and without an error when it is called off", async () => {
  const abort = new AbortController();
  const waiting = wait(600_000, abort.signal);
  abort.abort();
  await waiting;
  await wait(600_000, abort.signal);
});

test("waits as long as it was told to", async () => {
  const began = performance.now();
  await wait(20);
  assert.ok(performance.now() - began >= 19);
});

test("waits for something no longer than it is told to, and no longer than that takes", async () => {
  const startedMs = performance.now();
  await within(60_000, Promise.resolve());
  await within(20, new Promise(() => {}));
  await assert.rejects(within(60_000, Promise.reject(new Error("its own"))), /its own/);
  assert.ok(performance.now() - startedMs < 5_000);
});

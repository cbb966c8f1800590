// token-bucket.test: what is promised of the drain's limit.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { TokenBucket } from "../../../broker/uplink/token-bucket.ts";

test("lets a frame go at once, and the next when it is paid off", () => {
  let nowMs = 500;
  const bucket = new TokenBucket(1_000, () => nowMs);
  assert.equal(bucket.waitMs, 0);
  bucket.take(250);
  assert.equal(bucket.waitMs, 250);
  nowMs += 249;
  assert.equal(bucket.waitMs, 1);
  nowMs += 1;
  assert.equal(bucket.waitMs, 0);
});

test("an idle time gives no credit", () => {
  let nowMs = 0;
  const bucket = new TokenBucket(1_000, () => nowMs);
  nowMs = 3_600_000;
  bucket.take(100);
  assert.equal(bucket.waitMs, 100);
});

test("over any time lets no more go than the rate and one frame", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1_024, max: 1_000_000 }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 300_000 }), fc.nat(2_000)), { minLength: 1 }),
      (rate, steps) => {
        let nowMs = 0;
        const bucket = new TokenBucket(rate, () => nowMs);
        const sent: { atMs: number; bytes: number }[] = [];
        for (const [bytes, pauseMs] of steps) {
          nowMs += pauseMs + bucket.waitMs;
          // Fractions of a millisecond are lost to rounding.
          nowMs += bucket.waitMs;
          sent.push({ atMs: nowMs, bytes });
          bucket.take(bytes);
        }
        for (const [from, first] of sent.entries()) {
          let sum = 0;
          for (const { atMs, bytes } of sent.slice(from)) {
            const most = ((atMs - first.atMs) * rate) / 1_000;
            assert.ok(sum <= most + 1, `${sum} bytes before ${atMs}, allowed ${most}`);
            sum += bytes;
          }
        }
      },
    ),
    { seed: 20_261_127, numRuns: 300 },
  );
});

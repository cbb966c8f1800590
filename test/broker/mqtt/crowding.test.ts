import assert from "node:assert/strict";
import { test } from "node:test";
import { Crowding } from "../../../broker/mqtt/crowding.ts";

function open() {
  const now = { ms: 0 };
  const told: number[] = [];
  const crowding = new Crowding({ tell: () => told.push(now.ms), nowMs: () => now.ms });
  return { crowding, now, told };
}

test("all brokers are told of a crowd at once, and then no oftener than needed", () => {
  const { crowding, now, told } = open();
  for (; now.ms < 100; now.ms += 1) crowding.felt();
  assert.deepEqual(told, [0, 25, 50, 75]);
});

test("a notice holds for a tenth of a second and no longer", async () => {
  const { crowding, now } = open();
  assert.equal(crowding.hold(), undefined);
  crowding.heard();
  const sinceMs = performance.now();
  await crowding.hold();
  const tookMs = performance.now() - sinceMs;
  assert.ok(tookMs >= 95, `${tookMs} ms`);
  now.ms = 100;
  assert.equal(crowding.hold(), undefined);
});

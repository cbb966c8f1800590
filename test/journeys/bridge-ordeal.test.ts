// bridge-ordeal.test: what devices were promised holds while everything around them breaks.
// Path: journeys → ordeal. Touches: what an ordeal touches.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ordeal } from "./bridge-ordeal/ordeal.ts";

const SEED = 5;
const SECONDS = 45;
const LONG_SECONDS = 240;

async function assertKept(t: TestContext, seed: number, seconds: number): Promise<void> {
  const lines: string[] = [];
  const { broken, table } = await ordeal(t, seed, seconds, (line) => lines.push(line));
  t.diagnostic(`\n${table}`);
  assert.deepEqual(broken, [], `seed ${seed}, ${seconds} s:\n${lines.join("\n")}`);
}

test(`${SECONDS} seconds of faults around serial devices break no promise`, async (t) => {
  await assertKept(t, SEED, SECONDS);
});

// Another one each time; the seed is in the message.
if (process.env.SLUICE_TEST_LONG === "1") {
  test(`${LONG_SECONDS} seconds of faults around serial devices break no promise`, async (t) => {
    await assertKept(t, Math.floor(Date.now() / 1_000) % 2 ** 31, LONG_SECONDS);
  });
}

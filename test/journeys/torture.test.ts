// torture.test: the promises hold while everything breaks that can break.
// Path: journeys → torture. Touches: what a torture touches.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { FAULT_NAMES } from "../../scripts/ordeal/schedule.ts";
import { tableOf } from "../../scripts/ordeal/table.ts";
import { torture } from "../../scripts/ordeal/torture.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const SEED = 4;
const SECONDS = 60;
const LONG_SECONDS = 300;

async function assertKept(t: TestContext, seed: number, seconds: number): Promise<void> {
  const lines: string[] = [];
  const outcome = await torture({
    ...{ folder: temporaryFolder(t), seed, seconds, gateways: 2, program: "sources" },
    faults: FAULT_NAMES,
    signal: t.signal,
    say: (line) => lines.push(line),
  });
  t.diagnostic(`\n${tableOf(outcome)}`);
  const { broken } = outcome.findings;
  assert.deepEqual(broken, [], `seed ${seed}, ${seconds} s:\n${lines.join("\n")}`);
}

test(`${SECONDS} seconds of faults lose nothing that was acknowledged`, async (t) => {
  await assertKept(t, SEED, SECONDS);
});

// Another one each time: what it finds can be seen again by scripts/torture with that seed.
if (process.env.SLUICE_TEST_LONG === "1") {
  test(`${LONG_SECONDS} seconds of faults lose nothing that was acknowledged`, async (t) => {
    await assertKept(t, Math.floor(Date.now() / 1_000) % 2 ** 31, LONG_SECONDS);
  });
}

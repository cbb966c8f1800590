// reaches: waits for a count that may stop short of its goal.
// Path: jobs → [reaches]. Touches: nothing.

import { setTimeout as sleep } from "node:timers/promises";
import { BenchFailure } from "../failure.ts";

/** Without progress for so long, the rest will not come. */
const STALL_MS = 5_000;

/** @throws BenchFailure, in words that end with `what`, when it stands still. */
export async function reaches(count: () => number, goal: number, what: string): Promise<void> {
  let last = count();
  let lastAtMs = performance.now();
  while (count() < goal) {
    await sleep(10);
    if (count() !== last) {
      last = count();
      lastAtMs = performance.now();
    } else if (performance.now() > lastAtMs + STALL_MS) {
      throw new BenchFailure(`only ${last} of ${goal} ${what}`);
    }
  }
}

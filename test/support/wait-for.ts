// wait-for: waits until something holds, with a bound, instead of sleeping.
// Path: tests. Touches: the clock.

import { setTimeout as sleep } from "node:timers/promises";

/** Asks `check` again and again until it answers with something true; throws after `mostMs`. */
export async function waitFor<T>(
  what: string,
  check: () => T | Promise<T>,
  mostMs = 5_000,
): Promise<NonNullable<T>> {
  const endMs = performance.now() + mostMs;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (performance.now() > endMs) throw new Error(`waited ${mostMs} ms in vain for: ${what}`);
    await sleep(10);
  }
}

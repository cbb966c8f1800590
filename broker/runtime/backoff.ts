// backoff: how long to wait before a retry, and waits that end early.
// Path: uplink, ingest, links. Touches: the clock.

import { setTimeout as sleep } from "node:timers/promises";

/**
 * Milliseconds before try number `attempt` (from 0): doubled from `leastMs` up to `mostMs`, then
 * a random point in the upper half of that, so that many who failed together do not return together.
 */
export function backoffMs(
  attempt: number,
  leastMs: number,
  mostMs: number,
  random: () => number = Math.random,
): number {
  const full = Math.min(mostMs, leastMs * 2 ** Math.min(attempt, 30));
  return Math.round(full * (0.5 + random() / 2));
}

/** Waits `ms`; returns early, without an error, when `signal` aborts. */
export async function wait(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, signal ? { signal } : {}).catch((cause: unknown) => {
    if (!signal?.aborted) throw cause;
  });
}

/** Resolves when `promise` does, or after `ms`. */
export async function within(ms: number, promise: Promise<unknown> | undefined): Promise<void> {
  const done = new AbortController();
  await Promise.race([promise, wait(ms, done.signal)]).finally(() => done.abort());
}

// bystander: a publisher and a subscriber in a thread of their own, and how long they had to wait.
// Path: tests of hostile input → [bystander] → bystander-thread. Touches: two TCP connections.

import { once } from "node:events";
import type { TestContext } from "node:test";
import { Worker } from "node:worker_threads";
import type { Watched } from "./watched-gateway.ts";

/** Round trips of QoS 1: from PUBLISH until it was delivered and acknowledged. */
export interface Waited {
  readonly count: number;
  readonly worstMs: number;
  readonly p99Ms: number;
  /** By the clock: with the time in which others of this machine had the processors. */
  readonly worstByClockMs: number;
}

export interface Bystander {
  /** Since the last time that it was asked. */
  waited(): Promise<Waited>;
  /** Resolves when that many more round trips are done, with false when `mostMs` have gone before. */
  passes(count: number, mostMs: number): Promise<boolean>;
  stop(): Promise<void>;
}

/**
 * Begins at once, and goes on until it is stopped; a lost or repeated message fails the next call.
 * What it waits because the broker's process waits for a processor is no fault of the broker's.
 */
export async function startBystander(
  t: TestContext,
  { port, child }: Pick<Watched, "port" | "child">,
): Promise<Bystander> {
  const thread = new Worker(new URL("./bystander-thread.ts", import.meta.url), {
    workerData: { port, brokerPid: child.pid },
  });
  const failed = once(thread, "error").then(([fault]) => {
    throw fault;
  });
  failed.catch(() => {});
  t.after(() => thread.terminate());
  const ask = async (question: unknown): Promise<unknown> => {
    const answered = once(thread, "message");
    thread.postMessage(question);
    const [answer] = await Promise.race([answered, failed]);
    return answer;
  };
  await Promise.race([once(thread, "message"), failed]);
  return {
    waited: async () => (await ask({ tell: true })) as Waited,
    passes: async (count, mostMs) => (await ask({ passes: count, mostMs })) === "passed",
    stop: async () => {
      await ask({ stop: true });
    },
  };
}

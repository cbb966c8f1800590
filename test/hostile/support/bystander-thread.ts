// bystander-thread: one message after the other through the broker, each one timed.
// Path: bystander → [bystander-thread] → wire-client. Touches: two TCP connections, /proc.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { WireClient } from "../../conformance/support/wire-client.ts";

/** A pause between two round trips, so that they are no load of their own. */
const PAUSE_MS = 2;
const ROUND_TRIP_MS_MAX = 30_000;
const TOPIC = "bystander/topic";

interface Question {
  readonly tell?: boolean;
  readonly passes?: number;
  readonly mostMs?: number;
  readonly stop?: boolean;
}

const scope = { after: () => {} };
const { port, brokerPid } = workerData as { port: number; brokerPid: number };
const publisher = await WireClient.connect(scope, port, { clientId: "bystander-1" });
const subscriber = await WireClient.connect(scope, port, { clientId: "bystander-2" });
await subscriber.subscribe(TOPIC, 1);

let waitedMs: number[] = [];
let worstByClockMs = 0;
let count = 0;
let isRunning = true;

/**
 * How long the broker's main thread and this one have waited for a processor: the second number of
 * schedstat (kernel, Documentation/scheduler/sched-stats.rst); 0 where the kernel does not tell.
 */
function queuedMs(): number {
  const threads = [`/proc/${brokerPid}/task/${brokerPid}`, "/proc/thread-self"];
  return threads.reduce((sum, thread) => sum + queuedNs(thread) / 1e6, 0);
}

function queuedNs(thread: string): number {
  try {
    return Number(readFileSync(`${thread}/schedstat`, "utf8").split(" ")[1]);
  } catch {
    return 0;
  }
}

async function roundTrip(): Promise<void> {
  const payload = String(count);
  const packetId = publisher.nextId();
  const queuedBeforeMs = queuedMs();
  const sentAtMs = performance.now();
  publisher.sendPublish({ topic: TOPIC, payload, qos: 1, packetId });
  const [delivered] = await Promise.all([
    subscriber.expect("publish", { topic: TOPIC, payload, qos: 1, dup: false }, ROUND_TRIP_MS_MAX),
    publisher.expect("puback", { packetId }, ROUND_TRIP_MS_MAX),
  ]);
  const byClockMs = performance.now() - sentAtMs;
  worstByClockMs = Math.max(worstByClockMs, byClockMs);
  waitedMs.push(Math.max(0, byClockMs - (queuedMs() - queuedBeforeMs)));
  subscriber.sendPuback({ packetId: delivered.packetId });
  count += 1;
}

function told() {
  const sorted = waitedMs.toSorted((one, other) => one - other);
  const byClock = { worstByClockMs };
  waitedMs = [];
  worstByClockMs = 0;
  const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? 0;
  return { count: sorted.length, worstMs: at(1), p99Ms: at(0.99), ...byClock };
}

async function answer(question: Question): Promise<unknown> {
  if (question.tell) return told();
  if (question.stop) {
    isRunning = false;
    await running;
    publisher.cut();
    subscriber.cut();
    return "stopped";
  }
  const [until, endMs] = [
    count + (question.passes ?? 0),
    performance.now() + (question.mostMs ?? 0),
  ];
  while (count < until && performance.now() < endMs) await wait(PAUSE_MS);
  return count >= until ? "passed" : "late";
}

async function run(): Promise<void> {
  while (isRunning) {
    await roundTrip();
    await wait(PAUSE_MS);
  }
}

const running = run();
assert(parentPort, "bystander-thread runs as a worker alone");
const main = parentPort;
main.on("message", (question: Question) => {
  void answer(question).then((told) => main.postMessage(told));
});
main.postMessage("ready");

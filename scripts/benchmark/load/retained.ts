// retained: many retained messages: for a subscriber to all of them, and for one to none.
// Path: load/main → [retained] → publisher, connection. Touches: what those touch, /proc.

import { setTimeout as sleep } from "node:timers/promises";
import { cpuUs, rssBytes } from "../cost.ts";
import type { Figures, RetainJob } from "../job.ts";
import { LoadConnection, Turn } from "./connection.ts";
import { Publisher } from "./publisher.ts";
import { reaches } from "./reaches.ts";

const PAYLOAD_BYTES = 64;
const WINDOW = 100;
const ROUNDS = 5;
const SUBSCRIBES_MAX = 2_000;
const SUBSCRIBING_MS_MAX = 2_000;
/** For what a broker does once the messages are stored. */
const SETTLE_MS = 500;

export async function runRetained(job: RetainJob): Promise<Figures> {
  const { pid, port, topics } = job;
  const turn = new Turn();
  const other = await LoadConnection.open(port, "bench-other", turn);
  await subscribeOften(job, other);
  const beforeUs = await subscribeOften(job, other);
  await store(job, turn);
  await sleep(SETTLE_MS);
  const afterUs = await subscribeOften(job, other);
  const cpuBefore = cpuUs(pid);
  const tookMs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) tookMs.push(await receiveAll(job, turn, round));
  return {
    lastMs: tookMs.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? Number.NaN,
    cpuUsPerDelivery: (cpuUs(pid) - cpuBefore) / (topics * ROUNDS),
    subscribeUs: afterUs,
    subscribeGrowth: afterUs / beforeUs,
    rssMib: rssBytes(pid) / 2 ** 20,
  };
}

/** The broker's CPU time for one SUBSCRIBE to a topic that nothing is retained for, in µs. */
async function subscribeOften({ pid }: RetainJob, other: LoadConnection): Promise<number> {
  const before = cpuUs(pid);
  const endAtMs = performance.now() + SUBSCRIBING_MS_MAX;
  let count = 0;
  do await other.subscribe("other/topic", 0);
  while (++count < SUBSCRIBES_MAX && performance.now() < endAtMs);
  return (cpuUs(pid) - before) / count;
}

async function store(job: RetainJob, turn: Turn): Promise<void> {
  const topics = Array.from({ length: job.topics }, (_, number) => ({
    topic: `bench/retained/${number % 200}/${number}`,
    deliveries: 0,
  }));
  const publisher = new Publisher({
    number: 0,
    port: job.port,
    turn,
    qos: 1,
    retain: true,
    payloadBytes: PAYLOAD_BYTES,
    window: WINDOW,
    topics,
    messagesMax: job.topics,
  });
  await publisher.connect();
  publisher.start();
  await reaches(() => publisher.done, job.topics, "retained messages were acknowledged");
  publisher.close();
}

/** From a new client's SUBSCRIBE to the last of the messages, in ms. */
async function receiveAll({ port, topics }: RetainJob, turn: Turn, round: number): Promise<number> {
  let received = 0;
  let lastAtMs = 0;
  const delivered = () => {
    received += 1;
    if (received === topics) lastAtMs = performance.now();
  };
  const subscriber = await LoadConnection.open(port, `bench-all-${round}`, turn, { delivered });
  const startMs = performance.now();
  await subscriber.subscribe("#", 0);
  await reaches(() => received, topics, "retained messages arrived");
  subscriber.close();
  return lastAtMs - startMs;
}

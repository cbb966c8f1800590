// queue: the queue of a kept session, filled while its client is away, and what its return costs.
// Path: load/main → [queue] → publisher, connection. Touches: what those touch, /proc.

import { setTimeout as sleep } from "node:timers/promises";
import { cpuUs, rssBytes } from "../cost.ts";
import type { Figures, QueueJob } from "../job.ts";
import { LoadConnection, Turn } from "./connection.ts";
import { Publisher } from "./publisher.ts";
import { reaches } from "./reaches.ts";

const TOPIC = "bench/queue/value";
const CLIENT = "bench-away";
const WINDOW = 100;
/** Part of the messages that goes before, not for the figures: code is compiled by then. */
const WARM_SHARE = 0.2;
/** For a broker to be done with what it was sent. */
const SETTLE_MS = 500;

export async function runQueue(job: QueueJob): Promise<Figures> {
  const turn = new Turn();
  await fill(job, turn, Math.ceil(job.messages * WARM_SHARE));
  await drain(job, turn, Math.ceil(job.messages * WARM_SHARE));
  await fill(job, turn, job.messages);
  return drain(job, turn, job.messages);
}

async function fill({ port, payloadBytes }: QueueJob, turn: Turn, messages: number): Promise<void> {
  const away = await LoadConnection.open(port, CLIENT, turn, {}, { keepsSession: true });
  await away.subscribe(TOPIC, 1);
  away.close();
  await sleep(SETTLE_MS);
  const publisher = new Publisher({
    ...{ number: 0, port, turn, payloadBytes, window: WINDOW, messagesMax: messages },
    ...{ qos: 1, retain: false, topics: [{ topic: TOPIC, deliveries: 0 }] },
  });
  await publisher.connect();
  publisher.start();
  await reaches(() => publisher.done, messages, "messages were acknowledged");
  publisher.close();
  await sleep(SETTLE_MS);
}

/** From the client's return to the last of the messages. */
async function drain({ pid, port }: QueueJob, turn: Turn, messages: number): Promise<Figures> {
  let received = 0;
  let lastAtMs = 0;
  const delivered = () => {
    received += 1;
    lastAtMs = performance.now();
  };
  const usedBeforeUs = cpuUs(pid);
  const startMs = performance.now();
  const options = { keepsSession: true };
  const client = await LoadConnection.open(port, CLIENT, turn, { delivered }, options);
  await reaches(() => received, messages, "messages arrived");
  await sleep(SETTLE_MS);
  client.close();
  const lastMs = lastAtMs - startMs;
  return {
    cpuUsPerDelivery: (cpuUs(pid) - usedBeforeUs) / messages,
    lastMs,
    deliveriesPerSecond: (messages / lastMs) * 1_000,
    rssMib: rssBytes(pid) / 2 ** 20,
  };
}

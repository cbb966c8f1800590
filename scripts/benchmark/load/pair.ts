// pair: one publisher and one subscriber at an even pace: how late are the messages?
// Path: load/main → [pair] → connection. Touches: what that touches.

import { setTimeout as sleep } from "node:timers/promises";
import type { Figures, PairJob } from "../job.ts";
import { LoadConnection, Turn } from "./connection.ts";
import { messageTemplate } from "./packets.ts";
import { Samples } from "./samples.ts";

const TOPIC = "bench/bystander/value";
const INTERVAL_MS = 2;
const ARRIVE_MS_MAX = 5_000;

export async function runPair({ port, warmSeconds, seconds }: PairJob): Promise<Figures> {
  const turn = new Turn();
  const latencyMs = new Samples();
  /** When each message was sent that has not come yet, by its number. */
  const sentAtMs = new Map<number, number>();
  const delivered = (received: Buffer, payloadAt: number) => {
    const number = received.readUInt32BE(payloadAt);
    latencyMs.add(performance.now() - (sentAtMs.get(number) ?? Number.NaN));
    sentAtMs.delete(number);
  };
  const subscriber = await LoadConnection.open(port, "bench-pair-s", turn, { delivered });
  await subscriber.subscribe(TOPIC, 0);
  const publisher = await LoadConnection.open(port, "bench-pair-p", turn);
  const template = messageTemplate({ topic: TOPIC, qos: 0, retain: false, payloadBytes: 64 });
  let count = 0;
  const timer = setInterval(() => {
    const bytes = Buffer.from(template.bytes);
    bytes.writeUInt32BE(count, template.payloadAt);
    sentAtMs.set(count++, performance.now());
    publisher.send(bytes);
  }, INTERVAL_MS);
  await sleep(warmSeconds * 1_000);
  latencyMs.clear();
  await sleep(seconds * 1_000);
  clearInterval(timer);
  const endAtMs = performance.now() + ARRIVE_MS_MAX;
  while (sentAtMs.size > 0 && performance.now() < endAtMs) await sleep(10);
  // What has not come by now is at least so late.
  for (const sent of sentAtMs.values()) latencyMs.add(performance.now() - sent);
  return { p50Ms: latencyMs.quantile(0.5), p99Ms: latencyMs.quantile(0.99) };
}

// stamped: a subscriber to lines that say their number and when they were said.
// Path: load/main → [stamped] → connection, arrivals, samples. Touches: what those touch, stdout.

import { setTimeout as sleep } from "node:timers/promises";
import { type Figures, RUNNING, type StampedJob } from "../job.ts";
import { Arrivals } from "./arrivals.ts";
import { LoadConnection, Turn } from "./connection.ts";
import { Samples } from "./samples.ts";

const LOOK_MS = 10;
/** In a line's beginning: "00000042 00001764099812345678901". */
const NUMBER_CHARACTERS = 8;
const STAMP_CHARACTERS = 20;

export async function runStamped(job: StampedJob): Promise<Figures> {
  const { port, filter, messages, silentSecondsMax } = job;
  const arrivals = new Arrivals(messages);
  const latencyMs = new Samples();
  let lastAtMs = performance.now();
  const delivered = (bytes: Buffer, payloadAt: number) => {
    lastAtMs = performance.now();
    const stampAt = payloadAt + NUMBER_CHARACTERS + 1;
    const saidAtMs = Number(bytes.toString("latin1", stampAt, stampAt + STAMP_CHARACTERS)) / 1e6;
    latencyMs.add(performance.timeOrigin + lastAtMs - saidAtMs);
    arrivals.add(Number(bytes.toString("latin1", payloadAt, payloadAt + NUMBER_CHARACTERS)));
  };
  const consumer = await LoadConnection.open(port, "bench-stamped", new Turn(), { delivered });
  await consumer.subscribe(filter, 1);
  process.stdout.write(`${RUNNING}\n`);
  const isOver = () => performance.now() - lastAtMs > silentSecondsMax * 1_000;
  while (arrivals.different < messages && !isOver()) await sleep(LOOK_MS);
  return {
    lost: arrivals.lost,
    repeated: arrivals.repeated,
    p50Ms: latencyMs.quantile(0.5),
    p99Ms: latencyMs.quantile(0.99),
  };
}

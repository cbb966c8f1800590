// collect: a subscriber that counts what arrives, and what of it is missing or came again.
// Path: load/main → [collect] → connection, arrivals. Touches: what those touch, stdout.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type CollectJob, type Figures, RUNNING } from "../job.ts";
import { Arrivals } from "./arrivals.ts";
import { LoadConnection, Turn } from "./connection.ts";

const LOOK_MS = 10;
/** Once some have come, the others follow, or are lost. */
const GAP_MS_MAX = 10_000;

export async function runCollect(job: CollectJob): Promise<Figures> {
  const { port, caFile, filter, messages, silentSecondsMax } = job;
  const arrivals = new Arrivals(messages);
  let firstAtMs = 0;
  let lastAtMs = 0;
  const delivered = (bytes: Buffer, payloadAt: number) => {
    lastAtMs = performance.now();
    firstAtMs ||= lastAtMs;
    arrivals.add(bytes.readUInt32BE(payloadAt));
  };
  const options = {
    // One that ends with its connection is cut off when a drain is faster than it reads.
    keepsSession: true,
    ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
  };
  const id = "bench-collect";
  const consumer = await LoadConnection.open(port, id, new Turn(), { delivered }, options);
  await consumer.subscribe(filter, 1);
  process.stdout.write(`${RUNNING}\n`);
  const giveUpAtMs = performance.now() + silentSecondsMax * 1_000;
  const isOver = () => performance.now() > (firstAtMs ? lastAtMs + GAP_MS_MAX : giveUpAtMs);
  const count = () => (job.numbered ? arrivals.different : arrivals.received);
  while (count() < messages && !isOver()) await sleep(LOOK_MS);
  return {
    missing: messages - count(),
    lost: arrivals.lost,
    repeated: arrivals.repeated,
    drainedPerSecond: (count() / (lastAtMs - firstAtMs)) * 1_000,
  };
}

// flood: publishers that send whenever the broker reads, and maybe one subscriber who never does.
// Path: load/main → [flood] → connection. Touches: what that touches, stdout.

import { type FloodJob, RUNNING } from "../job.ts";
import { LoadConnection, Turn } from "./connection.ts";
import { messageTemplate } from "./packets.ts";

const BLOCK_MESSAGES = 100;

/** Goes on until the process is killed. */
export async function runFlood(job: FloodJob): Promise<void> {
  const { port, payloadBytes } = job;
  const turn = new Turn();
  if (job.frozenSubscriber) {
    const frozen = await LoadConnection.open(port, "bench-frozen", turn);
    await frozen.subscribe("bench/flood/#", 0);
    frozen.freeze();
  }
  for (let number = 0; number < job.publishers; number++) {
    const topic = `bench/flood/${number}`;
    const { bytes } = messageTemplate({ topic, qos: 0, retain: false, payloadBytes });
    const block = Buffer.concat(Array.from({ length: BLOCK_MESSAGES }, () => bytes));
    const publisher = await LoadConnection.open(port, `bench-flood-${number}`, turn);
    // A write that the kernel takes whole leaves the socket empty, and no drain follows.
    const sendNow = () => {
      if (publisher.send(block)) setImmediate(sendNow);
    };
    publisher.onDrain(sendNow);
    sendNow();
  }
  process.stdout.write(`${RUNNING}\n`);
}

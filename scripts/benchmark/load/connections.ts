// connections: many clients that connect and then do nothing.
// Path: load/main → [connections] → connection. Touches: what that touches, /proc of the broker.

import { setTimeout as sleep } from "node:timers/promises";
import { cpuUs, rssBytes } from "../cost.ts";
import type { ConnectionsJob, Figures } from "../job.ts";
import { LoadConnection, Turn } from "./connection.ts";
import { eachOf } from "./live.ts";

/** For a broker to tidy up after the rush. */
const SETTLE_MS = 2_000;

export async function runConnections({ pid, port, count }: ConnectionsJob): Promise<Figures> {
  const turn = new Turn();
  const numbers = Array.from({ length: count }, (_, number) => number);
  const rssBefore = rssBytes(pid);
  const cpuBefore = cpuUs(pid);
  await eachOf(numbers, async (number) => {
    await LoadConnection.open(port, `bench-idle-${number}`, turn);
  });
  const usedUs = cpuUs(pid) - cpuBefore;
  await sleep(SETTLE_MS);
  return {
    cpuUsPerConnect: usedUs / count,
    rssKibPerConnection: (rssBytes(pid) - rssBefore) / count / 1_024,
    rssMib: rssBytes(pid) / 2 ** 20,
  };
}

// waiting: what a broker grows by while messages wait in it for a cloud that is away.
// Path: custody-scenarios → [waiting] → broker-process, load-process. Touches: what those touch.

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { unreachableMosquitto } from "./bridge.ts";
import type { BrokerProcess } from "./broker-process.ts";
import { rssBytes } from "./cost.ts";
import type { Figures } from "./job.ts";
import { runLoad } from "./load-process.ts";
import { isShort, type Setup, type Site } from "./scenario.ts";

const WAITING = 1_000_000;
const WAITING_IN_SHORT = 100_000;
/** Of them, what an outbox that counts as empty has: the code that takes messages has run by then. */
const FEW_SHARE = 0.01;
/** For what a broker does once the messages are stored. */
const SETTLE_MS = 2_000;

/** Nothing listens there: what goes to the cloud stays. */
export const UNREACHABLE = { uplink: { url: "redis://127.0.0.1:1" } };

/** How many messages wait. */
export function waitingOf(seconds: number): number {
  return isShort(seconds) ? WAITING_IN_SHORT : WAITING;
}

export async function runWaiting(site: Site): Promise<Figures> {
  const setup: Setup = { sluice: UNREACHABLE, mosquitto: unreachableMosquitto(site.folder) };
  const broker = await site.start(setup);
  const few = waitingOf(site.seconds) * FEW_SHARE;
  let rssStarted: number;
  let rssFew: number;
  let rssAll: number;
  try {
    rssStarted = await settledRss(broker);
    await fill(site, broker, few);
    rssFew = await settledRss(broker);
    await fill(site, broker, waitingOf(site.seconds) - few);
    rssAll = await settledRss(broker);
  } finally {
    await broker.stop();
  }
  const dataMib = bytesIn(site.folder) / 2 ** 20;
  const again = await site.start(setup);
  try {
    const { startMs, startCpuMs } = again;
    return {
      rssGrowthMib: (rssAll - rssFew) / 2 ** 20,
      restartRssGrowthMib: ((await settledRss(again)) - rssStarted) / 2 ** 20,
      restartMs: startMs,
      restartCpuMs: startCpuMs,
      dataMib,
      rssMib: rssAll / 2 ** 20,
    };
  } finally {
    await again.stop();
  }
}

async function settledRss({ pid }: BrokerProcess): Promise<number> {
  await sleep(SETTLE_MS);
  return rssBytes(pid);
}

function fill({ signal }: Site, broker: BrokerProcess, messages: number): Promise<Figures> {
  const { port, pid } = broker;
  const load = { kind: "fill", publishers: 100, window: 10, payloadBytes: 100, messages } as const;
  return runLoad({ ...load, port, pid }, signal);
}

/** Of all files below the folder. */
function bytesIn(folder: string): number {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true });
  return files
    .filter((file) => file.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
}

// outage: what is published while the network is away, and the edge is killed half-way.
// Path: custody-scenarios → [outage] → bridge, load-process. Touches: what those touch.

import { setTimeout as sleep } from "node:timers/promises";
import { type Bridge, MosquittoBridge, SluiceBridge } from "./bridge.ts";
import type { Figures } from "./job.ts";
import { startLoad } from "./load-process.ts";
import { isShort, type Site } from "./scenario.ts";

const PER_SECOND = 1_000;
/** Of the outage, in which there is publishing. */
const PUBLISHING_SHARE = 5 / 6;
const FULL_OUTAGE_SECONDS = 60;
/** mosquitto waits up to 30 s between two tries, and may just have tried; so does Sluice. */
const RECOVERY_SECONDS_MAX = 75;
/** From the edge's restart to the last acknowledgement. */
const PUBLISHED_MS_MAX = 120_000;
const LOOK_MS = 5;

/** How long the network is away, and how many messages come meanwhile. */
export function outageOf(seconds: number): { seconds: number; messages: number } {
  const outage = isShort(seconds) ? seconds : FULL_OUTAGE_SECONDS;
  return { seconds: outage, messages: Math.round(outage * PER_SECOND * PUBLISHING_SHARE) };
}

export async function runOutage(site: Site): Promise<Figures> {
  if (site.broker === "sluice") return outageOfSluice(site);
  const defaults = await outageOfMosquitto(site, ["max_queued_messages 1000"]);
  const unlimited = await outageOfMosquitto(site, []);
  return {
    lost: defaults.lost ?? Number.NaN,
    lostUnlimited: unlimited.lost ?? Number.NaN,
    drainedPerSecond: unlimited.drainedPerSecond ?? Number.NaN,
    repeated: unlimited.repeated ?? Number.NaN,
  };
}

async function outageOfMosquitto(site: Site, edgeLines: readonly string[]): Promise<Figures> {
  const bridge = await MosquittoBridge.start(site, "together", edgeLines);
  try {
    return await outage(site, bridge);
  } finally {
    await bridge.stop();
  }
}

async function outageOfSluice(site: Site): Promise<Figures> {
  const bridge = await SluiceBridge.start(site, "together");
  try {
    await bridge.hasLanded();
    let landing: Promise<number> | undefined;
    const figures = await outage(site, bridge, () => {
      landing = landedPerSecond(bridge);
    });
    return { ...figures, landedPerSecond: (await landing) ?? Number.NaN };
  } finally {
    await bridge.stop();
  }
}

/** `onHeld` is called when the network is back, and the edge does not know yet. */
async function outage(
  { seconds, signal }: Site,
  bridge: Bridge,
  onHeld: () => void = () => {},
): Promise<Figures> {
  const { seconds: outageSeconds, messages } = outageOf(seconds);
  await bridge.networkOff();
  const { port, pid: firstPid } = bridge.edge;
  const publisher = await startLoad(
    {
      ...{ kind: "paced", port, pid: firstPid, messages },
      ...{ messagesPerSecond: PER_SECOND, payloadBytes: 100 },
    },
    signal,
  );
  const over = sleep(outageSeconds * 1_000);
  await sleep((outageSeconds / 2) * 1_000);
  await bridge.killEdge();
  await publisher.figures(PUBLISHED_MS_MAX);
  await over;
  // The edge stands still until the consumer is back: what comes before that is not for it.
  const { pid } = bridge.edge;
  process.kill(pid, "SIGSTOP");
  await bridge.networkOn();
  const consumer = await startLoad(
    {
      ...{ kind: "collect", ...bridge.consumer, messages, numbered: true },
      silentSecondsMax: RECOVERY_SECONDS_MAX,
    },
    signal,
  );
  onHeld();
  process.kill(pid, "SIGCONT");
  const msMax = (RECOVERY_SECONDS_MAX + outageSeconds) * 2_000;
  const { missing: _, ...figures } = await consumer.figures(msMax);
  return figures;
}

/** From the first frame that the landing gets to the last. */
async function landedPerSecond(bridge: SluiceBridge): Promise<number> {
  const before = await bridge.landed();
  while ((await bridge.landed()) === before) await sleep(LOOK_MS);
  const startMs = performance.now();
  await bridge.hasLanded();
  return (((await bridge.landed()) - before) / (performance.now() - startMs)) * 1_000;
}

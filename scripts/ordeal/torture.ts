// torture: one run: load and faults for a while, then quiet, then the question what was lost.
// Path: main, journeys → [torture] → world, trouble, findings. Touches: what those touch.

import { becomes } from "../chain/ready.ts";
import { type Evidence, type Findings, findingsOf, type Hearing } from "./findings.ts";
import { landedIn } from "./landed.ts";
import type { Listener } from "./listener.ts";
import { Rewinds } from "./rewinds.ts";
import { type FaultName, schedule } from "./schedule.ts";
import type { Outcome } from "./table.ts";
import { Trouble } from "./trouble.ts";
import { type Station, statusOf, World } from "./world.ts";

export interface TortureOptions {
  readonly folder: string;
  readonly seed: number;
  readonly seconds: number;
  readonly gateways: number;
  readonly faults: readonly FaultName[];
  readonly program: "bundles" | "sources";
  /** Called off, it draws no more faults, and comes to its end as it would. */
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

const SETTLE_MS_MAX = 120_000;
const DRAIN_MS_MAX = 240_000;
/** Longer than anybody waits between two tries: who hears nothing for so long gets nothing more. */
const SILENCE_MS_MAX = 45_000;
/** The landing keeps what it has until all of it was looked at. */
const KEPT_SECONDS_MORE = 3_600;

/** @throws ChainFailure when the chain does not start. */
export async function torture(options: TortureOptions): Promise<Outcome> {
  const { seed, seconds, gateways, say, signal } = options;
  const world = await World.open({ ...options, keptSeconds: seconds + KEPT_SECONDS_MORE });
  const rewinds = new Rewinds(world.stations);
  try {
    const trouble = new Trouble(world, say);
    const planned = schedule(options);
    say(`${planned.length} faults in ${seconds} s`);
    await trouble.run(planned, signal);
    say("no more faults");
    const late = await settle(world, say);
    await rewinds.ask();
    const findings = await look(world);
    const broken = [...trouble.failures, ...late, ...sessionsLost(world), ...findings.broken];
    return {
      ...{ seed, seconds, gateways, tally: trouble },
      promised: world.devices,
      rewinds: rewinds.total,
      sessionsLost: sessionsLost(world).length,
      findings: { ...findings, broken },
    };
  } finally {
    rewinds.stop();
    await world.close();
  }
}

/** Nothing new is published; what is under way gets its time. Says what took too long. */
async function settle(world: World, say: (line: string) => void): Promise<string[]> {
  for (const device of world.devices) device.pause();
  const steps: [string, () => Promise<boolean>, number][] = [
    [
      "devices' acknowledgements",
      async () => world.devices.every((it) => it.isIdle),
      SETTLE_MS_MAX,
    ],
    ["outboxes", () => areDrained(world.stations), DRAIN_MS_MAX],
    ["listeners", isHeardOrSilent(world), DRAIN_MS_MAX],
  ];
  const late: string[] = [];
  for (const [what, isDone, msMax] of steps) {
    const fromMs = performance.now();
    const inTime = await becomes(isDone, msMax);
    say(
      `${what}: ${inTime ? "done" : "not done"} after ${Math.round(performance.now() - fromMs)} ms`,
    );
    if (!inTime) late.push(`the ${what} took more than ${msMax / 1_000} s`);
  }
  return late;
}

async function areDrained(stations: readonly Station[]): Promise<boolean> {
  for (const station of stations) {
    const outbox = (await statusOf(station))?.outbox;
    if (!outbox || outbox.some(({ waitingMessages }) => waitingMessages > 0)) return false;
  }
  return true;
}

/** Has everybody what is theirs, or will not get it? Which of the two is for the findings to say. */
function isHeardOrSilent(world: World): () => Promise<boolean> {
  let [count, sinceMs] = [-1, 0];
  return async () => {
    const listeners = [...world.stations.map(({ session }) => session), ...world.consumers];
    const now = listeners.reduce((sum, { received }) => sum + received, 0);
    if (now !== count) [count, sinceMs] = [now, performance.now()];
    const isSilent = performance.now() - sinceMs > SILENCE_MS_MAX;
    return isSilent || evidenceOf(world, []).every(isHeard);
  };
}

function isHeard(evidence: Evidence): boolean {
  return evidence.promised.every(({ topic, acknowledged }) =>
    evidence.heard.every(({ arrivals }) => {
      const firsts = arrivals(topic)?.firsts;
      return acknowledged.size === 0 || [...acknowledged].every((number) => firsts?.has(number));
    }),
  );
}

async function look(world: World): Promise<Findings> {
  const redis = world.landings.connect();
  try {
    const landed = [];
    for (const { name } of world.stations) landed.push(await landedIn(redis, name));
    return findingsOf(evidenceOf(world, landed));
  } finally {
    redis.disconnect();
  }
}

function evidenceOf(world: World, landed: readonly Evidence["landed"][]): Evidence[] {
  return world.stations.map(({ name, devices, session }, index) => ({
    gateway: name,
    promised: devices,
    landed: landed[index] ?? [],
    heard: [
      hearing(session, "", false),
      ...world.consumers.map((consumer) => hearing(consumer, `from/${name}/`, true)),
    ],
  }));
}

function hearing(listener: Listener, prefix: string, isConsumer: boolean): Hearing {
  const arrivals = (topic: string) => listener.arrivals.get(prefix + topic);
  return { who: listener.name, isConsumer, arrivals };
}

function sessionsLost({ stations, consumers }: World): string[] {
  return [...stations.map(({ session }) => session), ...consumers]
    .filter(({ sessionsLost }) => sessionsLost > 0)
    .map(({ name, sessionsLost }) => `${name} was not kept, ${sessionsLost} times`);
}

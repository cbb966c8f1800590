// scenarios: what is measured, and what is to be reached.
// Path: bench → [scenarios] → load-process. Touches: nothing by itself.

import { setTimeout as sleep } from "node:timers/promises";
import { rssBytes } from "./cost.ts";
import { CUSTODY_SCENARIOS } from "./custody-scenarios.ts";
import type { Figures, LiveJob, PairJob } from "./job.ts";
import type { Jobless, Scenario, Stage, StageScenario } from "./scenario.ts";
import { BRIDGE_SCENARIOS } from "./serial/bridge-scenarios.ts";

const CPU = "cpuUsPerDelivery";
const RETAINED = 20_000;
const IDLE_CONNECTIONS = 5_000;
/** Of one delayed ACK in Linux, at the least. */
const DELAYED_ACK_MS = 40;
/** A growth that is none, but for what two measurements of the same thing differ. */
const NO_GROWTH = 1.2;
/** For a broker to be done with what a flood left behind. */
const CALM_MS = 1_000;

type LiveOptions = Pick<LiveJob, "shape" | "qos" | "window"> & { readonly payloadBytes?: number };

function live(
  name: string,
  about: string,
  timesMosquitto: number | undefined,
  options: LiveOptions,
  more: Partial<StageScenario> = {},
): StageScenario {
  const goal = timesMosquitto === undefined ? {} : { goal: { timesMosquitto } };
  return {
    name,
    about,
    setup: {},
    figures: [{ key: CPU, words: "CPU µs per delivery", ...goal }],
    run: ({ run, seconds, warmSeconds }) =>
      run({ kind: "live", payloadBytes: 64, ...options, seconds, warmSeconds }),
    ...more,
  };
}

const WILD = { setup: { sluice: { limits: { connections_max: 1_200 } } } };

export const SCENARIOS: readonly Scenario[] = [
  live("p2p-q0", "10 pairs, QoS 0, 100 messages under way each", 0.6, {
    shape: "pairs",
    qos: 0,
    window: 100,
  }),
  live("p2p-q1", "10 pairs, QoS 1, 100 messages under way each", 0.6, {
    shape: "pairs",
    qos: 1,
    window: 100,
  }),
  live("p2p-q1-w1", "10 pairs, QoS 1, one message under way each", 1.2, {
    shape: "pairs",
    qos: 1,
    window: 1,
  }),
  live("fanin-q1", "200 publishers to one subscriber, QoS 1, 4 under way each", 1.0, {
    shape: "fan-in",
    qos: 1,
    window: 4,
  }),
  live("fanout-q0", "1 publisher to 200 subscribers, QoS 0, 10 under way", 0.6, {
    shape: "fan-out",
    qos: 0,
    window: 10,
  }),
  live("fanout-q1", "1 publisher to 200 subscribers, QoS 1, 10 under way", 0.6, {
    shape: "fan-out",
    qos: 1,
    window: 10,
  }),
  live(
    "wild-q0",
    "100 publishers, 10,000 topics, 1,000 overlapping wildcards, QoS 0",
    0.6,
    { shape: "wild", qos: 0, window: 4 },
    WILD,
  ),
  live(
    "wild-q1",
    "100 publishers, 10,000 topics, 1,000 overlapping wildcards, QoS 1",
    0.6,
    { shape: "wild", qos: 1, window: 4 },
    WILD,
  ),
  live(
    "p2p-1k",
    "10 pairs, QoS 0, 1 KB payloads, 4 under way each: where Nagle waits for a delayed ACK",
    undefined,
    { shape: "pairs", qos: 0, window: 4, payloadBytes: 1_024 },
    {
      figures: [
        { key: CPU, words: "CPU µs per delivery" },
        { key: "p99Ms", words: "p99 ms", goal: { most: DELAYED_ACK_MS } },
      ],
    },
  ),
  {
    name: "retain",
    about: `${RETAINED} retained messages to a new # subscriber, and a SUBSCRIBE to none of them`,
    setup: {},
    figures: [
      { key: "lastMs", words: "ms from SUBSCRIBE to the last", goal: { timesMosquitto: 1.5 } },
      { key: CPU, words: "CPU µs per delivery" },
      { key: "subscribeUs", words: "CPU µs per unrelated SUBSCRIBE" },
      {
        key: "subscribeGrowth",
        words: "the same, times that without retained",
        goal: { most: NO_GROWTH },
      },
    ],
    run: ({ run }) => run({ kind: "retain", topics: RETAINED }),
  },
  {
    name: "conns",
    about: `${IDLE_CONNECTIONS} idle connections`,
    setup: { sluice: { limits: { connections_max: IDLE_CONNECTIONS + 100 } } },
    figures: [
      { key: "rssKibPerConnection", words: "RSS KiB per connection", goal: { most: 12 } },
      { key: "cpuUsPerConnect", words: "CPU µs per CONNECT", goal: { most: 100 } },
    ],
    run: ({ run }) => run({ kind: "connections", count: IDLE_CONNECTIONS }),
  },
  {
    name: "idle",
    about: "a broker that has just started",
    setup: {},
    figures: [
      { key: "rssMib", words: "RSS MiB", goal: { most: 64 } },
      { key: "startCpuMs", words: "CPU ms from exec to the first CONNACK", goal: { most: 150 } },
    ],
    run: runIdle,
  },
  {
    name: "frozen",
    about: "a pair at an even pace, beside 4 publishers at full speed and a subscriber that froze",
    setup: {},
    figures: [
      { key: "quietP99Ms", words: "the pair's p99 ms, alone" },
      { key: "floodP99Ms", words: "with the 4 publishers" },
      { key: "frozenP99Ms", words: "with them and the frozen subscriber" },
      { key: "riseMs", words: "rise ms, to alone", goal: { most: 20 } },
      { key: "riseOverFloodMs", words: "rise ms, to the 4 publishers" },
    ],
    run: runFrozen,
  },
  ...CUSTODY_SCENARIOS,
  ...BRIDGE_SCENARIOS,
];

async function runIdle({ pid, startCpuMs, seconds }: Stage): Promise<Figures> {
  await sleep(Math.min(seconds, 2) * 1_000);
  return { rssMib: rssBytes(pid) / 2 ** 20, startCpuMs };
}

async function runFrozen(stage: Stage): Promise<Figures> {
  const { pid, seconds, warmSeconds } = stage;
  const pair: Jobless<PairJob> = { kind: "pair", seconds, warmSeconds };
  const flood = { kind: "flood", publishers: 4, payloadBytes: 256 } as const;
  const quiet = await stage.run(pair);
  const stopFlood = await stage.flood({ ...flood, frozenSubscriber: false });
  const flooded = await stage.run(pair);
  await stopFlood();
  await sleep(CALM_MS);
  const stopFrozen = await stage.flood({ ...flood, frozenSubscriber: true });
  const frozen = await stage.run(pair);
  const rssMib = rssBytes(pid) / 2 ** 20;
  await stopFrozen();
  const { p99Ms: quietP99Ms = Number.NaN } = quiet;
  const { p99Ms: floodP99Ms = Number.NaN } = flooded;
  const { p99Ms: frozenP99Ms = Number.NaN } = frozen;
  return {
    quietP99Ms,
    floodP99Ms,
    frozenP99Ms,
    riseMs: frozenP99Ms - quietP99Ms,
    riseOverFloodMs: frozenP99Ms - floodP99Ms,
    rssMib,
  };
}

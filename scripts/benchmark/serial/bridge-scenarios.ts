// bridge-scenarios: what serial ports cost: saturated, nearly idle, and many of them.
// Path: scenarios → [bridge-scenarios] → bridge-process, serial-ports. Touches: what those touch.

import { setTimeout as sleep } from "node:timers/promises";
import { BenchFailure } from "../failure.ts";
import type { Figures } from "../job.ts";
import { startLoad } from "../load-process.ts";
import type { Scenario, Site } from "../scenario.ts";
import { type BridgeProcess, startBridge, startPublishers } from "./bridge-process.ts";
import { SerialPorts } from "./serial-ports.ts";

const MB = 1e6;
const LINE_BYTES = 40;
/** A byte is ten bits on the wire. */
const LINES_PER_SECOND = Math.floor(115_200 / 10 / LINE_BYTES);
const SATURATED_PORTS = 32;
const IDLE_PORTS = 200;
/** Node compiles what it runs often. */
const WARM_SECONDS = 3;
const QUIET = { ports: 8, perSecond: 5 } as const;
const ARRIVE_SECONDS_MAX = 20;
const SETTLE_MS = 500;

export const BRIDGE_SCENARIOS: readonly Scenario[] = [
  {
    name: "serial-saturated",
    about: `${SATURATED_PORTS} serial ports of 115,200 baud, saturated with lines of ${LINE_BYTES} bytes; mosquitto: a mosquitto_pub -l -q 1 each`,
    brokers: ["mosquitto", "sluice"],
    figures: [
      { key: "lost", words: "lines lost", goal: { most: 0 } },
      { key: "coreShare", words: "% of a core for all ports", goal: { most: 40 } },
      { key: "cpuUsPerLine", words: "CPU µs per line" },
      { key: "rssMb", words: "RSS MB", goal: { most: 90 } },
    ],
    runAt: runSaturated,
  },
  {
    name: "serial-quiet",
    about: `${QUIET.ports} serial ports with ${QUIET.perSecond} lines per second each: from the line's last byte to a subscriber`,
    brokers: ["mosquitto", "sluice"],
    figures: [
      { key: "p50Ms", words: "p50 ms" },
      { key: "p99Ms", words: "p99 ms", goal: { most: 15 } },
    ],
    runAt: runQuiet,
  },
  {
    name: "serial-start",
    about: "the bridge's process from exec until its one link is up",
    brokers: ["sluice"],
    figures: [{ key: "startCpuMs", words: "CPU ms", goal: { most: 250 } }],
    runAt: (site) => withPorts(site, 1, startBridge, async (_, bridge) => startedOf(bridge)),
  },
  {
    name: "serial-many",
    about: `${IDLE_PORTS} devices, an MQTT client each, which say a line a second`,
    brokers: ["mosquitto", "sluice"],
    figures: [
      { key: "rssMb", words: "RSS MB", goal: { most: 110 } },
      { key: "coreShare", words: "% of a core" },
    ],
    runAt: runMany,
  },
];

type StartBridge = (site: Site, port: number, paths: readonly string[]) => Promise<BridgeProcess>;

/** The broker and the bridge that the site is about, on ports that are there as long as `does`. */
async function withPorts<T>(
  site: Site,
  count: number,
  start: StartBridge,
  does: (ports: SerialPorts, bridge: BridgeProcess, brokerPort: number) => Promise<T>,
): Promise<T> {
  const broker = await site.start(SETUP);
  const ports = await SerialPorts.open(site.folder, count, LINE_BYTES);
  try {
    const bridge = await start(site, broker.port, ports.paths);
    try {
      return await does(ports, bridge, broker.port);
    } finally {
      await bridge.stop();
    }
  } finally {
    await ports.close();
    await broker.stop();
  }
}

/** Its own limits are not what this is about. */
const SETUP = { mosquitto: ["max_inflight_messages 0"] };

const startOf = ({ broker }: Site): StartBridge =>
  broker === "sluice" ? startBridge : async (...args) => startPublishers(...args);

async function runSaturated(site: Site): Promise<Figures> {
  return withPorts(site, SATURATED_PORTS, startOf(site), async (ports, bridge, port) => {
    await heard(site, port, ports, WARM_SECONDS * LINES_PER_SECOND, LINES_PER_SECOND);
    const lines = Math.ceil(Math.max(site.seconds, 1) * LINES_PER_SECOND);
    const beforeUs = bridge.cpuUs;
    const startedMs = performance.now();
    const { lost } = await heard(site, port, ports, lines, LINES_PER_SECOND);
    const cpuUs = bridge.cpuUs - beforeUs;
    return {
      lost: lost ?? Number.NaN,
      coreShare: cpuUs / 10 / (performance.now() - startedMs),
      cpuUsPerLine: cpuUs / (lines * SATURATED_PORTS),
      rssMb: bridge.rssBytes / MB,
    };
  });
}

async function runQuiet(site: Site): Promise<Figures> {
  return withPorts(site, QUIET.ports, startOf(site), async (ports, _, port) => {
    await heard(site, port, ports, WARM_SECONDS * LINES_PER_SECOND, LINES_PER_SECOND);
    const lines = Math.ceil(site.seconds * QUIET.perSecond * 3);
    const { p50Ms = Number.NaN, p99Ms = Number.NaN } = await heard(
      ...([site, port, ports, lines, QUIET.perSecond] as const),
    );
    return { p50Ms, p99Ms };
  });
}

async function runMany(site: Site): Promise<Figures> {
  return withPorts(site, IDLE_PORTS, startOf(site), async (ports, bridge, port) => {
    const beforeUs = bridge.cpuUs;
    const startedMs = performance.now();
    const lines = Math.ceil(Math.max(site.seconds, 5));
    const { lost } = await heard(site, port, ports, lines, 1);
    if (lost !== 0) throw new BenchFailure(`${lost} lines lost`);
    const coreShare = (bridge.cpuUs - beforeUs) / 10 / (performance.now() - startedMs);
    return { rssMb: bridge.rssBytes / MB, coreShare };
  });
}

function startedOf(bridge: BridgeProcess): Figures {
  return { startCpuMs: bridge.cpuUs / 1_000 };
}

/** Has each port say `lines` lines, and a subscriber count them. */
async function heard(
  { signal }: Site,
  port: number,
  ports: SerialPorts,
  lines: number,
  perSecond: number,
): Promise<Figures> {
  const messages = lines * ports.paths.length;
  const consumer = await startLoad(
    {
      ...{ kind: "stamped", port, messages, filter: "serial/+/line" },
      silentSecondsMax: ARRIVE_SECONDS_MAX,
    },
    signal,
  );
  // Publishers that have just started are not connected yet.
  await sleep(SETTLE_MS);
  const held = await ports.speak(lines, perSecond);
  const figures = await consumer.figures(ARRIVE_SECONDS_MAX * 2_000);
  return { ...figures, lost: (figures.lost ?? Number.NaN) + held };
}

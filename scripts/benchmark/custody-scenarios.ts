// custody-scenarios: what a promise costs: acknowledgements, queues, and the way to the cloud.
// Path: scenarios → [custody-scenarios] → outage, bridged, waiting. Touches: nothing by itself.

import { bridgedOf, runBridged } from "./bridged.ts";
import { outageOf, runOutage } from "./outage.ts";
import { isShort, type Scenario } from "./scenario.ts";
import { runSlowDisk } from "./slow-disk.ts";
import { runWaiting, UNREACHABLE, waitingOf } from "./waiting.ts";

const PAYLOAD_BYTES = 100;
const INTAKE = {
  kind: "intake",
  publishers: 100,
  window: 10,
  payloadBytes: PAYLOAD_BYTES,
} as const;
const QUEUED = 50_000;
const QUEUED_IN_SHORT = 5_000;

const queuedOf = (seconds: number) => (isShort(seconds) ? QUEUED_IN_SHORT : QUEUED);
const counted = (count: number) => count.toLocaleString("en-US");

export const CUSTODY_SCENARIOS: readonly Scenario[] = [
  {
    name: "custody-q1",
    about:
      "100 publishers, QoS 1, 100 B, 10 under way each; Sluice syncs all of it for a cloud that is away, mosquitto keeps none of it",
    brokers: ["mosquitto", "sluice"],
    setup: { sluice: UNREACHABLE },
    figures: [
      { key: "messagesPerSecond", words: "PUBACKs per second", goal: { least: 15_000 } },
      { key: "cpuUsPerMessage", words: "CPU µs per message" },
    ],
    run: ({ run, seconds, warmSeconds }) => run({ ...INTAKE, seconds, warmSeconds }),
  },
  {
    name: "custody-slow-disk",
    about:
      "the same, with 20 ms more for a sync, as on an SD card; then one publisher at an even pace",
    brokers: ["sluice"],
    figures: [
      { key: "messagesPerSecond", words: "PUBACKs per second", goal: { least: 5_000 } },
      { key: "cpuUsPerMessage", words: "CPU µs per message" },
      { key: "pacedP99Ms", words: "p99 ms of the PUBACK, 1,000 per second", goal: { most: 60 } },
    ],
    runAt: runSlowDisk,
  },
  {
    name: "drain",
    about: "a kept session's client returns to what was queued for it, QoS 1, 100 B",
    brokers: ["mosquitto", "sluice"],
    setup: {},
    figures: [
      {
        key: "cpuUsPerDelivery",
        words: (seconds) => `CPU µs per delivery of ${counted(queuedOf(seconds))}`,
        goal: { most: 12 },
      },
      { key: "lastMs", words: "ms from CONNECT to the last" },
    ],
    run: ({ run, seconds }) =>
      run({ kind: "queue", messages: queuedOf(seconds), payloadBytes: PAYLOAD_BYTES }),
  },
  {
    name: "outbox-memory",
    about: "QoS 1 messages of 100 B that wait for a cloud that is away; then a restart",
    brokers: ["mosquitto", "sluice"],
    figures: [
      {
        key: "rssGrowthMib",
        words: (seconds) => {
          const waiting = waitingOf(seconds);
          return `RSS MiB more, with ${counted(waiting)} waiting than with ${counted(waiting / 100)}`;
        },
        goal: { most: 30 },
      },
      {
        key: "restartRssGrowthMib",
        words: "RSS MiB more, than at the first start, after a restart",
      },
      { key: "restartMs", words: "ms of the restart" },
      { key: "restartCpuMs", words: "CPU ms of the restart" },
      { key: "dataMib", words: "MiB on disk" },
    ],
    runAt: runWaiting,
  },
  {
    name: "bridged",
    about: "from intake to the upstream, QoS 1, 100 B: the edge's process alone, on its own core",
    brokers: ["mosquitto", "sluice"],
    figures: [
      {
        key: "cpuUsPerBridged",
        words: (seconds) => {
          return `CPU µs per message, ${counted(bridgedOf(seconds).messages)} at full speed`;
        },
        goal: { most: 60 },
      },
      {
        key: "pacedCpuUsPerBridged",
        words: (seconds) => `the same, ${counted(bridgedOf(seconds).paced)} at 1,000 per second`,
      },
      { key: "messagesPerSecond", words: "per second, at full speed" },
    ],
    runAt: runBridged,
  },
  {
    name: "outage",
    about:
      "QoS 1, 100 B, 1,000 per second while the network is away, the edge killed -9 half-way; all processes share both cores",
    brokers: ["mosquitto", "sluice"],
    repeatsMax: 1,
    figures: [
      {
        key: "lost",
        words: (seconds) => {
          const { messages, seconds: away } = outageOf(seconds);
          return `lost of ${counted(messages)} in ${away} s, with defaults`;
        },
        goal: { most: 0 },
      },
      { key: "lostUnlimited", words: "lost, with max_queued_messages 0" },
      {
        key: "drainedPerSecond",
        words: "drained per second, at the consumer",
        goal: { least: 25_000 },
      },
      { key: "landedPerSecond", words: "drained per second, into the landing" },
      { key: "repeated", words: "came more than once" },
    ],
    runAt: runOutage,
  },
];

// ordeal: one run: a world, its load, its trouble; then peace, and a look at what is left.
// Path: bridge-ordeal.test → [ordeal] → world, trouble, findings. Touches: what those touch.

import { connectAsync } from "mqtt";
import { Random } from "../../../scripts/ordeal/random.ts";
import { waitFor } from "../../support/wait-for.ts";
import { Commander } from "./commander.ts";
import { type Evidence, findingsOf, LINES_TOPIC } from "./findings.ts";
import { MQTT_TOPICS } from "./mqtt-device.ts";
import { SN_TOPICS } from "./sn-device.ts";
import { schedule, Trouble } from "./trouble.ts";
import { Witness } from "./witness.ts";
import { type After, LINKS, type LinkName, World } from "./world.ts";

const COMMAND_EVERY_MS = 100;
/** More than a device carries out before the fault comes. */
const BURST = 15;
const READY_MS_MAX = 30_000;
const PEACE_MS_MAX = 60_000;
const DESCRIPTORS_MAX = 64;
const RESIDENT_BYTES_MAX = 192 * 1024 * 1024;
/** Each device says and hears so much at the least, or nothing was tried. */
const LEAST = { messages: 50, commands: 5 } as const;

const AVAILABILITIES = ["serial/box/availability", "serial/meter/availability"];
/** What the broker retains in the end. */
const RETAINED: Readonly<Record<string, RegExp>> = {
  ...Object.fromEntries(AVAILABILITIES.map((topic) => [topic, /^online$/])),
  [MQTT_TOPICS.state]: /^here$/,
  "sluice/device/box": /"state":"online"/,
  "sluice/device/meter": /"state":"online"/,
};

export interface Outcome {
  readonly broken: readonly string[];
  /** What happened, and how often. */
  readonly table: string;
}

export async function ordeal(
  t: After,
  seed: number,
  seconds: number,
  say: (line: string) => void,
): Promise<Outcome> {
  const world = await World.open(t);
  say(`in ${world.folder}`);
  const witness = await Witness.come(world.url);
  const commander = new Commander(world.url);
  t.after(async () => {
    await Promise.all([witness.end(), commander.end()]);
  });
  await waitFor("every device", () => isEveryDeviceHeard(witness), READY_MS_MAX);
  const random = new Random(seed + 1);
  const command = (device: LinkName) => commander.command(device, random.once(2) ? 2 : 1);
  const timer = setInterval(() => command(random.pick(LINKS)), COMMAND_EVERY_MS);
  const trouble = new Trouble({
    world,
    heard: () => witness.counter(LINES_TOPIC).latest,
    burst: () => {
      for (let left = BURST; left > 0; left -= 1) for (const link of LINKS) command(link);
    },
    say,
  });
  await trouble.run(schedule(seed, seconds));
  clearInterval(timer);
  const { excuses, tally } = trouble;
  const evidence = { world, witness, commander, excuses };
  for (const device of world.devices) device.pause();
  await Promise.all(AVAILABILITIES.map((topic) => commander.lateWill(topic)));
  const isOver = () =>
    world.devices.every(({ isIdle }) => isIdle) &&
    commander.isIdle &&
    findingsOf(evidence).length === 0;
  // What is not there by then is found missing below.
  await waitFor("peace", isOver, PEACE_MS_MAX).catch(() => {});
  const busy = world.devices.filter(({ isIdle }) => !isIdle);
  const broken = [
    ...busy.map((device) => `${device.constructor.name}: what it said was never acknowledged`),
    ...findingsOf(evidence),
    ...(await retained(world.url)),
    ...usage(world),
    ...idleness(evidence),
  ];
  return { broken, table: tableOf(evidence, tally) };
}

const SPOKEN = [
  ...[LINES_TOPIC, MQTT_TOPICS.said, SN_TOPICS[1], SN_TOPICS[2]],
  "serial/meter/asked",
] as const;

function isEveryDeviceHeard(witness: Witness): boolean {
  return SPOKEN.every((topic) => witness.counter(topic).size > 0);
}

/** What of it is not as it should be; a correction of what a late will said takes a moment. */
async function retained(url: string): Promise<string[]> {
  const client = await connectAsync(url, { protocolVersion: 5 });
  const values = new Map<string, string>();
  client.on("message", (topic, payload) => values.set(topic, String(payload)));
  await client.subscribeAsync(Object.keys(RETAINED), { qos: 1 });
  const wrong = () =>
    Object.entries(RETAINED).filter(([topic, expected]) => !expected.test(values.get(topic) ?? ""));
  await waitFor("what is retained", () => wrong().length === 0, 5_000).catch(() => {});
  await client.endAsync(true);
  return wrong().map(([topic]) => `${topic} retains ${values.get(topic)}`);
}

function usage(world: World): string[] {
  const { descriptors, residentBytes } = world.usage();
  return [
    ...(descriptors > DESCRIPTORS_MAX ? [`the bridge has ${descriptors} files open`] : []),
    ...(residentBytes > RESIDENT_BYTES_MAX ? [`the bridge has ${residentBytes} bytes`] : []),
  ];
}

/** Who hardly spoke was not tried. */
function idleness({ witness, commander }: Evidence): string[] {
  const silent = SPOKEN.filter((topic) => witness.counter(topic).size < LEAST.messages);
  const idle = LINKS.filter((it) => (commander.acknowledged.get(it)?.size ?? 0) < LEAST.commands);
  return [
    ...silent.map((topic) => `${topic}: only ${witness.counter(topic).size} messages`),
    ...idle.map((device) => `${device}: hardly any commands`),
  ];
}

function tableOf(evidence: Evidence, tally: ReadonlyMap<string, number>): string {
  const { witness, commander, world } = evidence;
  const { descriptors, residentBytes } = world.usage();
  const rows = [
    ...SPOKEN.map((topic) => {
      const { size, repeated } = witness.counter(topic);
      return `${topic}: ${size}, ${repeated.length} repeated`;
    }),
    ...LINKS.map((it) => `commands of ${it}: ${commander.acknowledged.get(it)?.size ?? 0}`),
    `commands that failed: ${witness.failed}`,
    ...[...tally].map(([fault, times]) => `${fault}: ${times}`),
    `bridge: ${descriptors} files open, ${Math.round(residentBytes / 2 ** 20)} MiB`,
  ];
  return rows.join("\n");
}

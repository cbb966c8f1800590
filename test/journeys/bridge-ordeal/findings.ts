// findings: what was promised to devices and commanders, beside what came of it.
// Path: ordeal → [findings]. Touches: nothing.

import { COMMANDED, type Commander } from "./commander.ts";
import type { Counter } from "./counter.ts";
import { MQTT_TOPICS } from "./mqtt-device.ts";
import { SN_TOPICS } from "./sn-device.ts";
import type { Excuse } from "./trouble.ts";
import type { Witness } from "./witness.ts";
import type { World } from "./world.ts";

export interface Evidence {
  readonly world: World;
  readonly witness: Witness;
  readonly commander: Commander;
  readonly excuses: readonly Excuse[];
}

const SHOWN_MAX = 8;
export const LINES_TOPIC = "serial/box/line";
const ASKED_TOPIC = "serial/meter/asked";
/** One behind what the dead process had read, one behind what the port had when it was opened. */
const HOLES_OF_EXCUSE_MAX = 2;

/** What is broken, in words; empty when all promises are kept. */
export function findingsOf({ world, witness, commander, excuses }: Evidence): string[] {
  const { acknowledged } = world.sn;
  const lines = witness.counter(LINES_TOPIC);
  return [
    ...lost("mqtt", world.mqtt.acknowledged, witness.counter(MQTT_TOPICS.said)),
    ...lost("mqtt-sn, QoS 1", acknowledged[1], witness.counter(SN_TOPICS[1])),
    ...lost("mqtt-sn, QoS 2", acknowledged[2], witness.counter(SN_TOPICS[2])),
    ...several("mqtt-sn, QoS 2: came twice", witness.counter(SN_TOPICS[2]).repeated),
    ...[MQTT_TOPICS.said, SN_TOPICS[1], SN_TOPICS[2], ASKED_TOPIC, LINES_TOPIC].flatMap((topic) =>
      outOfOrder(topic, witness.counter(topic)),
    ),
    ...holes(lines, excuses),
    ...commands(world, witness, commander),
    ...several("answers mixed up", witness.mixedUp),
    ...(world.mqtt.sessionsLost > 0 ? ["the session of the mqtt device was lost"] : []),
    ...(witness.sessionsLost > 0 ? ["the session of the witness was lost"] : []),
  ];
}

function lost(what: string, acknowledged: ReadonlySet<number>, heard: Counter): string[] {
  const missing = [...acknowledged].filter((number) => !heard.has(number));
  return several(`${what}: acknowledged and lost of ${acknowledged.size}`, missing);
}

function outOfOrder(topic: string, { firsts }: Counter): string[] {
  let most = 0;
  const late = firsts.filter((number) => {
    const isLate = number < most;
    most = Math.max(most, number);
    return isLate;
  });
  return several(`${topic}: behind later ones`, late);
}

/** Only a process or a port that was gone may cost lines. */
function holes({ firsts }: Counter, excuses: readonly Excuse[]): string[] {
  const used = new Map<Excuse, number>();
  const unexcused: string[] = [];
  const sorted = firsts.toSorted((a, b) => a - b);
  for (const [index, number] of sorted.slice(1).entries()) {
    const first = (sorted[index] ?? 0) + 1;
    if (number === first) continue;
    const excuse = excuses.find((it) => {
      const isFree = (used.get(it) ?? 0) < HOLES_OF_EXCUSE_MAX;
      return isFree && it.heard < first && first <= it.said + 1;
    });
    if (excuse) used.set(excuse, (used.get(excuse) ?? 0) + 1);
    else unexcused.push(`${first} to ${number - 1}`);
  }
  return several("lines: missing without a reason", unexcused);
}

function commands(world: World, witness: Witness, commander: Commander): string[] {
  const { told, answered } = witness.results;
  const carriedOut = {
    lines: world.lines.commands,
    "modbus-rtu": world.slave.commands,
    mqtt: world.mqtt.commands,
    "mqtt-sn": world.sn.commands,
  };
  const isFinal = (states: ReadonlySet<string> | undefined) =>
    states?.has("done") || states?.has("failed");
  const found = (Object.keys(COMMANDED) as (keyof typeof COMMANDED)[]).flatMap((device) => {
    const acknowledged = [...(commander.acknowledged.get(device) ?? [])];
    const count = carriedOut[device];
    const isOver = (number: number) =>
      device === "mqtt" || device === "mqtt-sn"
        ? count.has(number)
        : isFinal(told.get(number)) && isFinal(answered.get(number));
    const never = acknowledged.filter((number) => !isOver(number));
    return [
      ...several(`commands of ${device}: carried out twice`, count.repeated),
      ...several(`commands of ${device}: never came to an end`, never),
    ];
  });
  const said = [...told].filter(([, states]) => states.has("done")).map(([number]) => number);
  const ofSlave = commander.sent.get("modbus-rtu") ?? new Set();
  const untrue = said.filter((it) => ofSlave.has(it) && !world.slave.commands.has(it));
  return [...found, ...several("commands of modbus-rtu: done and not carried out", untrue)];
}

function several(what: string, all: readonly (number | string)[]): string[] {
  return all.length === 0 ? [] : [`${what}: ${all.length}: ${all.slice(0, SHOWN_MAX).join(", ")}`];
}

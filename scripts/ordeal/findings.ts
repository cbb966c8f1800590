// findings: is the invariant kept? What was promised, beside what came.
// Path: main → [findings] → table. Touches: nothing.
//
// For every gateway, lane and epoch each sequence from 1 to the last stands in the landing's stream
// once, or inside one gap record; and every message that was acknowledged reached each kept session
// that was entitled to it, those of the cluster's consumers too, in order of first arrival.

import type { Landed } from "./landed.ts";
import type { Arrivals } from "./listener.ts";

/** What a device was promised. */
export interface Promised {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  readonly acknowledged: ReadonlySet<number>;
}

/** One gateway's part of the evidence. */
export interface Evidence {
  readonly gateway: string;
  readonly promised: readonly Promised[];
  readonly landed: readonly Landed[];
  /** What a session heard, by the gateway's own topics. */
  readonly heard: readonly Hearing[];
}

export interface Hearing {
  readonly who: string;
  readonly isConsumer: boolean;
  arrivals(topic: string): Arrivals | undefined;
}

export interface Findings {
  /** What is broken, in words; empty when the invariant is kept. */
  readonly broken: readonly string[];
  /** Acknowledged messages that somebody who was entitled never got; each counts once. */
  readonly lost: number;
  /** Sequences that the landing holds twice, or not at all. */
  readonly landedTwice: number;
  readonly landedNever: number;
  readonly landedRecords: number;
  /** Messages that the landing holds more than once under different sequences: sent again at QoS 1. */
  readonly takenTwice: number;
  readonly repeatedToConsumers: number;
  readonly repeatedToSessions: number;
  readonly gapRecords: number;
  readonly gapMessages: number;
  readonly epochs: number;
}

const SHOWN_MAX = 5;

export function findingsOf(evidence: readonly Evidence[]): Findings {
  const all = evidence.map((it) => {
    const numbering = numberingOf(it);
    const taking = takingOf(it);
    const hearing = hearingOf(it);
    const broken = [...numbering.broken, ...taking.broken, ...hearing.broken];
    return { ...numbering, ...taking, ...hearing, broken };
  });
  const sum = (key: Exclude<keyof Findings, "broken">) =>
    all.reduce((total, it) => total + it[key], 0);
  return {
    broken: all.flatMap(({ broken }) => broken),
    lost: sum("lost"),
    landedTwice: sum("landedTwice"),
    landedNever: sum("landedNever"),
    landedRecords: sum("landedRecords"),
    takenTwice: sum("takenTwice"),
    repeatedToConsumers: sum("repeatedToConsumers"),
    repeatedToSessions: sum("repeatedToSessions"),
    gapRecords: sum("gapRecords"),
    gapMessages: sum("gapMessages"),
    epochs: sum("epochs"),
  };
}

/** Once each, from 1 to the last, in every lane and epoch. */
function numberingOf({ gateway, landed }: Evidence) {
  const next = new Map<string, number>();
  const broken: string[] = [];
  let [landedTwice, landedNever, gapRecords, gapMessages] = [0, 0, 0, 0];
  for (const { lane, epoch, first, last, record } of landed) {
    const key = `${gateway}: lane ${lane}, epoch ${epoch}`;
    const expected = next.get(key) ?? 1;
    landedTwice += Math.max(0, Math.min(last + 1, expected) - first);
    landedNever += Math.max(0, first - expected);
    if (first !== expected) broken.push(`${key}: ${first} follows ${expected - 1}`);
    next.set(key, Math.max(expected, last + 1));
    if (record.kind !== "gap") continue;
    gapRecords += 1;
    gapMessages += record.gap.count;
  }
  const landedRecords = landed.length;
  const epochs = next.size;
  const shown = broken.slice(0, SHOWN_MAX);
  return {
    landedTwice,
    landedNever,
    gapRecords,
    gapMessages,
    landedRecords,
    epochs,
    broken: shown,
  };
}

/** What was sent again is taken once at QoS 2, by its packet id; at QoS 1 it may be taken twice. */
function takingOf({ gateway, promised, landed }: Evidence) {
  const broken: string[] = [];
  let takenTwice = 0;
  const counts = new Map<string, Map<string, number>>();
  for (const { record } of landed) {
    if (record.kind !== "message") continue;
    const { topic, payload } = record.message;
    const byPayload = counts.get(topic) ?? new Map<string, number>();
    const text = new TextDecoder().decode(payload);
    byPayload.set(text, (byPayload.get(text) ?? 0) + 1);
    counts.set(topic, byPayload);
  }
  for (const { topic, qos } of promised) {
    const again = [...(counts.get(topic) ?? [])].filter(([, count]) => count > 1);
    takenTwice += again.length;
    const which = again.slice(0, SHOWN_MAX).map(([text]) => text.trim());
    if (qos === 2 && again.length > 0) {
      broken.push(`${gateway}: ${topic}, of QoS 2, was taken twice: ${again.length}: ${which}`);
    }
  }
  return { takenTwice, broken };
}

function hearingOf({ gateway, promised, heard }: Evidence) {
  const broken: string[] = [];
  let [lost, repeatedToConsumers, repeatedToSessions] = [0, 0, 0];
  for (const { topic, acknowledged } of promised) {
    const lostHere = new Set<number>();
    for (const { who, isConsumer, arrivals } of heard) {
      const { firsts, count } = arrivals(topic) ?? { firsts: new Set<number>(), count: 0 };
      if (isConsumer) repeatedToConsumers += count - firsts.size;
      else repeatedToSessions += count - firsts.size;
      const missing = [...acknowledged].filter((number) => !firsts.has(number));
      for (const number of missing) lostHere.add(number);
      const where = `${gateway}: ${topic} at ${who}`;
      if (missing.length > 0) {
        const which = missing.slice(0, SHOWN_MAX);
        broken.push(`${where}: ${missing.length} of ${acknowledged.size} are lost: ${which}`);
      }
      const late = firstOutOfOrder(firsts);
      if (late) broken.push(`${where}: ${late[1]} came after ${late[0]}`);
    }
    lost += lostHere.size;
  }
  return { lost, repeatedToConsumers, repeatedToSessions, broken };
}

function firstOutOfOrder(firsts: ReadonlySet<number>): [number, number] | undefined {
  let before = 0;
  for (const number of firsts) {
    if (number < before) return [before, number];
    before = number;
  }
  return undefined;
}

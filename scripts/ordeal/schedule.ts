// schedule: which fault comes when, to whom, and for how long: one seed, one schedule.
// Path: main → [schedule] → faults. Touches: nothing.

import { gatewayPartName } from "../chain/folder.ts";
import type { PartName } from "../chain/plans.ts";
import { Random } from "./random.ts";

export const FAULTS = {
  kill: "kill -9 of any process",
  slow: "a Redis whose fsync takes seconds, killed at the end or not",
  "fail-over": "the landing's master dies, and a replica that lags takes over",
  reload: "HAProxy reads its settings anew",
  outage: "HAProxy is down",
  full: "a gateway's disk is full, broken or read-only",
  "power-cut": "a gateway's power goes",
  "landing-power-cut": "the power of the landing's master goes",
  away: "the client of a kept session of a gateway is away",
} as const;

export type FaultName = keyof typeof FAULTS;

export const FAULT_NAMES = Object.keys(FAULTS) as FaultName[];

/** How often a fault is in the deck from which they are drawn. */
const CARDS: Readonly<Record<FaultName, number>> = {
  kill: 9,
  slow: 2,
  "fail-over": 3,
  reload: 1,
  outage: 2,
  full: 3,
  "power-cut": 3,
  "landing-power-cut": 1,
  away: 1,
};

export interface Planned {
  /** When it is due; it begins later when its target is in another fault. */
  readonly atMs: number;
  readonly fault: FaultName;
  /** The part that it hits. */
  readonly target: PartName;
  readonly lastsMs: number;
  /** For what the fault itself leaves to chance. */
  readonly seed: number;
}

export interface ScheduleOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly gateways: number;
  readonly faults: readonly FaultName[];
}

const FIRST_MS = 3_000;
const BETWEEN_MS = { least: 500, more: 3_000 } as const;
const LASTS_MS = { least: 1_000, more: 6_000 } as const;
const SEEDS = 2 ** 31;

/** The faults of a run. Each kind comes before any comes much more often than its share. */
export function schedule({ seed, seconds, gateways, faults }: ScheduleOptions): Planned[] {
  const random = new Random(seed);
  const deck = new Deck(
    random,
    faults.flatMap((name) => Array<FaultName>(CARDS[name]).fill(name)),
  );
  const targets = targetsOf(gateways, random);
  const planned: Planned[] = [];
  for (let atMs = FIRST_MS; faults.length > 0; ) {
    const fault = deck.draw();
    const lastsMs = LASTS_MS.least + random.int(LASTS_MS.more);
    if (atMs + lastsMs > seconds * 1_000) return planned;
    const target = targets[fault].draw();
    planned.push({ atMs, fault, target, lastsMs, seed: random.int(SEEDS) });
    atMs += BETWEEN_MS.least + random.int(BETWEEN_MS.more);
  }
  return planned;
}

function targetsOf(count: number, random: Random): Readonly<Record<FaultName, Deck<PartName>>> {
  const gateways = Array.from({ length: count }, (_, index) => gatewayPartName(index + 1));
  const cloud: PartName[] = ["cloud-1", "cloud-2", "cluster", "landing", "landing-replica"];
  const all: PartName[] = [...gateways, ...cloud, "haproxy", "device", "firmware-bridge"];
  const deck = (...parts: PartName[]) => new Deck(random, parts);
  return {
    kill: deck(...all),
    slow: deck("landing", "cluster"),
    "fail-over": deck("landing"),
    reload: deck("haproxy"),
    outage: deck("haproxy"),
    full: deck(...gateways),
    "power-cut": deck(...gateways),
    "landing-power-cut": deck("landing"),
    away: deck(...gateways),
  };
}

/** Draws all of its cards in a random order, then all of them again. */
class Deck<T> {
  readonly #random: Random;
  readonly #cards: readonly T[];
  #left: T[] = [];

  constructor(random: Random, cards: readonly T[]) {
    this.#random = random;
    this.#cards = cards;
  }

  draw(): T {
    if (this.#left.length === 0) this.#left = [...this.#cards];
    const [card] = this.#left.splice(this.#random.int(this.#left.length), 1);
    if (card === undefined) throw new Error("a deck without cards");
    return card;
  }
}

// shapes: who publishes to which topics, and who subscribes to what.
// Path: live → [shapes]. Touches: nothing.

import type { Shape } from "../job.ts";

export interface Cast {
  /** For each publisher its topics, and how many subscribers each of them has. */
  readonly publishers: readonly (readonly { topic: string; deliveries: number }[])[];
  /** For each subscriber its one filter. */
  readonly filters: readonly string[];
}

const PAIRS = 10;
const FAN = 200;

export function castOf(shape: Shape): Cast {
  return CASTS[shape]();
}

const CASTS: Readonly<Record<Shape, () => Cast>> = {
  pairs: () => {
    const topics = numbers(PAIRS).map((number) => `bench/pair/${number}/value`);
    return { publishers: topics.map((topic) => [{ topic, deliveries: 1 }]), filters: topics };
  },
  "fan-in": () => ({
    publishers: numbers(FAN).map((number) => [
      { topic: `bench/in/${number}/value`, deliveries: 1 },
    ]),
    filters: ["bench/in/+/value"],
  }),
  "fan-out": () => ({
    publishers: [[{ topic: "bench/out/value", deliveries: FAN }]],
    filters: numbers(FAN).map(() => "bench/out/value"),
  }),
  wild: wildCast,
};

/** Topics plant/HALL/MACHINE/VALUE of 10 × 100 × 10, each of 100 publishers with 100 of them. */
const HALLS = 10;
const MACHINES = 100;
const VALUES = 10;

/** Subscribers by the kind of their filter; about 11 of these 1,000 get each message. */
const WILD_KINDS: readonly [number, (number: number) => string][] = [
  [600, (n) => `plant/${n % HALLS}/${(n * 7) % MACHINES}/#`],
  [200, (n) => `plant/${n % HALLS}/+/${Math.floor(n / HALLS) % VALUES}`],
  [140, (n) => `plant/+/${(n * 7) % MACHINES}/${n % VALUES}`],
  [38, (n) => `plant/+/+/${n % VALUES}`],
  [20, (n) => `plant/${n % HALLS}/#`],
  [2, () => "plant/#"],
];

function wildCast(): Cast {
  const filters = WILD_KINDS.flatMap(([count, filterOf]) => numbers(count).map(filterOf));
  const levels = filters.map((filter) => filter.split("/"));
  // A publisher is all of ten machines that stand ten apart, so its topics are of every hall.
  const publishers = numbers(100).map((publisher) =>
    numbers(100).map((number) => {
      const hall = number % HALLS;
      const value = (Math.floor(number / HALLS) + hall) % VALUES;
      const topic = ["plant", `${hall}`, `${publisher}`, `${value}`];
      const deliveries = levels.filter((filter) => matches(filter, topic)).length;
      return { topic: topic.join("/"), deliveries };
    }),
  );
  return { publishers, filters };
}

function matches(filter: readonly string[], topic: readonly string[]): boolean {
  for (const [index, level] of filter.entries()) {
    if (level === "#") return true;
    if (level !== "+" && level !== topic[index]) return false;
  }
  return filter.length === topic.length;
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

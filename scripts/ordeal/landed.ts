// landed: what the landing's stream holds of a gateway, record by record.
// Path: findings, journeys → [landed] → landing Redis. Touches: the Redis that it is given.

import type { Redis } from "ioredis";
import { decodeFrame, type Sequenced } from "#contract/frame";
import { ENTRY_FIELDS, landingKeys } from "#contract/landing";

/** A record, and its frame's lane and epoch. */
export interface Landed extends Sequenced {
  readonly lane: string;
  readonly epoch: string;
}

const ENTRIES_AT_ONCE = 1_000;

/** All that the landing holds of a gateway, in its order. */
export async function landedIn(redis: Redis, gateway: string): Promise<Landed[]> {
  const all: Landed[] = [];
  for (let from = "-"; ; ) {
    const { up } = landingKeys(gateway);
    const entries = await redis.xrangeBuffer(up, from, "+", "COUNT", ENTRIES_AT_ONCE);
    for (const [, fields] of entries) all.push(...recordsOf(fields));
    if (entries.length < ENTRIES_AT_ONCE) return all;
    from = `(${entries.at(-1)?.[0]}`;
  }
}

function recordsOf(fields: readonly Buffer[]): Landed[] {
  const field = (name: string) =>
    fields[fields.findIndex((it, index) => index % 2 === 0 && it.toString() === name) + 1];
  const frame = decodeFrame(field(ENTRY_FIELDS.frame) ?? Buffer.alloc(0));
  const lane = String(field(ENTRY_FIELDS.lane));
  const epoch = String(field(ENTRY_FIELDS.epoch));
  return frame.map((sequenced) => ({ ...sequenced, lane, epoch }));
}

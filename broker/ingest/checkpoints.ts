// checkpoints: how far each gateway's stream has reached the cluster, kept beside what it wrote there.
// Path: ingest → [checkpoints] → cluster Redis. Touches: the cluster Redis.

import type { Redis } from "ioredis";
import { parsePosition } from "#contract/landing";
import { askRedis } from "#runtime/redis";
import { leaseKey, partitionOf } from "./leases.ts";

/** The newest sequence of a lane that the cluster has taken. */
export interface LanePosition {
  readonly epoch: number;
  readonly seq: number;
}

export interface Checkpoint {
  /** Stream id of the newest entry that the cluster has taken: where to read on. A hint: the lanes'
   * positions are the truth, since a Redis that was restored numbers its entries anew. */
  readonly cursor: string;
  readonly lanes: ReadonlyMap<string, LanePosition>;
}

const FIELD = { cursor: "cursor", lane: "lane:" } as const;

/** KEYS lease checkpoint, ARGV node, cursor, then field and value of each lane that changes. */
const SAVE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], '${FIELD.cursor}', unpack(ARGV, 2))
return 1`;

export async function loadCheckpoint(redis: Redis, gateway: string): Promise<Checkpoint> {
  const fields = await askRedis("cluster Redis", () => redis.hgetall(key(gateway)));
  const lanes = new Map<string, LanePosition>();
  for (const [name, value] of Object.entries(fields)) {
    if (name.startsWith(FIELD.lane)) lanes.set(name.slice(FIELD.lane.length), parsePosition(value));
  }
  return { cursor: fields[FIELD.cursor] ?? "0-0", lanes };
}

/** Saves cursor and positions; false when `node` does not own the gateway's partition any more. */
export async function saveCheckpoint(
  redis: Redis,
  node: string,
  gateway: string,
  { cursor, lanes }: Checkpoint,
): Promise<boolean> {
  const keys = [leaseKey(partitionOf(gateway)), key(gateway)];
  const fields = [...lanes].flatMap(([lane, { epoch, seq }]) => [
    FIELD.lane + lane,
    `${epoch}:${seq}`,
  ]);
  const saved = await askRedis("cluster Redis", () =>
    redis.eval(SAVE, 2, ...keys, node, cursor, ...fields),
  );
  return saved === 1;
}

function key(gateway: string): string {
  return `sluice:ingest:${gateway}`;
}

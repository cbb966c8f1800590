// leases: which partitions of the gateways this broker owns; each has one owner at a time.
// Path: ingest → [leases] → cluster Redis. Touches: the cluster Redis.

import { crc32 } from "node:zlib";
import type { Redis } from "ioredis";
import { askRedis } from "#runtime/redis";

/** Gateways are dealt out in so many parts; more brokers than this would leave some without work. */
export const PARTITIONS = 64;

const KEYS = { nodes: "sluice:nodes", lease: "sluice:lease:" } as const;

/**
 * Renews this node's leases, takes free ones up to its fair share, gives back what is over it, and
 * answers with the partitions that it owns now. One script, so that two nodes never own one.
 */
const CLAIM = `
local node, ttl_ms, partitions = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now_ms, node)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms - ttl_ms)
local share = math.ceil(partitions / redis.call('ZCARD', KEYS[1]))
local owned, free = {}, {}
for partition = 0, partitions - 1 do
  local key = KEYS[2] .. partition
  local holder = redis.call('GET', key)
  if holder == node then
    if #owned < share then
      redis.call('PEXPIRE', key, ttl_ms)
      owned[#owned + 1] = partition
    else
      redis.call('DEL', key)
    end
  elseif not holder then
    free[#free + 1] = partition
  end
end
for _, partition in ipairs(free) do
  if #owned >= share then break end
  redis.call('SET', KEYS[2] .. partition, node, 'PX', ttl_ms)
  owned[#owned + 1] = partition
end
return owned`;

const RELEASE = `
redis.call('ZREM', KEYS[1], ARGV[1])
for partition = 0, tonumber(ARGV[2]) - 1 do
  local key = KEYS[2] .. partition
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end`;

/** The partition of a gateway; the same on every node and for ever. */
export function partitionOf(gateway: string): number {
  return crc32(gateway) % PARTITIONS;
}

/** The key whose value is the node that owns the partition; checkpoints are fenced by it. */
export function leaseKey(partition: number): string {
  return KEYS.lease + partition;
}

/**
 * Claims, see CLAIM; `node` must be new with each process: it is the fencing token.
 * @returns the partitions owned for the next `ttlMs`
 */
export async function claimPartitions(
  redis: Redis,
  node: string,
  ttlMs: number,
): Promise<Set<number>> {
  const owned = await askRedis("cluster Redis", () =>
    redis.eval(CLAIM, 2, KEYS.nodes, KEYS.lease, node, ttlMs, PARTITIONS),
  );
  return new Set(owned as number[]);
}

/** Gives all partitions back at once, so that nobody waits for the leases to run out. */
export async function releasePartitions(redis: Redis, node: string): Promise<void> {
  await askRedis("cluster Redis", () =>
    redis.eval(RELEASE, 2, KEYS.nodes, KEYS.lease, node, PARTITIONS),
  );
}

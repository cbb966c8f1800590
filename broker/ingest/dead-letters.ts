// dead-letters: what can never be handed on, kept in the cluster Redis for a person to look at.
// Path: stream → [dead-letters] → cluster Redis. Touches: the cluster Redis.

import type { Redis } from "ioredis";
import { askRedis } from "#runtime/redis";

/** The stream of all gateways' dead letters: `XRANGE sluice:dead - +` shows them. */
export const DEAD_LETTERS_KEY = "sluice:dead";

/** They must not fill the Redis that all else needs: the oldest go first. */
const LIMITS = {
  lettersMax: 10_000,
  bytesMax: 64 * 1024 * 1024,
  letterBytesMax: 1024 * 1024,
} as const;

/** A record, or a whole entry of the landing that could not be read. */
export interface DeadLetter {
  readonly gateway: string;
  readonly lane: string;
  readonly epoch: number;
  /** Of the landing's entry. */
  readonly id: string;
  /** Of the record; undefined for an entry. */
  readonly sequence: number | undefined;
  readonly reason: string;
  readonly bytes: Uint8Array;
}

/** KEYS letters, ARGV most letters, most bytes, then fields and values. */
const BURY = `
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 3))
while redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0) > tonumber(ARGV[2]) do
  local letters = redis.call('XLEN', KEYS[1])
  if letters < 2 then break end
  redis.call('XTRIM', KEYS[1], 'MAXLEN', math.floor(letters / 2))
end`;

/** Keeps a letter, its bytes cut to what one may take; `bytes_total` tells how many there were. */
export async function bury(redis: Redis, letter: DeadLetter, nowMs: number): Promise<void> {
  const { gateway, lane, epoch, id, sequence, reason, bytes } = letter;
  const fields = {
    ...{ gateway, lane: lane.slice(0, 80), epoch: String(epoch), id },
    ...(sequence === undefined ? {} : { sequence: String(sequence) }),
    reason,
    time: new Date(nowMs).toISOString(),
    bytes_total: String(bytes.length),
    bytes: Buffer.from(bytes.subarray(0, LIMITS.letterBytesMax)),
  };
  const args = [LIMITS.lettersMax, LIMITS.bytesMax, ...Object.entries(fields).flat()];
  await askRedis("cluster Redis", () => redis.eval(BURY, 1, DEAD_LETTERS_KEY, ...args));
}

/** How many there are now, of all gateways. */
export function countDeadLetters(redis: Redis): Promise<number> {
  return askRedis("cluster Redis", () => redis.xlen(DEAD_LETTERS_KEY));
}

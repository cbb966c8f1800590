// redis-check: whether the settings of a Redis keep what Sluice promises with it.
// Path: ingest → [redis-check] → landing Redis, cluster Redis. Touches: the Redis that it is given.

import type { Redis } from "ioredis";

/** Functions, and ids `0-*`. */
const MAJOR_VERSION_LEAST = 7;

export interface RedisFault {
  /** An error loses what was acknowledged in ordinary operation; a warning, what a failure may take. */
  readonly level: "error" | "warn";
  /** What is wrong, what it may cost, and the mend. */
  readonly why: string;
}

/** What a Redis tells of itself; undefined where this user may not ask. */
export interface Told {
  readonly version: string | undefined;
  readonly policy: string | undefined;
  readonly appendOnly: string | undefined;
  readonly appendFsync: string | undefined;
}

/** All that is wrong with its settings; nothing of what its user may not ask for. */
export async function checkRedis(
  whose: "landing Redis" | "cluster Redis",
  redis: Redis,
): Promise<readonly RedisFault[]> {
  return faultsOf(whose, await ask(redis));
}

/** Why it refuses what it is asked to do, if that is its age. */
export async function tooOldWhy(redis: Redis): Promise<string | undefined> {
  return versionWhy((await ask(redis)).version);
}

function versionWhy(version: string | undefined): string | undefined {
  if (version === undefined || Number.parseInt(version, 10) >= MAJOR_VERSION_LEAST)
    return undefined;
  return `version ${version} is too old, 7.0 is the oldest that has functions`;
}

async function ask(redis: Redis): Promise<Told> {
  const setting = async (name: string) => {
    const reply = await redis.config("GET", name).catch(() => undefined);
    return Array.isArray(reply) && reply.length === 2 ? String(reply[1]) : undefined;
  };
  const [info, policy, appendOnly, appendFsync] = await Promise.all([
    redis.info("server").catch(() => ""),
    setting("maxmemory-policy"),
    setting("appendonly"),
    setting("appendfsync"),
  ]);
  return { version: /^redis_version:(\S+)/m.exec(info)?.[1], policy, appendOnly, appendFsync };
}

/** What is wrong with a Redis that tells this of itself. */
export function faultsOf(
  whose: "landing Redis" | "cluster Redis",
  { version, policy, appendOnly, appendFsync }: Told,
): RedisFault[] {
  const faults: RedisFault[] = [];
  const fault = (level: RedisFault["level"], why: string) =>
    faults.push({ level, why: `${whose}: ${why}` });
  const tooOld = versionWhy(version);
  if (tooOld !== undefined) fault("error", tooOld);
  if (policy !== undefined && policy !== "noeviction") {
    const mend = "CONFIG SET maxmemory-policy noeviction";
    fault("error", `${policy} deletes what was acknowledged when memory is short: ${mend}`);
  }
  if (appendOnly === "no") {
    const mend = "CONFIG SET appendonly yes";
    fault("warn", `appendonly is off, so a restart takes all that it holds: ${mend}`);
  } else if (whose === "cluster Redis" && appendFsync !== undefined && appendFsync !== "always") {
    const what = appendFsync === "no" ? "what the system had not written" : "its last second";
    fault("warn", `a power cut may take ${what}: CONFIG SET appendfsync always`);
  }
  return faults;
}

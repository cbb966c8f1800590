// landing: the landing Redis as the cloud sees it.
// Path: landing Redis → [landing] → ingest, and commands back. Touches: the landing Redis.

import assert from "node:assert";
import type { Redis } from "ioredis";
import { SluiceError } from "#contract/errors";
import { FRAME_LIMITS } from "#contract/frame";
import {
  ENTRY_FIELDS,
  gatewayOfKey,
  LANDING_FUNCTIONS,
  landingKeys,
  POS_FIELDS,
  parseSentMs,
} from "#contract/landing";
import { askRedis, explainRedis, openRedis, redisFailure } from "#runtime/redis";
import type { RedisSettings } from "#runtime/settings-schema";
import { loadLandingLibrary } from "./landing-library.ts";
import { checkRedis, type RedisFault, tooOldWhy } from "./redis-check.ts";

const READ_BLOCK_MS = 500;
/** One read brings about so many bytes at most, as long as frames are what gateways' senders cut. */
const READ_BYTES_MAX = 32 * 1024 * 1024;
const READ_STREAMS_MAX = READ_BYTES_MAX / FRAME_LIMITS.bytesMax;
/** Of one stream: enough for a full batch of small frames. */
const READ_ENTRIES_MAX = 16;
const SCAN_COUNT = 1_000;
/** How many parts of a stream are looked at to tell what it takes. */
const USAGE_SAMPLES = 1_000;

export interface LandingEntry {
  readonly gateway: string;
  /** Stream id: begins with the landing's clock in milliseconds. */
  readonly id: string;
  readonly lane: string;
  readonly epoch: number;
  /** The gateway's steady clock when it sent the frame; undefined from one that does not tell. */
  readonly sentMs: number | undefined;
  readonly frame: Uint8Array;
}

export interface GatewaySeen {
  /** Milliseconds since the gateway last appended or probed, by the landing's clock. */
  readonly silentMs: number;
  /** Why it left on purpose; empty when it did not. */
  readonly left: string;
  /** The last command that the gateway has carried out. */
  readonly downCursor: string;
}

export interface TrimRequest {
  /** The newest entry that the cluster has; later ones stay. */
  readonly upToId: string;
  readonly tailMs: number;
  /** The newest command that is done. */
  readonly downCursor: string;
  readonly bytesMax: number;
}

/** Two connections: one that waits for entries, one for all else. */
export class Landing {
  readonly #asking: Redis;
  readonly #reading: Redis;
  /** With more streams than one read takes, where the next one begins. */
  #turn = 0;

  private constructor(asking: Redis, reading: Redis) {
    this.#asking = asking;
    this.#reading = reading;
  }

  /**
   * Connects and loads the function library.
   * @throws SluiceError CLOUD_UNREACHABLE
   */
  static async connect(settings: RedisSettings): Promise<Landing> {
    const { redis: asking } = await openRedis("landing Redis", settings);
    try {
      await loadLibrary(asking);
      const { redis: reading } = await openRedis("landing Redis", settings);
      return new Landing(asking, reading);
    } catch (fault) {
      asking.disconnect();
      throw fault;
    }
  }

  /** What its settings promise; see checkRedis. */
  checked(): Promise<readonly RedisFault[]> {
    return checkRedis("landing Redis", this.#asking);
  }

  /** The names of all gateways that ever reached the landing. */
  async gateways(): Promise<string[]> {
    const names: string[] = [];
    let cursor = "0";
    do {
      const [next, keys] = await this.#ask(() =>
        this.#asking.scan(cursor, "MATCH", landingKeys("*").pos, "COUNT", SCAN_COUNT),
      );
      cursor = next;
      for (const key of keys) names.push(gatewayOfKey(key) ?? "");
    } while (cursor !== "0");
    return names.filter((name) => name !== "");
  }

  /**
   * The next entries behind each gateway's cursor, of some of the gateways if they are many; waits a
   * moment when there are none.
   */
  async read(cursors: ReadonlyMap<string, string>): Promise<Map<string, LandingEntry[]>> {
    const all = [...cursors];
    if (all.length <= READ_STREAMS_MAX) return this.#read(all, true);
    for (let looked = 0; looked < all.length; looked += READ_STREAMS_MAX) {
      const some = all.slice(this.#turn, this.#turn + READ_STREAMS_MAX);
      this.#turn = this.#turn + READ_STREAMS_MAX < all.length ? this.#turn + READ_STREAMS_MAX : 0;
      const read = await this.#read(some, false);
      if (read.size > 0) return read;
    }
    return this.#read(all, true);
  }

  async #read(
    cursors: readonly (readonly [gateway: string, cursor: string])[],
    waits: boolean,
  ): Promise<Map<string, LandingEntry[]>> {
    const share = Math.floor(READ_STREAMS_MAX / cursors.length);
    const args = ["COUNT", Math.min(READ_ENTRIES_MAX, Math.max(1, share))];
    if (waits) args.push("BLOCK", READ_BLOCK_MS);
    const keys = cursors.map(([gateway]) => landingKeys(gateway).up);
    const ids = cursors.map(([, cursor]) => cursor);
    const reply = await this.#ask(() =>
      this.#reading.callBuffer("XREAD", [...args, "STREAMS", ...keys, ...ids]),
    );
    const streams = (reply ?? []) as [Buffer, [Buffer, Buffer[]][]][];
    const read = new Map<string, LandingEntry[]>();
    for (const [key, entries] of streams) {
      // The key, which the gateway's rights are bound to, says who it is; never the payload.
      const gateway = gatewayOfKey(key.toString());
      assert(gateway !== undefined, `${key} was not asked for`);
      read.set(
        gateway,
        entries.map(([id, fields]) => entryOf(gateway, id, fields)),
      );
    }
    return read;
  }

  /** Bytes that a gateway's stream takes in the landing's memory, about. */
  async usage(gateway: string): Promise<number> {
    const { up } = landingKeys(gateway);
    const bytes = await this.#ask(() => this.#asking.memory("USAGE", up, "SAMPLES", USAGE_SAMPLES));
    return bytes ?? 0;
  }

  /**
   * Is the Redis user of a gateway's name on? undefined: there is none.
   * @throws SluiceError ACCESS_DENIED when this user may not ask.
   */
  async isUserOn(gateway: string): Promise<boolean | undefined> {
    const user = (await this.#ask(() => this.#asking.acl("GETUSER", gateway))) as unknown[] | null;
    if (!user) return undefined;
    return (user[user.indexOf("flags") + 1] as string[]).includes("on");
  }

  /** Switches a gateway's user off and ends its connections. @throws SluiceError ACCESS_DENIED */
  async switchOff(gateway: string): Promise<void> {
    await this.#ask(() => this.#asking.acl("SETUSER", gateway, "off"));
    await this.#ask(() => this.#asking.call("CLIENT", "KILL", "USER", gateway));
  }

  /** The id of the newest entry that the stream ever had. */
  async newestId(gateway: string): Promise<string> {
    const { up } = landingKeys(gateway);
    if ((await this.#ask(() => this.#asking.exists(up))) === 0) return "0-0";
    const info = (await this.#ask(() => this.#asking.xinfo("STREAM", up))) as unknown[];
    return String(info[info.indexOf("last-generated-id") + 1]);
  }

  async seen(gateway: string): Promise<GatewaySeen> {
    const { pos } = landingKeys(gateway);
    const { seenMs, left, downCursor } = POS_FIELDS;
    const [time, fields] = await this.#ask(() =>
      Promise.all([this.#asking.time(), this.#asking.hmget(pos, seenMs, left, downCursor)]),
    );
    const nowMs = Number(time[0]) * 1_000 + Math.floor(Number(time[1]) / 1_000);
    return {
      silentMs: nowMs - Number(fields[0] ?? 0),
      left: fields[1] ?? "",
      downCursor: fields[2] ?? "0-0",
    };
  }

  /**
   * Deletes what the cluster took longer ago than the tail lasts, and commands that are done; says
   * how much may lie there of the gateway, of which the tail has half.
   */
  async trim(
    gateway: string,
    { upToId, tailMs, downCursor, bytesMax }: TrimRequest,
  ): Promise<void> {
    const { up, down, pos } = landingKeys(gateway);
    const takenMs = upToId.split("-")[0] ?? "0";
    const args = [up, down, pos, takenMs, tailMs, downCursor, bytesMax];
    await this.#ask(() => this.#asking.call("FCALL", LANDING_FUNCTIONS.trim, 3, ...args));
  }

  /** Appends a command to a gateway's downlink. @throws SluiceError ACCESS_DENIED, OUTBOX_FULL. */
  async command(gateway: string, record: Uint8Array, commandsMax: number): Promise<void> {
    const { down, pos } = landingKeys(gateway);
    const answer = await this.#ask(() =>
      this.#asking.call(
        "FCALL",
        LANDING_FUNCTIONS.command,
        2,
        down,
        pos,
        Buffer.from(record),
        commandsMax,
      ),
    );
    if (answer === "UNKNOWN") {
      throw new SluiceError("ACCESS_DENIED", `gateway ${gateway} has never reached this cluster`);
    }
    if (answer === "FULL") {
      throw new SluiceError("OUTBOX_FULL", `${commandsMax} commands wait for gateway ${gateway}`);
    }
  }

  close(): void {
    this.#asking.disconnect();
    this.#reading.disconnect();
  }

  #ask<T>(command: () => Promise<T>): Promise<T> {
    return askRedis("landing Redis", command);
  }
}

async function loadLibrary(redis: Redis): Promise<void> {
  try {
    await loadLandingLibrary(redis);
  } catch (cause) {
    const why = (await tooOldWhy(redis)) ?? explainRedis(cause);
    throw redisFailure("landing Redis", why, cause);
  }
}

function entryOf(gateway: string, id: Buffer, fields: Buffer[]): LandingEntry {
  const field = (name: string): Buffer => {
    const at = fields.findIndex((it, index) => index % 2 === 0 && it.toString() === name);
    return at < 0 ? Buffer.alloc(0) : (fields[at + 1] ?? Buffer.alloc(0));
  };
  return {
    gateway,
    id: id.toString(),
    lane: field(ENTRY_FIELDS.lane).toString(),
    epoch: Number(field(ENTRY_FIELDS.epoch).toString()),
    sentMs: parseSentMs(field(ENTRY_FIELDS.sentMs).toString()),
    frame: field(ENTRY_FIELDS.frame),
  };
}

/** Compares stream ids `<milliseconds>-<number>`. */
export function isOlderId(a: string, b: string): boolean {
  const [aMs = 0, aNumber = 0] = a.split("-").map(Number);
  const [bMs = 0, bNumber = 0] = b.split("-").map(Number);
  return aMs < bMs || (aMs === bMs && aNumber < bNumber);
}

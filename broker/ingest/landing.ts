// landing: the landing Redis as the cloud sees it.
// Path: landing Redis → [landing] → ingest, and commands back. Touches: the landing Redis.

import type { Redis } from "ioredis";
import { SluiceError } from "#contract/errors";
import {
  ENTRY_FIELDS,
  gatewayOfKey,
  LANDING_FUNCTIONS,
  landingKeys,
  POS_FIELDS,
  parseSentMs,
} from "#contract/landing";
import { askRedis, openRedis } from "#runtime/redis";
import type { RedisSettings } from "#runtime/settings-schema";
import { loadLandingLibrary } from "./landing-library.ts";

const READ_BLOCK_MS = 500;
const READ_ENTRIES_MAX = 4;
const SCAN_COUNT = 1_000;

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

/** Two connections: one that waits for entries, one for all else. */
export class Landing {
  readonly #asking: Redis;
  readonly #reading: Redis;

  private constructor(asking: Redis, reading: Redis) {
    this.#asking = asking;
    this.#reading = reading;
  }

  /**
   * Connects, checks that nothing will be evicted, and loads the function library.
   * @throws SluiceError CLOUD_UNREACHABLE
   */
  static async connect(settings: RedisSettings): Promise<Landing> {
    const { redis: asking } = await openRedis("landing Redis", settings);
    try {
      await askRedis("landing Redis", () => loadLandingLibrary(asking));
      const { redis: reading } = await openRedis("landing Redis", settings);
      return new Landing(asking, reading);
    } catch (fault) {
      asking.disconnect();
      throw fault;
    }
  }

  /**
   * `maxmemory-policy`: anything but noeviction deletes streams and positions under pressure.
   * undefined where this user may not ask.
   */
  async evictionPolicy(): Promise<string | undefined> {
    const reply = await this.#asking.config("GET", "maxmemory-policy").catch(() => undefined);
    return Array.isArray(reply) ? String(reply[1]) : undefined;
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

  /** The newest entries behind each gateway's cursor; waits a moment when there are none. */
  async read(cursors: ReadonlyMap<string, string>): Promise<LandingEntry[]> {
    const keys = [...cursors.keys()].map((gateway) => landingKeys(gateway).up);
    const reply = await this.#ask(() =>
      this.#reading.xreadBuffer(
        "COUNT",
        READ_ENTRIES_MAX,
        "BLOCK",
        READ_BLOCK_MS,
        "STREAMS",
        ...keys,
        ...cursors.values(),
      ),
    );
    const streams = (reply ?? []) as unknown as [Buffer, [Buffer, Buffer[]][]][];
    return streams.flatMap(([key, entries]) =>
      // The key, which the gateway's rights are bound to, says who it is; never the payload.
      entries.map(([id, fields]) => entryOf(gatewayOfKey(key.toString()) ?? "", id, fields)),
    );
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

  /** Deletes what the cluster took longer ago than the tail lasts, and commands that are done. */
  async trim(gateway: string, upToId: string, tailMs: number, downCursor: string): Promise<void> {
    const { up, down } = landingKeys(gateway);
    const [seconds] = await this.#ask(() => this.#asking.time());
    const oldestMs = Number(seconds) * 1_000 - tailMs;
    const upTo = Math.min(oldestMs, Number(upToId.split("-")[0]));
    await this.#ask(() => this.#asking.xtrim(up, "MINID", String(Math.max(0, upTo))));
    await this.#ask(() => this.#asking.xtrim(down, "MINID", downCursor));
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

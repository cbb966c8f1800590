// landing: the landing Redis as the gateway sees it; the only gateway file that knows Redis.
// Path: sender, downlink → [landing] → HAProxy → Redis. Touches: the network.

import type { Redis } from "ioredis";
import { SluiceError } from "#contract/errors";
import {
  type AppendAnswer,
  type AppendRequest,
  ENTRY_FIELDS,
  LANDING_FUNCTIONS,
  landingKeys,
  type PositionAnswer,
  type ProbeRequest,
  parseAppendAnswer,
} from "#contract/landing";
import { askRedis, explainRedis, isOutOfMemory, openRedis } from "#runtime/redis";
import type { RedisSettings } from "#runtime/settings-schema";

/** How long the landing may take for an answer, beyond the wait that it was asked for. */
const ANSWER_MS_MAX = 15_000;
/** How long one XREAD waits at the landing; well below HAProxy's and NAT's idle limits. */
const READ_BLOCK_MS = 20_000;
const READ_COUNT_MAX = 64;

export interface Command {
  /** Stream id of the entry: the cursor once the command is done. */
  readonly cursor: string;
  readonly record: Uint8Array;
}

/** One connection to the landing. All methods throw SluiceError CLOUD_UNREACHABLE or ACCESS_DENIED. */
export class Landing {
  readonly #redis: Redis;
  readonly #keys: ReturnType<typeof landingKeys>;

  private constructor(redis: Redis, gateway: string) {
    this.#redis = redis;
    this.#keys = landingKeys(gateway);
  }

  /** Connects and logs in; `lost` is called once, when the connection ends by itself. */
  static async connect(
    settings: RedisSettings,
    gateway: string,
    lost: (why: string) => void = () => {},
  ): Promise<Landing> {
    const url = new URL(settings.url);
    // The gateway's name is its user, unless the URL names another.
    if (url.username === "") url.username = gateway;
    const commandTimeout = READ_BLOCK_MS + ANSWER_MS_MAX;
    const named = { ...settings, url: url.href };
    const { redis, lostWhy } = await openRedis("landing", named, { commandTimeout });
    redis.once("close", () => lost(lostWhy()));
    return new Landing(redis, gateway);
  }

  /** Asks for the cloud's position in a lane and takes the lane; see ProbeRequest. */
  async probe({ lane, epoch, writers, downCursor }: ProbeRequest): Promise<PositionAnswer> {
    const args = [this.#keys.pos, lane, epoch, downCursor, ...writers];
    const answer = parseAppendAnswer(
      await this.#ask(() => this.#redis.call("FCALL", LANDING_FUNCTIONS.probe, 1, ...args)),
    );
    if (answer.status === "FULL") throw new SluiceError("CLOUD_UNREACHABLE", answer.why);
    return answer;
  }

  /** Says that the gateway goes on purpose, and why. */
  async leave(why: string): Promise<void> {
    const args = [LANDING_FUNCTIONS.leave, 1, this.#keys.pos, why] as const;
    await this.#ask(() => this.#redis.call("FCALL", ...args));
  }

  /** Compare-and-append of a frame. */
  async append(request: AppendRequest): Promise<AppendAnswer> {
    const { lane, epoch, prev, last, frame, sentMs, writer } = request;
    const { up, pos } = this.#keys;
    const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
    const args = [up, pos, lane, epoch, prev, last, bytes, Math.floor(sentMs), writer];
    const call = () => this.#redis.call("FCALL", LANDING_FUNCTIONS.append, 2, ...args);
    return this.#ask(() =>
      call().then(parseAppendAnswer, (cause) => {
        if (!isOutOfMemory(cause)) throw cause;
        return { status: "FULL", why: `landing: ${explainRedis(cause)}` } as const;
      }),
    );
  }

  /** Waits for commands behind `cursor`; empty when none came within the wait. */
  async readCommands(cursor: string): Promise<Command[]> {
    const reply = await this.#ask(() =>
      this.#redis.xreadBuffer(
        "COUNT",
        READ_COUNT_MAX,
        "BLOCK",
        READ_BLOCK_MS,
        "STREAMS",
        this.#keys.down,
        cursor,
      ),
    );
    const entries = (reply?.[0]?.[1] ?? []) as [Buffer, Buffer[]][];
    return entries.map(([id, fields]) => ({ cursor: id.toString(), record: recordOf(fields) }));
  }

  /** The landing's clock: milliseconds since 1970. */
  async nowMs(): Promise<number> {
    const [seconds, microseconds] = await this.#ask(() => this.#redis.time());
    return Number(seconds) * 1_000 + Number(microseconds) / 1_000;
  }

  close(): void {
    this.#redis.removeAllListeners("close");
    this.#redis.disconnect();
  }

  #ask<T>(command: () => Promise<T>): Promise<T> {
    return askRedis("landing", command);
  }
}

function recordOf(fields: Buffer[]): Uint8Array {
  const at = fields.findIndex(
    (field, index) => index % 2 === 0 && field.toString() === ENTRY_FIELDS.record,
  );
  return fields[at + 1] ?? new Uint8Array();
}

// bus-reader: reads the bus behind a cursor, each entry once, and notices when one was missed.
// Path: cluster Redis → [bus-reader] → bus. Touches: the cluster Redis.

import type { Redis } from "ioredis";
import {
  BEGINNING,
  BUS_KEY,
  type BusPacket,
  decodeEntry,
  entryLabel,
  follows,
  idOf,
  isBefore,
  type Place,
  placeOf,
} from "./bus-entry.ts";

const READ_COUNT_MAX = 32;
const BLOCK_MS = 2_000;
/** After so long everybody else has a turn. */
const TURN_MS_MAX = 5;
/** Writers that are remembered; one that is over says nothing more after a moment. */
const WRITERS_MAX = 1_024;

export interface BusReaderOptions {
  /** `strict`, and nobody else's: it waits in XREAD. */
  readonly redis: Redis;
  readonly heard: (packet: BusPacket) => void;
  /** Of each entry, with the bytes that it takes. */
  readonly passed: (place: Place, bytes: number) => void;
  /** Of each entry that is no broker's, with the reason. */
  readonly foreign: (why: unknown) => void;
  /** Of each entry that came before. */
  readonly repeated: () => void;
}

type RawEntry = readonly [id: Buffer, fields: readonly Buffer[]];

/** Why reading ended: the connection broke, somebody stopped it, or the stream does not go on. */
export type Ended = "broken" | "stopped" | "hole";

export class BusReader {
  readonly #options: BusReaderOptions;
  /** The newest count of each writer, the one that was heard longest ago first. */
  readonly #counts = new Map<string, number>();
  #cursor = BEGINNING;
  #askedAtMs: number | undefined;
  #isStopped = false;

  constructor(options: BusReaderOptions) {
    this.#options = options;
  }

  /** All up to here was heard. */
  get cursor(): Place {
    return this.#cursor;
  }

  /** Since when Redis owes an answer; undefined: it owes none. */
  get askedAtMs(): number | undefined {
    return this.#askedAtMs;
  }

  /** follow() ends, after what it waits for at the latest. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Passes over what is there: from here on nothing is missed. */
  async passOver(): Promise<void> {
    this.#cursor = await this.#newest();
  }

  /** Reads all that came while nothing was read. False: the stream does not go on from there. */
  async catchUp(): Promise<boolean> {
    const newest = await this.#newest();
    if (isBefore(newest, this.#cursor)) return false;
    while (isBefore(this.#cursor, newest)) {
      const entries = await this.#read(false);
      if (entries.length === 0 || !(await this.#take(entries))) return false;
    }
    return true;
  }

  /** Hears what comes, until that ends. */
  async follow(): Promise<Ended> {
    this.#isStopped = false;
    while (!this.#isStopped) {
      let entries: readonly RawEntry[];
      try {
        entries = await this.#read(true);
      } catch {
        // The connection's own events tell what there is to tell.
        return "broken";
      }
      if (!(await this.#take(entries))) return "hole";
    }
    return "stopped";
  }

  async #newest(): Promise<Place> {
    try {
      const info = (await this.#options.redis.xinfo("STREAM", BUS_KEY)) as unknown[];
      return placeOf(String(info[info.indexOf("last-generated-id") + 1]));
    } catch (cause) {
      if (cause instanceof Error && cause.message.includes("no such key")) return BEGINNING;
      throw cause;
    }
  }

  async #read(mayWait: boolean): Promise<readonly RawEntry[]> {
    const { redis } = this.#options;
    const id = idOf(this.#cursor);
    const answer = mayWait
      ? redis.xreadBuffer("COUNT", READ_COUNT_MAX, "BLOCK", BLOCK_MS, "STREAMS", BUS_KEY, id)
      : redis.xreadBuffer("COUNT", READ_COUNT_MAX, "STREAMS", BUS_KEY, id);
    this.#askedAtMs = performance.now();
    const streams = await answer.finally(() => {
      this.#askedAtMs = undefined;
    });
    const [stream] = (streams ?? []) as unknown as [Buffer, RawEntry[]][];
    return stream?.[1] ?? [];
  }

  /** False: there is a hole in front of one. */
  async #take(entries: readonly RawEntry[]): Promise<boolean> {
    let sinceMs = performance.now();
    for (const [id, fields] of entries) {
      const place = placeOf(id.toString());
      if (!follows(place, this.#cursor)) return false;
      this.#cursor = place;
      this.#options.passed(place, bytesOf(fields));
      for (const packet of this.#packetsOf(fields)) this.#options.heard(packet);
      if (performance.now() - sinceMs < TURN_MS_MAX) continue;
      await new Promise(setImmediate);
      sinceMs = performance.now();
    }
    return true;
  }

  #packetsOf(fields: readonly Buffer[]): BusPacket[] {
    const { foreign, repeated } = this.#options;
    try {
      const { writer, count } = entryLabel(fields);
      const packets = decodeEntry(fields);
      const newest = this.#counts.get(writer) ?? 0;
      if (count <= newest) {
        repeated();
        return [];
      }
      this.#remember(writer, count);
      return packets;
    } catch (why) {
      foreign(why);
      return [];
    }
  }

  #remember(writer: string, count: number): void {
    this.#counts.delete(writer);
    this.#counts.set(writer, count);
    const [oldest] = this.#counts.keys();
    if (this.#counts.size > WRITERS_MAX && oldest !== undefined) this.#counts.delete(oldest);
  }
}

function bytesOf(fields: readonly Buffer[]): number {
  return fields.reduce((sum, { length }) => sum + length, 0);
}

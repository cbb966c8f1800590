// bus-publisher: what this broker says to all of them, in its order, until Redis has answered.
// Path: bus → [bus-publisher] → cluster Redis. Touches: the cluster Redis.

import type { Redis } from "ioredis";
import { SluiceError } from "#contract/errors";
import { explainRedis, isRedisAnswer } from "#runtime/redis";
import {
  BUS_KEY,
  type BusPacket,
  type EncodedPacket,
  encodeEntry,
  encodePacket,
  isBefore,
  type Place,
  placeOf,
} from "./bus-entry.ts";

export type Done = (fault?: Error) => void;

const PUBLISHER_LIMITS = {
  entryPacketsMax: 256,
  entryBytesMax: 256 * 1_024,
  /** What may wait for Redis' answer; beyond it packets are refused. */
  waitingBytesMax: 16 * 1_024 * 1_024,
} as const;

/** About what a packet takes beside its record. */
const HEAD_BYTES = 96;

export interface BusPublisherOptions {
  /** `strict`: it repeats nothing by itself. */
  readonly redis: Redis;
  /** This process's own name among the writers. */
  readonly writer: string;
  /** How far this broker has read. */
  readonly cursor: () => Place;
  /** Redis put an entry where this broker has read already: its stream is another one. */
  readonly onRewritten: () => void;
}

interface Entry {
  readonly fields: readonly (string | Buffer)[];
  readonly bytes: number;
  readonly done: readonly Done[];
}

/**
 * Packets that are emitted in one turn of the event loop share an entry. What Redis has not answered
 * when the connection breaks may be in the stream or not: it is sent again, under the same count, by
 * which readers know a repeat. An error that Redis answers is final: nothing was added.
 */
export class BusPublisher {
  readonly #options: BusPublisherOptions;
  #packets: EncodedPacket[] = [];
  #done: Done[] = [];
  #packetsBytes = 0;
  #unanswered: Entry[] = [];
  #waitingBytes = 0;
  #count = 0;
  #newest: Place | undefined;
  #askedAtMs: number | undefined;
  #isOpen = false;
  #isFlushing = false;
  #whenEmpty: (() => void) | undefined;

  constructor(options: BusPublisherOptions) {
    this.#options = options;
    options.redis.on("close", () => {
      this.#isOpen = false;
      this.#askedAtMs = undefined;
    });
  }

  /** Since when Redis has answered nothing that it was asked; undefined: it owes no answer. */
  get askedAtMs(): number | undefined {
    return this.#askedAtMs;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Where Redis put what it answered last. */
  get newest(): Place | undefined {
    return this.#newest;
  }

  /** `done` runs when the stream has it, or hears why it has not. */
  emit(packet: BusPacket, done: Done): void {
    if (this.#waitingBytes > PUBLISHER_LIMITS.waitingBytesMax) {
      const why = `${this.#waitingBytes} bytes wait for the cluster Redis already`;
      done(new SluiceError("CLOUD_UNREACHABLE", why));
      return;
    }
    const encoded = encodePacket(packet);
    const bytes = HEAD_BYTES + (encoded.record?.length ?? 0);
    if (this.#packetsBytes + bytes > PUBLISHER_LIMITS.entryBytesMax) this.#flush();
    this.#packets.push(encoded);
    this.#done.push(done);
    this.#packetsBytes += bytes;
    this.#waitingBytes += bytes;
    if (this.#packets.length === PUBLISHER_LIMITS.entryPacketsMax) this.#flush();
    else this.#flushSoon();
  }

  /** The connection is there again: what was not answered is sent again, in its order. */
  resume(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    for (const entry of this.#unanswered) this.#send(entry);
  }

  /** Resolves when Redis has answered all, if it can be asked. */
  async settled(): Promise<void> {
    this.#flush();
    if (!this.#isOpen || this.#unanswered.length === 0) return;
    await new Promise<void>((resolve) => {
      this.#whenEmpty = resolve;
    });
  }

  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    setImmediate(() => {
      this.#isFlushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#packets.length === 0) return;
    const label = { writer: this.#options.writer, count: ++this.#count };
    const fields = encodeEntry(label, this.#packets);
    const entry = { fields, bytes: this.#packetsBytes, done: this.#done };
    this.#packets = [];
    this.#done = [];
    this.#packetsBytes = 0;
    this.#unanswered.push(entry);
    if (this.#isOpen) this.#send(entry);
  }

  #send(entry: Entry): void {
    const { redis, cursor, onRewritten } = this.#options;
    const read = cursor();
    this.#askedAtMs ??= performance.now();
    redis.xadd(BUS_KEY, `${read.series}-*`, ...entry.fields).then(
      (id) => {
        this.#newest = placeOf(id ?? "0-0");
        this.#answered(entry);
        if (!isBefore(read, this.#newest)) onRewritten();
      },
      (cause) => {
        if (isRedisAnswer(cause)) this.#answered(entry, refused(cause));
        // The rest is sent again at the next connection.
        else this.#isOpen = false;
      },
    );
  }

  #answered(entry: Entry, fault?: SluiceError): void {
    const at = this.#unanswered.indexOf(entry);
    this.#unanswered.splice(at, 1);
    this.#waitingBytes -= entry.bytes;
    this.#askedAtMs = this.#unanswered.length > 0 ? performance.now() : undefined;
    for (const done of entry.done) done(fault);
    if (this.#unanswered.length === 0) this.#whenEmpty?.();
  }
}

function refused(cause: unknown): SluiceError {
  const why = `the cluster Redis refuses a message: ${explainRedis(cause)}`;
  return new SluiceError("CLOUD_UNREACHABLE", why, { cause });
}

// lane: a part of the outbox with its own limits and contiguous sequence numbers.
// Path: outbox → [lane] → uplink. Touches: the store that it is given.

import assert from "node:assert";
import { SluiceError } from "#contract/errors";
import { FRAME_LIMITS } from "#contract/frame";
import { decodeRecord } from "#contract/message";
import type { LaneStatus } from "#contract/status";
import { Tail, type TailLimits } from "./tail.ts";

/** What the store asks of a write: its operations when it is its turn, then what came of it. */
export interface LaneWrite {
  prepare(): readonly { type: "put"; key: string; value: Uint8Array }[];
  undo?(): void;
  stored?(): void;
  readonly sync: boolean;
}

/** What a lane needs of the store; keys are compared as text. */
export interface LaneStore {
  commit(write: LaneWrite): Promise<void>;
  get(key: string): Promise<Uint8Array | undefined>;
  entries(range: { gte: string; lt: string; limit?: number }): AsyncIterable<[string, Uint8Array]>;
  clear(range: { gte: string; lt: string }): Promise<void>;
}

export interface LaneLimits extends TailLimits {
  readonly bytesMax: number;
}

/** Records of one lane that follow each other; `firstSeq` is the first one's sequence. */
export interface Run {
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly bytes: number;
  readonly records: readonly Uint8Array[];
}

/** What must outlive a restart, as JSON under the lane's state key. */
interface LaneState {
  epoch: number;
  /** Stored number minus this = sequence; grows when an epoch begins anew. */
  base: number;
  /** Position: last sequence that the cloud is known to hold. */
  position: number;
  /** Messages that gap records stand for. */
  dropped: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Records are stored under contiguous numbers that never go back; a sequence is that number minus
 * the base of the epoch. Kept are (in this order) the tail, which the cloud holds already, and what
 * waits for it: `first ≤ position + 1 ≤ last + 1`.
 */
export class Lane {
  readonly name: string;
  readonly #store: LaneStore;
  readonly #limits: LaneLimits;
  readonly #now: () => number;
  readonly #tail: Tail;
  readonly #state: LaneState;
  /** First and last of the stored numbers that are kept. */
  #first = 1;
  #last = 0;
  /** Last number given out; ahead of #last while a commit is under way. */
  #given = 0;
  #waitingBytes = 0;
  #oldestWaitingAtMs: number | null = null;
  #onAppend: () => void = () => {};

  private constructor(
    name: string,
    store: LaneStore,
    limits: LaneLimits,
    state: LaneState,
    now: () => number,
  ) {
    this.name = name;
    this.#store = store;
    this.#limits = limits;
    this.#state = state;
    this.#now = now;
    this.#tail = new Tail(limits);
  }

  static async open(
    name: string,
    store: LaneStore,
    limits: LaneLimits,
    now: () => number = Date.now,
  ): Promise<Lane> {
    const stored = await store.get(stateKey(name));
    const state: LaneState = stored
      ? JSON.parse(decoder.decode(stored))
      : { epoch: now(), base: 0, position: 0, dropped: 0 };
    const lane = new Lane(name, store, limits, state, now);
    await lane.#count();
    if (!stored) await lane.#saveState(true);
    return lane;
  }

  get epoch(): number {
    return this.#state.epoch;
  }

  /** Position: last sequence that the cloud is known to hold. */
  get position(): number {
    return this.#state.position;
  }

  get lastSeq(): number {
    return this.#last - this.#state.base;
  }

  /** First sequence that can be sent (again). */
  get firstSeq(): number {
    return Math.max(1, this.#first - this.#state.base);
  }

  /** Called after each append that is stored; one listener, the sender. */
  onAppend(listener: () => void): void {
    this.#onAppend = listener;
  }

  /** Takes a record into custody by itself; see write(). @throws SluiceError also STORE_FAILED. */
  async append(record: Uint8Array, sync: boolean): Promise<void> {
    await this.#store.commit(this.write(record, sync));
  }

  /**
   * The write that takes a record into custody. It has its room in the lane from now on, so it must
   * be committed; it is numbered, can be read and wakes the sender when it is stored.
   * @throws SluiceError OUTBOX_FULL when it does not fit in the lane's limit; nothing has changed.
   */
  write(record: Uint8Array, sync: boolean): LaneWrite {
    if (this.#waitingBytes + record.length > this.#limits.bytesMax) {
      throw new SluiceError(
        "OUTBOX_FULL",
        `lane ${this.name} holds ${this.#waitingBytes} of ${this.#limits.bytesMax} bytes`,
      );
    }
    this.#waitingBytes += record.length;
    let number = 0;
    return {
      sync,
      prepare: () => {
        number = ++this.#given;
        return [{ type: "put", key: recordKey(this.name, number), value: record }];
      },
      undo: () => {
        this.#given = number - 1;
        this.#waitingBytes -= record.length;
      },
      stored: () => this.#stored(number),
    };
  }

  /** The next records behind `seq`, as many as a frame takes; undefined when there are none. */
  async readAfter(seq: number): Promise<Run | undefined> {
    const from = Math.max(seq + 1 + this.#state.base, this.#first);
    const records: Uint8Array[] = [];
    let bytes = 0;
    const range = { gte: recordKey(this.name, from), lt: recordKey(this.name, this.#last + 1) };
    for await (const [, record] of this.#store.entries({
      ...range,
      limit: FRAME_LIMITS.recordsMax,
    })) {
      if (records.length > 0 && bytes + record.length > FRAME_LIMITS.bytesMax) break;
      records.push(record);
      bytes += record.length;
    }
    if (records.length === 0) return undefined;
    const firstSeq = from - this.#state.base;
    return { firstSeq, lastSeq: firstSeq + records.length - 1, bytes, records };
  }

  /** The cloud now holds the `run` that follows the position: it becomes tail, and old tail goes. */
  async cloudHolds(run: Pick<Run, "lastSeq" | "bytes">): Promise<void> {
    assert(run.lastSeq <= this.lastSeq, `the cloud holds ${run.lastSeq} of ${this.lastSeq}`);
    this.#tail.add({
      end: run.lastSeq + this.#state.base,
      count: run.lastSeq - this.position,
      bytes: run.bytes,
    });
    this.#waitingBytes -= run.bytes;
    await this.#savePosition(run.lastSeq);
    await this.trimTail();
  }

  /**
   * Moves the position to what the cloud says that it holds: ahead when an answer was lost, back
   * into the tail when the cloud forgot.
   */
  async moveTo(seq: number): Promise<void> {
    assert(seq <= this.lastSeq && seq >= this.firstSeq - 1, `${seq} is not in ${this.name}`);
    if (seq > this.position) {
      const bytes = await this.#bytesBetween(this.position, seq);
      return this.cloudHolds({ lastSeq: seq, bytes });
    }
    const bytes = await this.#bytesBetween(seq, this.position);
    this.#tail.takeBack(seq + this.#state.base, this.position - seq, bytes);
    this.#waitingBytes += bytes;
    return this.#savePosition(seq);
  }

  /** Begins a new epoch in which what still waits is numbered from 1 (DESIGN: epoch). */
  async beginEpoch(newerThan: number): Promise<void> {
    this.#state.epoch = Math.max(this.#now(), this.#state.epoch + 1, newerThan + 1);
    this.#state.base += this.#state.position;
    this.#state.position = 0;
    await this.#saveState(true);
  }

  /** A gap record took the place of `count` messages. */
  async countDropped(count: number): Promise<void> {
    this.#state.dropped += count;
    await this.#saveState(false);
  }

  /** Deletes what the tail's limits no longer cover. */
  async trimTail(): Promise<void> {
    const end = this.#tail.dropOld();
    if (end < this.#first) return;
    this.#first = end + 1;
    await this.#store.clear({ gte: recordKey(this.name, 0), lt: recordKey(this.name, end + 1) });
  }

  status(): LaneStatus {
    return {
      lane: this.name,
      epoch: this.epoch,
      lastSeq: this.lastSeq,
      position: this.position,
      waitingMessages: this.lastSeq - this.position,
      waitingBytes: this.#waitingBytes,
      oldestWaitingAtMs: this.#oldestWaitingAtMs,
      tailMessages: this.#tail.count,
      tailBytes: this.#tail.bytes,
      bytesMax: this.#limits.bytesMax,
      droppedMessages: this.#state.dropped,
    };
  }

  #stored(number: number): void {
    assert(number === this.#last + 1, `record ${number} follows ${this.#last}`);
    this.#last = number;
    this.#oldestWaitingAtMs ??= this.#now();
    this.#onAppend();
  }

  /** Reads through what is kept, once at the start: numbers, bytes. */
  async #count(): Promise<void> {
    const edge = this.#state.position + this.#state.base;
    let first: number | undefined;
    let [last, tailBytes, waitingBytes] = [edge, 0, 0];
    for await (const [key, record] of this.#store.entries(allRecords(this.name))) {
      const number = numberOfKey(key);
      first ??= number;
      last = number;
      if (number <= edge) tailBytes += record.length;
      else waitingBytes += record.length;
    }
    this.#first = first ?? edge + 1;
    this.#last = last;
    this.#given = Math.max(this.#given, last);
    this.#waitingBytes = waitingBytes;
    const count = edge - this.#first + 1;
    if (count > 0) this.#tail.add({ end: edge, count, bytes: tailBytes });
    await this.#readOldest();
  }

  async #bytesBetween(afterSeq: number, toSeq: number): Promise<number> {
    const number = (seq: number) => recordKey(this.name, seq + this.#state.base);
    let bytes = 0;
    const range = { gte: number(afterSeq + 1), lt: number(toSeq + 1) };
    for await (const [, record] of this.#store.entries(range)) bytes += record.length;
    return bytes;
  }

  async #savePosition(seq: number): Promise<void> {
    this.#state.position = seq;
    // A position that goes back in a power cut costs a DUP, not a message.
    await this.#saveState(false);
    await this.#readOldest();
  }

  async #readOldest(): Promise<void> {
    const gte = recordKey(this.name, this.position + 1 + this.#state.base);
    let oldestAtMs: number | null = null;
    for await (const [, bytes] of this.#store.entries({
      ...allRecords(this.name),
      gte,
      limit: 1,
    })) {
      const oldest = decodeRecord(bytes);
      oldestAtMs = oldest.kind === "message" ? oldest.message.takenAtMs : this.#now();
    }
    this.#oldestWaitingAtMs = oldestAtMs;
  }

  /** An epoch must be synced: one that was forgotten would be fenced off by what it sent. */
  async #saveState(sync: boolean): Promise<void> {
    const value = encoder.encode(JSON.stringify(this.#state));
    await this.#store.commit({
      sync,
      prepare: () => [{ type: "put", key: stateKey(this.name), value }],
    });
  }
}

const NUMBER_DIGITS = 16;

function recordKey(lane: string, number: number): string {
  return `outbox!${lane}!${String(number).padStart(NUMBER_DIGITS, "0")}`;
}

function numberOfKey(key: string): number {
  return Number(key.slice(-NUMBER_DIGITS));
}

function allRecords(lane: string): { gte: string; lt: string } {
  return { gte: `outbox!${lane}!`, lt: `outbox!${lane}"` };
}

function stateKey(lane: string): string {
  return `outbox-state!${lane}`;
}

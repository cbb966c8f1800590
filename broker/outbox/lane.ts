// lane: a part of the outbox with its own limits and contiguous sequence numbers.
// Path: outbox → [lane] → uplink. Touches: the store that it is given.

import assert from "node:assert";
import { randomUUID } from "node:crypto";
import { FRAME_LIMITS, type Run, type RunRecord } from "#contract/frame";
import {
  decodeGapRecord,
  encodeGap,
  GAP_REASON_FORGOTTEN,
  recordTakenAtMs,
} from "#contract/message";
import type { LaneStatus } from "#contract/status";
import { steadyNowMs } from "#runtime/clock";
import { isClockPlausible } from "#runtime/machine";
import { gatherOldest } from "./drop-oldest.ts";
import {
  countDropped,
  LaneRecords,
  type LaneStore,
  type LaneWrite,
  UNSYNCED,
} from "./lane-records.ts";
import { DROP_REASONS, type DropReason, type LaneLimits, LaneRoom } from "./lane-room.ts";
import { decodeLaneState, type LaneState, newLaneState, rememberWriter } from "./lane-state.ts";
import { Rate } from "./rate.ts";
import { gapFrom, stateKey } from "./stored-record.ts";
import { Tail } from "./tail.ts";

export interface LaneOptions {
  readonly store: LaneStore;
  readonly limits: LaneLimits;
  /** The steady clock by which messages are taken into custody, in milliseconds. */
  readonly clock?: () => number;
  /** What is free on the store's file system, as it was a moment ago. */
  readonly diskFreeBytes?: () => number;
}

/** Room is made for more than is asked for, so that not every message reads the disk. */
const ROOM_SHARE = 1 / 64;
/** What is looked at together when the oldest are to go. */
const DROP_LIMITS = { recordsMax: 1_024, bytesMax: 4 * 1024 * 1024 } as const;
/** Gaps at the front that are looked over for the oldest message. */
const FRONT_LIMITS = { recordsMax: 8, bytesMax: 1_024 } as const;

/**
 * The gap where records are missing that were never promised: QoS 0 is not synced by itself, and a
 * power cut may take the unsynced end of one of LevelDB's logs while the next one is there.
 */
function unsynced(first: number, last: number): RunRecord {
  const gap = { from: first, to: last, count: last - first + 1, reason: UNSYNCED };
  return { first, last, record: encodeGap(gap) };
}

/** A run with what it takes to move the position over it without reading again. */
interface ReadRun extends Run {
  /** Offset of the record behind it. */
  readonly endOffset: number;
  /** How often the oldest had been dropped when it was read. */
  readonly drops: number;
}

/**
 * Records are stored under contiguous numbers that never go back; a sequence is that number minus
 * the base of the epoch. Kept are (in this order) the tail, which the cloud holds already, and what
 * waits for it: `first ≤ position + 1 ≤ last + 1`.
 */
export class Lane {
  readonly name: string;
  readonly #limits: LaneLimits;
  readonly #clock: () => number;
  readonly #room: LaneRoom;
  readonly #tail: Tail;
  readonly #state: LaneState;
  readonly #records: LaneRecords;
  readonly #arrivals = new Rate();
  readonly #departures = new Rate();
  /** Offset of the record that is next for the cloud. */
  #frontOffset = 0;
  #oldestAtMs: number | null = null;
  #drops = 0;
  /** What changes position or records otherwise than by adding to them is done one by one. */
  #turn: Promise<void> = Promise.resolve();
  #makingRoom: Promise<void> | undefined;
  #onAppend: () => void = () => {};

  private constructor(name: string, state: LaneState, records: LaneRecords, options: LaneOptions) {
    const { limits, clock = steadyNowMs } = options;
    const { diskFreeBytes = () => Number.POSITIVE_INFINITY } = options;
    this.name = name;
    this.#state = state;
    this.#records = records;
    this.#limits = limits;
    this.#clock = clock;
    this.#room = new LaneRoom({ lane: name, limits, clock, diskFreeBytes });
    this.#tail = new Tail(limits);
  }

  /** Opens the lane for a process that has not written it before. @throws SluiceError STORE_FAILED. */
  static async open(name: string, options: LaneOptions): Promise<Lane> {
    const { store, clock = steadyNowMs } = options;
    const stored = await store.get(stateKey(name));
    const state = stored ? decodeLaneState(name, stored) : newLaneState(Math.floor(clock()));
    rememberWriter(state, randomUUID());
    const grown = () => lane.#grown();
    const records = await LaneRecords.open(name, store, state, grown);
    const lane: Lane = new Lane(name, state, records, options);
    await lane.#measure();
    await records.saveState("always");
    return lane;
  }

  get epoch(): number {
    return this.#state.epoch;
  }

  /** Who may have written this epoch to the cloud: this process, then those before it. */
  get writers(): readonly string[] {
    return this.#state.writers;
  }

  /** Position: last sequence that the cloud is known to hold. */
  get position(): number {
    return this.#state.position;
  }

  get lastSeq(): number {
    return this.#records.last - this.#state.base;
  }

  /** First sequence that can be sent (again). */
  get firstSeq(): number {
    return Math.max(1, this.#records.first - this.#state.base);
  }

  /** Called after each append that is stored; one listener, the sender. */
  onAppend(listener: () => void): void {
    this.#onAppend = listener;
  }

  /**
   * Resolves when a lane that drops its oldest has made room for `bytes`, those who asked before
   * come first; undefined, at once, when there is nothing to wait for. @throws SluiceError
   * STORE_FAILED.
   */
  makeRoom(bytes: number): Promise<void> | undefined {
    if (this.#limits.whenFull !== "drop_oldest") return undefined;
    if (!this.#makingRoom && this.#room.fullReason(bytes, this.#waitingBytes) === undefined)
      return undefined;
    const before = this.#makingRoom ?? Promise.resolve();
    const room = before.then(() => this.#dropFor(bytes));
    const settled: Promise<void> = room
      .catch(() => {})
      .then(() => {
        if (this.#makingRoom === settled) this.#makingRoom = undefined;
      });
    this.#makingRoom = settled;
    return room;
  }

  /**
   * The write that takes a record into custody. It has its room in the lane from now on, so it must
   * be committed; it is numbered, can be read and wakes the sender when it is stored. Over a limit
   * a lane that drops takes a gap record in its place.
   * @throws SluiceError OUTBOX_FULL when the lane refuses it; nothing has changed.
   */
  write(record: Uint8Array, sync: boolean): LaneWrite {
    const { whenFull } = this.#limits;
    const reason = this.#room.fullReason(record.length, this.#waitingBytes);
    // A lane that drops its oldest has made what room there was to make, see makeRoom.
    const fits = whenFull === "drop_oldest" ? reason !== DROP_REASONS.large : reason === undefined;
    if (fits || reason === undefined) return this.#records.messageWrite(record, sync);
    if (whenFull === "reject") throw this.#room.refusal(reason, this.#waitingBytes);
    this.#room.dropped("newest", reason);
    return this.#records.gapWrite(reason, sync);
  }

  /**
   * The next records behind `seq`, as many as a frame takes; undefined when there are none. A gap
   * record that covers `seq` is cut to begin behind it.
   */
  async readAfter(seq: number): Promise<Run | undefined> {
    const { base } = this.#state;
    const from = Math.max(seq + 1 + base, this.#records.first);
    const drops = this.#drops;
    const records: RunRecord[] = [];
    let [bytes, endOffset, next] = [0, 0, from];
    const { recordsMax, bytesMax } = FRAME_LIMITS;
    for (const it of await this.#records.read(from, recordsMax, bytesMax)) {
      const record = it.gap ? gapFrom(it.gap, next, base) : it.record;
      if (records.length > 0 && bytes + record.length > bytesMax) break;
      if (it.first > next) records.push(unsynced(next - base, it.first - 1 - base));
      records.push({ first: Math.max(it.first, next) - base, last: it.last - base, record });
      bytes += record.length;
      endOffset = this.#records.offsetBehind(it);
      next = it.last + 1;
    }
    if (records.length === 0) return undefined;
    const run: ReadRun = {
      firstSeq: from - base,
      lastSeq: next - 1 - base,
      bytes,
      records,
      endOffset,
      drops,
    };
    return run;
  }

  /** The cloud now holds the `run` that follows the position: it becomes tail, and old tail goes. */
  cloudHolds(run: Run): Promise<void> {
    return this.#exclusively(async () => {
      assert(run.lastSeq <= this.lastSeq, `the cloud holds ${run.lastSeq} of ${this.lastSeq}`);
      this.#departures.add(run.lastSeq - this.position, this.#clock());
      this.#moveAhead(run.lastSeq, run.bytes);
      const { endOffset, drops } = run as ReadRun;
      if (drops === this.#drops) this.#frontOffset = endOffset;
      else await this.#heldDropped(run);
      await this.#trimTail();
    });
  }

  /**
   * Moves the position to what the cloud says that it holds: ahead when an answer was lost, back
   * into the tail when the cloud forgot.
   */
  moveTo(seq: number): Promise<void> {
    return this.#exclusively(async () => {
      assert(seq <= this.lastSeq && seq >= this.firstSeq - 1, `${seq} is not in ${this.name}`);
      const { base, position } = this.#state;
      const [low, high] = [Math.min(seq, position) + base, Math.max(seq, position) + base];
      const bytes = await this.#records.bytesBetween(low, high);
      if (seq > position) this.#moveAhead(seq, bytes);
      else this.#moveBack(seq, bytes);
      await this.#lookAtFront();
      await this.#trimTail();
    });
  }

  /** Begins a new epoch in which what still waits is numbered from 1 (DESIGN: epoch). */
  beginEpoch(newerThan: number): Promise<void> {
    return this.#exclusively(async () => {
      const state = this.#state;
      state.epoch = Math.max(Math.floor(this.#clock()), state.epoch + 1, newerThan + 1);
      state.base += state.position;
      state.position = 0;
      await this.#records.saveState("always");
    });
  }

  /** Messages that the cloud lost beyond the tail, for which a gap record stands there. */
  async countDropped(count: number): Promise<void> {
    countDropped(this.#state, GAP_REASON_FORGOTTEN, count);
    await this.#records.saveState(false);
  }

  /** What time brings about: old tail is deleted, and what is too old dropped. */
  async tidy(): Promise<void> {
    await this.#exclusively(async () => {
      await this.#trimTail();
      if (this.position < this.lastSeq) await this.#lookAtFront();
    });
    const leastMs =
      this.#clock() - (this.#limits.ageSecondsMax ?? Number.POSITIVE_INFINITY) * 1_000;
    if (!isTooOld(this.#oldestAtMs, leastMs)) return;
    const mayStay = (record: Uint8Array) => !isTooOld(recordTakenAtMs(record), leastMs);
    await this.#dropOldest(DROP_REASONS.age, mayStay);
  }

  /** The store was opened anew after a failure: what it refused may be there all the same. */
  recover(): Promise<void> {
    return this.#exclusively(async () => {
      await this.#records.deleteRefused();
      await this.#lookAtFront();
    });
  }

  status(): LaneStatus {
    const nowMs = this.#clock();
    const { bytesMax, ageSecondsMax = null, whenFull } = this.#limits;
    const waitingMessages = this.lastSeq - this.position;
    return {
      lane: this.name,
      epoch: this.epoch,
      lastSeq: this.lastSeq,
      position: this.position,
      waitingMessages,
      waitingBytes: this.#waitingBytes,
      oldestWaitingAtMs: waitingMessages > 0 ? this.#oldestAtMs : null,
      arrivingPerSecond: this.#arrivals.perSecond(nowMs),
      leavingPerSecond: this.#departures.perSecond(nowMs),
      tailMessages: this.#tail.count,
      tailBytes: this.#tail.bytes,
      bytesMax,
      ageSecondsMax,
      whenFull,
      trouble: this.#room.trouble,
      dropped: { ...this.#state.dropped },
    };
  }

  /** Nothing is written any more; resolves when nothing is under way that nobody waits for. */
  async close(): Promise<void> {
    await this.#turn;
    await this.#records.close();
  }

  /** What waits, and what is about to. */
  get #waitingBytes(): number {
    return this.#records.bytesFrom(this.#frontOffset, this.position + this.#state.base);
  }

  #grown(): void {
    const nowMs = this.#clock();
    if (this.lastSeq - this.position === 1) this.#oldestAtMs = nowMs;
    this.#arrivals.add(1, nowMs);
    this.#onAppend();
  }

  #moveAhead(seq: number, bytes: number): void {
    const count = seq - this.position;
    this.#tail.add({ end: seq + this.#state.base, count, bytes });
    this.#state.position = seq;
    this.#records.saveStateLater();
  }

  #moveBack(seq: number, bytes: number): void {
    this.#tail.takeBack(seq + this.#state.base, this.position - seq, bytes);
    this.#state.position = seq;
    this.#records.saveStateLater();
  }

  async #dropFor(bytes: number): Promise<void> {
    const { bytesMax } = this.#limits;
    for (let isAllStored = false; ; isAllStored = true) {
      const reason = this.#room.fullReason(bytes, this.#waitingBytes);
      // Of what is too long by itself nothing else need go.
      if (reason === undefined || reason === DROP_REASONS.large) return;
      const over = Math.max(bytes, this.#waitingBytes + bytes - bytesMax);
      const wanted = over + bytesMax * ROOM_SHARE;
      const freed = await this.#dropOldest(reason, (_, gathered) => gathered >= wanted);
      if (freed >= over || isAllStored) return;
      // What is on its way to the disk can be dropped once it is there.
      await this.#records.stored();
    }
  }

  /**
   * Puts a gap record in the place of the oldest that wait, up to the first that may stay; resolves
   * with the bytes that this made free.
   */
  #dropOldest(
    reason: DropReason,
    mayStay: (record: Uint8Array, bytes: number) => boolean,
  ): Promise<number> {
    return this.#exclusively(async () => {
      const offsetBehind = this.#records.offsetBehind.bind(this.#records);
      const { recordsMax, bytesMax } = DROP_LIMITS;
      let freed = 0;
      for (let more = true; more; ) {
        const front = await this.#records.read(this.#next, recordsMax, bytesMax);
        const dropped = gatherOldest(front, {
          reason,
          offsetBehind,
          mayStay: (record, bytes) => mayStay(record, freed + bytes),
        });
        if (!dropped) break;
        await this.#records.replaceByGap(dropped);
        this.#room.dropped("oldest", reason);
        this.#drops += 1;
        freed += dropped.bytes;
        more = dropped.to === front.at(-1)?.last;
      }
      await this.#lookAtFront();
      return freed;
    });
  }

  /** Of the run some messages had been dropped by the time that the cloud took them: they are not lost. */
  async #heldDropped(run: Run): Promise<void> {
    const { base } = this.#state;
    const [last] = await this.#records.read(run.lastSeq + base, 1);
    const { from, reason } = last?.gap ?? { from: Number.POSITIVE_INFINITY, reason: "" };
    const held = run.records.filter((it) => it.last + base >= from && !decodeGapRecord(it.record));
    if (held.length > 0) countDropped(this.#state, reason, -held.length);
    await this.#lookAtFront();
  }

  /** The stored number that is next for the cloud. */
  get #next(): number {
    return this.position + 1 + this.#state.base;
  }

  async #lookAtFront(): Promise<void> {
    const { recordsMax, bytesMax } = FRONT_LIMITS;
    const front = await this.#records.read(this.#next, recordsMax, bytesMax);
    this.#frontOffset = front[0]?.offset ?? (await this.#records.offsetAt(this.#next));
    const oldest = front.find(({ gap }) => gap === undefined);
    this.#oldestAtMs = (oldest && recordTakenAtMs(oldest.record)) ?? null;
  }

  /** Deletes what the tail's limits no longer cover. */
  async #trimTail(): Promise<void> {
    const before = this.#tail.bytes;
    const end = this.#tail.dropOld();
    if (end >= this.#records.first) await this.#records.deleteUpTo(end, before - this.#tail.bytes);
  }

  /** What is kept at the start: how much is tail, and what is at the front. */
  async #measure(): Promise<void> {
    const edge = this.position + this.#state.base;
    const before = this.#records.first - 1;
    const count = edge - before;
    const bytes = count > 0 ? await this.#records.bytesBetween(before, edge) : 0;
    if (count > 0) this.#tail.add({ end: edge, count, bytes });
    await this.#lookAtFront();
  }

  #exclusively<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(task);
    this.#turn = done.then(
      () => {},
      () => {},
    );
    return done;
  }
}

/** A message from before the board learnt the date has no age. */
function isTooOld(takenAtMs: number | null | undefined, leastMs: number): boolean {
  return typeof takenAtMs === "number" && takenAtMs < leastMs && isClockPlausible(takenAtMs);
}

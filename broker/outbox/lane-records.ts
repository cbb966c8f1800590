// lane-records: a lane's records in the store: numbered, measured, replaced by gaps, deleted.
// Path: lane → [lane records] → store. Touches: the store that it is given.

import assert from "node:assert";
import { encodeGap, type GapRecord } from "#contract/message";
import {
  encodeLaneState,
  forgetHoles,
  holeAt,
  holeBytes,
  type LaneState,
  withHole,
} from "./lane-state.ts";
import { NewestRecords } from "./newest-records.ts";
import {
  keysFrom,
  type LaneOperation,
  putRecord,
  recordKey,
  type StoredRecord,
  stateKey,
  storedRecord,
} from "./stored-record.ts";

/** What the store asks of a write: its operations when it is its turn, then what came of it. */
export interface LaneWrite {
  prepare(): readonly LaneOperation[];
  undo?(): void;
  stored?(): void;
  readonly sync: boolean | "always";
}

export interface LaneRange {
  readonly gte: string;
  readonly lt: string;
  readonly limit?: number;
  /** Not many bytes more than so many, but one entry at the least. */
  readonly bytesMax?: number;
  /** From the end on. */
  readonly reverse?: boolean;
}

/** What a lane needs of the store; keys are compared as text. */
export interface LaneStore {
  /** Does a synced write survive a power cut, and not only one that always does? */
  readonly isSynced: boolean;
  commit(write: LaneWrite): Promise<void>;
  /** Stores a write that nobody waits for, along with another one. */
  later(write: LaneWrite): void;
  get(key: string): Promise<Uint8Array | undefined>;
  read(range: LaneRange): Promise<[string, Uint8Array][]>;
  clear(range: LaneRange): Promise<void>;
  /** Gives the space of what was deleted in the range back to the file system. */
  compact(range: LaneRange): Promise<void>;
}

/** The reason of gap records for what was not promised: QoS 0 is not synced by itself. */
export const UNSYNCED = "not synced when the power failed";

/** So many unsynced messages share the sync that keeps their numbers from being given again. */
const UNSYNCED_NUMBERS = 1_024;
/** So much is deleted before the store is asked for its space. */
const COMPACT_BYTES_LEAST = 16 * 1024 * 1024;

/** The last record: its number, the offset behind it, and the gap if it is one. */
interface End {
  readonly number: number;
  readonly offset: number;
  readonly gap?: GapRecord & { readonly offset: number };
}

/** What a write adds to the end. */
interface Addition {
  readonly operations: readonly LaneOperation[];
  readonly end: End;
  readonly stored: StoredRecord;
  /** What else is taken back when it is refused. */
  undo?(): void;
}

/** The oldest records that are to go, for which one gap record will stand. */
export interface Dropped {
  readonly reason: string;
  /** The gap's range and the messages that it stands for, with those of gaps that it takes in. */
  readonly from: number;
  readonly to: number;
  readonly count: number;
  /** Offset of its first record, and behind its last one. */
  readonly offset: number;
  readonly endOffset: number;
  /** What is deleted: numbers, messages and their bytes. */
  readonly numbers: readonly number[];
  readonly messages: number;
  readonly bytes: number;
}

/**
 * Numbers are contiguous and never go back. How many bytes lie between two of them is told by their
 * offsets, less the holes that drops have left.
 */
export class LaneRecords {
  readonly #lane: string;
  readonly #store: LaneStore;
  readonly #state: LaneState;
  readonly #grown: () => void;
  #first = 1;
  /** The end as it was given out, ahead of #stored while a commit is under way. */
  #given: End = { number: 0, offset: 0 };
  #stored: End = { number: 0, offset: 0 };
  readonly #newest = new NewestRecords();
  /** Bytes of writes whose turn has not come. */
  #reservedBytes = 0;
  #deletedBytes = 0;
  #deletedUpTo = 0;
  #compacting: Promise<void> | undefined;

  private constructor(lane: string, store: LaneStore, state: LaneState, grown: () => void) {
    this.#lane = lane;
    this.#store = store;
    this.#state = state;
    this.#grown = grown;
  }

  /** `grown` is called after each record that is stored. @throws SluiceError STORE_FAILED. */
  static async open(
    lane: string,
    store: LaneStore,
    state: LaneState,
    grown: () => void,
  ): Promise<LaneRecords> {
    const records = new LaneRecords(lane, store, state, grown);
    await records.#readEnds();
    await records.#passUnsynced();
    return records;
  }

  /** First and last of the stored numbers that are kept. */
  get first(): number {
    return this.#first;
  }

  get last(): number {
    return this.#stored.number;
  }

  /** Bytes from `offset`, that of the first record behind `after`, to the end that is given out. */
  bytesFrom(offset: number, after: number): number {
    const holes = holeBytes(this.#state, after, this.#given.number);
    return this.#given.offset - offset - holes + this.#reservedBytes;
  }

  /** Bytes of the records behind `after` up to `to`. */
  async bytesBetween(after: number, to: number): Promise<number> {
    const [from, end] = [await this.offsetAt(after + 1), await this.offsetAt(to + 1)];
    return end - from - holeBytes(this.#state, after, to);
  }

  /** Offset of the record that covers `number`, or will. */
  async offsetAt(number: number): Promise<number> {
    const [record] = await this.read(number, 1);
    return record?.offset ?? this.#stored.offset;
  }

  /** Offset of the record behind `record`. */
  offsetBehind(record: StoredRecord): number {
    return record.offset + record.record.length + holeAt(this.#state, record.last);
  }

  /**
   * The records from the one that covers `from` on: at most `limit`, and not many bytes more than
   * `bytesMax`.
   */
  async read(from: number, limit: number, bytesMax = 0): Promise<StoredRecord[]> {
    const newest = this.#newest.from(from, limit, bytesMax);
    if (newest) return newest;
    const lt = recordKey(this.#lane, this.#stored.number + 1);
    const range = { gte: recordKey(this.#lane, from), lt, limit, bytesMax };
    const found = await this.#store.read(range);
    return found.map(([key, value]) => storedRecord(key, value));
  }

  /** The write that adds a message. It has its room from now on, so it must be committed. */
  messageWrite(record: Uint8Array, sync: boolean): LaneWrite {
    this.#reservedBytes += record.length;
    return this.#addition(sync, (before) => {
      this.#reservedBytes -= record.length;
      const [number, { offset }] = [before.number + 1, before];
      return {
        operations: [putRecord(this.#lane, number, offset, record)],
        end: { number, offset: offset + record.length },
        stored: { first: number, last: number, offset, record, gap: undefined },
      };
    });
  }

  /** The write that adds a message that is dropped at once: the gap record at the end grows by it. */
  gapWrite(reason: string, sync: boolean): LaneWrite {
    return this.#addition(sync, (before) => {
      countDropped(this.#state, reason, 1);
      const { operations, ...grown } = this.#gapGrownBehind(before, reason);
      const undo = () => countDropped(this.#state, reason, -1);
      return { operations: [...operations, this.stateOperation()], ...grown, undo };
    });
  }

  #addition(sync: boolean, add: (before: End) => Addition): LaneWrite {
    let before = this.#given;
    let added: Addition | undefined;
    let unsyncedBefore: number | undefined;
    return {
      get sync() {
        return unsyncedBefore === undefined ? sync : "always";
      },
      prepare: () => {
        before = this.#given;
        added = add(before);
        this.#given = added.end;
        const isSynced = sync && this.#store.isSynced;
        if (isSynced || added.end.number <= this.#state.unsyncedUpTo) return added.operations;
        unsyncedBefore = this.#state.unsyncedUpTo;
        this.#state.unsyncedUpTo = before.number + UNSYNCED_NUMBERS;
        return [...added.operations, this.stateOperation()];
      },
      undo: () => {
        added?.undo?.();
        this.#given = before;
        if (unsyncedBefore !== undefined) this.#state.unsyncedUpTo = unsyncedBefore;
      },
      stored: () => {
        if (!added) return;
        this.#newest.add(added.stored);
        this.#grow(added.end);
      },
    };
  }

  /** Resolves when what was committed before is stored, or refused. @throws SluiceError STORE_FAILED. */
  async stored(): Promise<void> {
    await this.#store.commit({ sync: false, prepare: () => [] });
  }

  /** Puts a gap record in the place of what was gathered. */
  async replaceByGap(dropped: Dropped): Promise<void> {
    const { reason, from, to, count, offset } = dropped;
    const gap = encodeGap({ from, to, count, reason });
    const holes = withHole(this.#state, from, to, dropped.endOffset - offset - gap.length);
    const before = this.#state.holes;
    await this.#store.commit({
      sync: false,
      prepare: () => {
        this.#state.holes = holes;
        countDropped(this.#state, reason, dropped.messages);
        const deletions = dropped.numbers.map((number) => this.#deletion(number));
        return [...deletions, putRecord(this.#lane, to, offset, gap), this.stateOperation()];
      },
      undo: () => {
        this.#state.holes = before;
        countDropped(this.#state, reason, -dropped.messages);
      },
    });
    // They are no longer what they were, and a sender that keeps up has none to drop.
    this.#newest.forgetAll();
    this.#deleted(dropped.bytes, to);
  }

  /** Deletes the records up to the number `end`, of `bytes` in all. */
  async deleteUpTo(end: number, bytes: number): Promise<void> {
    // First what the cloud holds, or a crash could leave neither the records nor their number; synced,
    // since LevelDB may lose the end of one log while the deletion, in the next one, is there.
    await this.saveState("always");
    const { gte } = keysFrom(this.#lane, 0);
    await this.#store.clear({ gte, lt: recordKey(this.#lane, end + 1) });
    this.#first = end + 1;
    forgetHoles(this.#state, this.#first);
    this.#deleted(bytes, end);
  }

  /** Deletes what a write that failed may have left behind the end. */
  async deleteRefused(): Promise<void> {
    await this.#store.clear(keysFrom(this.#lane, this.#stored.number + 1));
  }

  /** An epoch must be synced: one that was forgotten would be fenced off by what it sent. */
  async saveState(sync: false | "always"): Promise<void> {
    await this.#store.commit({ sync, prepare: () => [this.stateOperation()] });
  }

  /** A state that goes back in a crash costs a repeat that the cloud knows, not a message. */
  saveStateLater(): void {
    this.#store.later({ sync: false, prepare: () => [this.stateOperation()] });
  }

  stateOperation(): LaneOperation {
    return { type: "put", key: stateKey(this.#lane), value: encodeLaneState(this.#state) };
  }

  /** Nothing is added any more, and what there is will be synced: its numbers need no gap. */
  async close(): Promise<void> {
    await this.#compacting;
    this.#state.unsyncedUpTo = Math.min(this.#state.unsyncedUpTo, this.#stored.number);
    // A store that takes nothing has told why; the next start then has a gap that it could do without.
    await this.saveState("always").catch(() => {});
  }

  async #readEnds(): Promise<void> {
    const all = keysFrom(this.#lane, 0);
    const [[first] = [], [last] = []] = await Promise.all([
      this.#store.read({ ...all, limit: 1 }),
      this.#store.read({ ...all, limit: 1, reverse: true }),
    ]);
    const state = this.#state;
    if (first && last) {
      this.#first = storedRecord(...first).first;
      this.#stored = endOf(storedRecord(...last), (it) => this.offsetBehind(it));
    } else {
      this.#first = state.position + state.base + 1;
      this.#stored = { number: this.#first - 1, offset: 0 };
      state.holes = [];
    }
    this.#given = this.#stored;
    // Only what the cloud holds is ever deleted, a crash before that was noted or not.
    state.position = Math.max(state.position, this.#first - 1 - state.base);
  }

  /**
   * The cloud may hold messages that a crash took from us. Their numbers must not be given to others,
   * which it would take for repeats: a gap that nothing is missing for stands there.
   */
  async #passUnsynced(): Promise<void> {
    const { unsyncedUpTo: to } = this.#state;
    const { number, offset } = this.#stored;
    if (to <= number) return;
    const gap = { from: number + 1, to, count: 0, reason: UNSYNCED };
    const record = encodeGap(gap);
    const put = putRecord(this.#lane, to, offset, record);
    await this.#store.commit({ sync: "always", prepare: () => [put, this.stateOperation()] });
    this.#stored = { number: to, offset: offset + record.length };
    this.#given = this.#stored;
  }

  #gapGrownBehind(before: End, reason: string): Addition {
    const number = before.number + 1;
    const { gap } = before;
    // A hole counts at the end of its gap, so that one keeps its end.
    const grows = gap?.reason === reason && holeAt(this.#state, gap.to) === 0 ? gap : undefined;
    const { from, count, offset } = grows ?? { from: number, count: 0, offset: before.offset };
    const after = { from, to: number, count: count + 1, reason };
    const record = encodeGap(after);
    const put = putRecord(this.#lane, number, offset, record);
    return {
      operations: grows ? [this.#deletion(grows.to), put] : [put],
      end: { number, offset: offset + record.length, gap: { ...after, offset } },
      stored: { first: from, last: number, offset, record, gap: after },
    };
  }

  #grow(end: End): void {
    assert(end.number === this.#stored.number + 1, `${end.number} follows ${this.#stored.number}`);
    this.#stored = end;
    this.#grown();
  }

  #deletion(number: number): LaneOperation {
    return { type: "del", key: recordKey(this.#lane, number) };
  }

  /** LevelDB keeps what is deleted until it happens to rewrite it; an outage's worth is not left. */
  #deleted(bytes: number, upTo: number): void {
    this.#deletedBytes += bytes;
    this.#deletedUpTo = upTo;
    if (this.#deletedBytes >= COMPACT_BYTES_LEAST) this.#compacting ??= this.#compact();
  }

  async #compact(): Promise<void> {
    const { gte } = keysFrom(this.#lane, 0);
    try {
      while (this.#deletedBytes >= COMPACT_BYTES_LEAST) {
        this.#deletedBytes = 0;
        await this.#store.compact({ gte, lt: recordKey(this.#lane, this.#deletedUpTo + 1) });
      }
    } catch {
      // The store tells of its failure by itself, and the next deletion asks again.
    } finally {
      this.#compacting = undefined;
    }
  }
}

/** Counts messages that a gap record stands for. */
export function countDropped({ dropped }: LaneState, reason: string, count: number): void {
  dropped[reason] = (dropped[reason] ?? 0) + count;
}

function endOf(record: StoredRecord, offsetBehind: (record: StoredRecord) => number): End {
  const { last, gap, offset } = record;
  const end = { number: last, offset: offsetBehind(record) };
  return gap ? { ...end, gap: { ...gap, offset } } : end;
}

// queue: what one kept session has not acknowledged, and its own QoS 2 packet ids.
// Path: sessions → [queue] → store. Touches: the store that it is given.

import assert from "node:assert";
import type { Message } from "#contract/message";
import type { QueuedMessage, QueueTarget, SessionQueue } from "#contract/session";
import { storedAs } from "./broken-entry.ts";
import type { Operation, Write, WritePart } from "./group-commit.ts";
import {
  entriesOf,
  entryKey,
  entryNumberOf,
  incomingKey,
  incomingOf,
  type KeyRange,
  numbersOfKey,
} from "./keys.ts";
import { decodeEntry, encodeEntry, entryOf, RELEASED_ENTRY, releasedEntry } from "./queue-entry.ts";
import type { QueueMemory } from "./queue-memory.ts";
import { QueueWindow } from "./queue-window.ts";

/** What a queue needs of the store; see Store. */
export interface QueueStore {
  get(key: string): Promise<Uint8Array | undefined>;
  entries(range: KeyRange & { limit?: number }): AsyncIterable<[string, Uint8Array]>;
  /** A piece of the range, at once; empty when nothing is left. */
  read(range: KeyRange & { limit: number; bytesMax: number }): Promise<[string, Uint8Array][]>;
  clear(range: KeyRange): Promise<void>;
  commit(write: Write): Promise<void>;
  later(write: Write): void;
}

/** How much one queue may hold. */
export interface QueueBounds {
  readonly countMax: number;
  readonly bytesMax: number;
}

/** Sizes that are remembered of a queue: more than a client is sent before it acknowledges. */
const SIZES_MAX = 2_048;

/** What a read has gathered up to now, and what it may. */
interface Gathered {
  readonly entries: QueuedMessage[];
  readonly countMax: number;
  bytesLeft: number;
}

/**
 * Entries lie in LevelDB under contiguous numbers; the newest ones also in a window in memory. A
 * number is given out when its batch is formed, may be read once that is stored, and is never used
 * again. After close() there is nothing to read and nothing is stored any more.
 */
export class Queue implements SessionQueue {
  readonly id: number;
  readonly #store: QueueStore;
  readonly #window: QueueWindow;
  /** No entry has a lower number: reads begin here, not among what LevelDB has deleted before it. */
  #first: number;
  /** Last number given out; ahead of #stored while a batch is under way. */
  #given: number;
  #stored: number;
  #count = 0;
  #bytes = 0;
  #closed = false;
  /** Bytes of entries that were read from the disk, and so may soon be removed. */
  readonly #sizes = new Map<number, number>();
  /** Entries that are forgotten, until their deletion is stored. */
  readonly #removed = new Set<number>();
  /** Entries that are to be removed, but how long they are is being looked up. */
  readonly #measuring = new Set<number>();
  /** For each read of the disk under way, what was deleted since it began. */
  readonly #readers = new Set<Set<number>>();
  #removalWaits = false;
  /** Entries whose release is asked for and not yet stored. */
  readonly #releasing = new Map<number, Promise<void>>();
  readonly #incoming = new Set<number>();

  /** An empty queue whose numbers follow `last`. */
  constructor(store: QueueStore, memory: QueueMemory, id: number, last: number) {
    this.id = id;
    this.#store = store;
    this.#first = last + 1;
    this.#given = last;
    this.#stored = last;
    this.#window = new QueueWindow(memory, last + 1);
  }

  /** Counts an entry that the store holds at the start; called in the order of the numbers. */
  found(number: number, bytes: number): void {
    if (this.#count === 0) this.#first = number;
    this.#count += 1;
    this.#bytes += bytes;
    this.#stored = Math.max(this.#stored, number);
    this.#given = this.#stored;
    this.#window.restart(this.#stored + 1);
  }

  /** Counts a packet id that the store holds at the start. */
  foundIncoming(packetId: number): void {
    this.#incoming.add(packetId);
  }

  /** The part of a write that adds one message; `full` is called if it would not fit. */
  add(
    target: QueueTarget,
    record: Uint8Array,
    message: Message,
    bounds: QueueBounds,
    full: () => void,
  ): WritePart {
    const value = encodeEntry(target, record);
    let number = 0;
    let isFull = false;
    return {
      prepare: () => {
        if (this.#closed) return [];
        isFull = this.#count >= bounds.countMax || this.#bytes + value.length > bounds.bytesMax;
        if (isFull) return [];
        number = this.#give(value.length);
        return [{ type: "put", key: entryKey(this.id, number), value }];
      },
      undo: () => {
        if (number > 0) this.#takeBack(number, value.length);
      },
      stored: () => {
        if (isFull) full();
        if (number > 0) this.#keep(entryOf(number, target, message), value.length);
      },
    };
  }

  /** The part of a write that remembers the packet id of a QoS 2 publisher. */
  addIncoming(packetId: number): WritePart {
    let added = false;
    return {
      prepare: () => {
        added = !this.#closed;
        const key = incomingKey(this.id, packetId);
        return added ? [{ type: "put", key, value: new Uint8Array() }] : [];
      },
      stored: () => {
        if (added) this.#incoming.add(packetId);
      },
    };
  }

  async read(after: number, countMax: number, bytesMax: number): Promise<QueuedMessage[]> {
    const gathered: Gathered = { entries: [], countMax, bytesLeft: bytesMax };
    let at = Math.max(after, this.#first - 1);
    while (this.#count > 0 && at < this.#stored && !this.#closed) {
      if (at + 1 >= this.#window.from) {
        this.#readWindow(at, gathered);
        break;
      }
      // The window may move while the disk is read: what was in it may be on the disk alone now.
      const to = this.#window.from - 1;
      if (!(await this.#readDisk(at, to, gathered))) break;
      at = to;
    }
    return gathered.entries;
  }

  release(number: number): Promise<void> {
    if (!this.#isKept(number)) return Promise.resolve();
    const underWay = this.#releasing.get(number);
    if (underWay) return underWay;
    const release = this.#release(number).finally(() => this.#releasing.delete(number));
    this.#releasing.set(number, release);
    return release;
  }

  async remove(number: number, sync: boolean): Promise<void> {
    if (!this.#isKept(number)) return;
    this.#releasing.delete(number);
    const bytes = this.#knownSizeOf(number) ?? (await this.#measure(number));
    if (bytes === undefined || this.#closed) return;
    this.#forget(number, bytes);
    if (sync) {
      await this.#store.commit({ ...this.#removal(), sync });
    } else if (!this.#removalWaits) {
      this.#removalWaits = true;
      this.#store.later({ ...this.#removal(), sync });
    }
  }

  /** What is not stored yet nobody can have sent; it does not count. */
  async newest(): Promise<number> {
    return this.#closed ? 0 : this.#stored;
  }

  async size(): Promise<{ count: number; bytes: number }> {
    return this.#closed ? { count: 0, bytes: 0 } : { count: this.#count, bytes: this.#bytes };
  }

  async incoming(): Promise<number[]> {
    return this.#closed ? [] : [...this.#incoming];
  }

  async removeIncoming(packetId: number): Promise<void> {
    if (this.#closed || !this.#incoming.has(packetId)) return;
    await this.#store.commit({
      sync: true,
      prepare: () => [{ type: "del", key: incomingKey(this.id, packetId) }],
      stored: () => this.#incoming.delete(packetId),
    });
  }

  /** The session has ended: what it held is of no more use. */
  close(): void {
    this.#closed = true;
    this.#window.close();
  }

  /** Deletes what a closed queue left in the store. */
  async clear(): Promise<void> {
    if (this.#count > 0) await this.#store.clear(entriesOf(this.id));
    if (this.#incoming.size > 0) await this.#store.clear(incomingOf(this.id));
  }

  /** Deletes what a write that failed may have left: it would be taken for what a client was sent. */
  async deleteRefused(): Promise<void> {
    if (this.#closed) return;
    const { lt } = entriesOf(this.id);
    await this.#store.clear({ gte: entryKey(this.id, this.#stored + 1), lt });
    for await (const [key] of this.#store.entries(incomingOf(this.id))) {
      if (!this.#incoming.has(numbersOfKey(key).number)) {
        await this.#store.clear({ gte: key, lt: `${key}!` });
      }
    }
  }

  async #release(number: number): Promise<void> {
    const bytes = this.#knownSizeOf(number) ?? (await this.#sizeOf(number));
    if (bytes === undefined || bytes === RELEASED_ENTRY.length) return;
    // Once it is removed, to write it would bring it back, and its bytes are counted already.
    const isWanted = () => this.#releasing.has(number) && !this.#closed;
    await this.#store.commit({
      sync: true,
      prepare: () =>
        isWanted() ? [{ type: "put", key: entryKey(this.id, number), value: RELEASED_ENTRY }] : [],
      stored: () => {
        if (isWanted()) this.#replaceByReleased(number, bytes);
      },
    });
  }

  #give(bytes: number): number {
    this.#count += 1;
    this.#bytes += bytes;
    this.#given += 1;
    return this.#given;
  }

  #takeBack(number: number, bytes: number): void {
    assert(number === this.#given, `entry ${number} is not the last one, ${this.#given}`);
    this.#count -= 1;
    this.#bytes -= bytes;
    this.#given = number - 1;
  }

  #keep(entry: QueuedMessage, bytes: number): void {
    assert(entry.number === this.#stored + 1, `entry ${entry.number} follows ${this.#stored}`);
    this.#stored = entry.number;
    if (!this.#closed) this.#window.push({ entry, bytes });
  }

  #isKept(number: number): boolean {
    const isIn = number >= this.#first && number <= this.#stored;
    const isGoing = this.#removed.has(number) || this.#measuring.has(number);
    return isIn && !isGoing && !this.#closed;
  }

  #readWindow(after: number, gathered: Gathered): void {
    for (const { entry, bytes } of this.#window.behind(after)) {
      if (!fits(gathered, bytes)) return;
      gathered.entries.push(entry);
    }
  }

  /** Gathers what the disk holds from behind `after` up to `to`; false when no more fits. */
  async #readDisk(after: number, to: number, gathered: Gathered): Promise<boolean> {
    // LevelDB reads what there was when the read began, so what goes meanwhile is left out here.
    const gone = new Set<number>();
    this.#readers.add(gone);
    try {
      return await this.#gather(after, to, gathered, gone);
    } finally {
      this.#readers.delete(gone);
    }
  }

  async #gather(after: number, to: number, gathered: Gathered, gone: ReadonlySet<number>) {
    const lt = entryKey(this.id, to + 1);
    for (let at = after; at < to; ) {
      const isLowest = at + 1 === this.#first;
      const limit = Math.max(1, gathered.countMax - gathered.entries.length);
      const gte = entryKey(this.id, at + 1);
      const piece = await this.#store.read({ gte, lt, limit, bytesMax: gathered.bytesLeft });
      const [lowest] = piece;
      const first = lowest ? entryNumberOf(lowest[0]) : to + 1;
      if (isLowest) this.#first = Math.max(this.#first, first);
      if (!lowest) break;
      for (const [key, value] of piece) {
        at = entryNumberOf(key);
        if (this.#removed.has(at) || gone.has(at)) continue;
        if (!fits(gathered, value.length)) return false;
        this.#remember(at, value.length);
        const number = at;
        gathered.entries.push(storedAs(key, "entry", () => decodeEntry(number, value)));
      }
    }
    return true;
  }

  #remember(number: number, bytes: number): void {
    this.#sizes.set(number, bytes);
    if (this.#sizes.size <= SIZES_MAX) return;
    for (const [oldest] of this.#sizes) {
      this.#sizes.delete(oldest);
      return;
    }
  }

  #knownSizeOf(number: number): number | undefined {
    return this.#window.get(number)?.bytes ?? this.#sizes.get(number);
  }

  async #sizeOf(number: number): Promise<number | undefined> {
    return (await this.#store.get(entryKey(this.id, number)))?.length;
  }

  async #measure(number: number): Promise<number | undefined> {
    this.#measuring.add(number);
    try {
      return await this.#sizeOf(number);
    } finally {
      this.#measuring.delete(number);
    }
  }

  #forget(number: number, bytes: number): void {
    this.#removed.add(number);
    this.#count -= 1;
    this.#bytes -= bytes;
    this.#sizes.delete(number);
    this.#window.remove(number);
    if (number === this.#first) this.#first += 1;
  }

  #replaceByReleased(number: number, bytesBefore: number): void {
    const bytes = RELEASED_ENTRY.length;
    this.#bytes += bytes - bytesBefore;
    if (this.#sizes.has(number)) this.#sizes.set(number, bytes);
    this.#window.replace({ entry: releasedEntry(number), bytes });
  }

  /** Deletes all that is forgotten; what cannot be deleted now goes with the next removal. */
  #removal(): WritePart {
    let numbers: number[] = [];
    return {
      prepare: (): Operation[] => {
        this.#removalWaits = false;
        numbers = [...this.#removed];
        return numbers.map((number) => ({ type: "del", key: entryKey(this.id, number) }));
      },
      stored: () => {
        for (const number of numbers) {
          this.#removed.delete(number);
          for (const gone of this.#readers) gone.add(number);
        }
      },
    };
  }
}

/** Is there room for an entry of `bytes`? There always is for the first [see SessionQueue.read]. */
function fits(gathered: Gathered, bytes: number): boolean {
  const { entries, countMax, bytesLeft } = gathered;
  if (entries.length >= countMax || (entries.length > 0 && bytes > bytesLeft)) return false;
  gathered.bytesLeft -= bytes;
  return true;
}

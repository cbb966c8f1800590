// store: the gateway's LevelDB: one folder, one lock, keyspaces by prefix, synced group commit.
// Path: mqtt → [store] → outbox. Touches: the data folder, through the database.
//
// Keyspaces: `session!`, `queue!`, `incoming!` and `retained!` (see sessions.ts), `lane!` and
// `lane-state!` (see the outbox's stored-record.ts), and a cursor each under its own name.

import type { Log } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { type Cursor, cursorIn } from "./cursor.ts";
import { Database, type Piece, type Range } from "./database.ts";
import {
  eitherOrBoth,
  GroupCommit,
  type Operation,
  type Sync,
  type Write,
} from "./group-commit.ts";
import { type QueueLimits, Sessions } from "./sessions.ts";

export interface StoreOptions {
  /** What a synced write survives: a power cut, or the end of this process alone. */
  readonly durability?: "fsync" | "os";
  readonly log?: Log;
  readonly metrics?: Metrics;
}

/** What is written, and how long that took. */
type Counts = ReturnType<typeof countsIn>;

/** LevelDB behind the few verbs that Sluice needs. */
export class Store {
  readonly #database: Database;
  readonly #commits: GroupCommit;
  /** Do synced writes survive a power cut, and not only those that always do? */
  readonly isSynced: boolean;
  readonly #count: Counts;

  private constructor(database: Database, { durability, metrics }: StoreOptions) {
    this.#database = database;
    this.isSynced = durability !== "os";
    this.#count = countsIn(metrics ?? new Metrics());
    this.#commits = new GroupCommit((operations, sync) => this.#write(operations, sync));
  }

  /**
   * Opens, and makes if need be, `<data>/store`.
   * @throws SluiceError DATA_HELD naming the process that holds it, or STORE_FAILED.
   */
  static async open(data: string, options: StoreOptions = {}): Promise<Store> {
    const { log } = options;
    const tell = (fault: string | undefined) => {
      if (fault === undefined) log?.info("the store takes writes again");
      else log?.error({ why: fault }, "nothing can be stored, so nothing is acknowledged");
    };
    return new Store(await Database.open(data, tell), options);
  }

  /** Why nothing can be written; undefined when it can. */
  get fault(): string | undefined {
    return this.#database.fault;
  }

  /** How long the write under way has taken up to now; a disk that hangs shows here. */
  get busyMs(): number {
    return this.#commits.busyMs;
  }

  /**
   * `listener` runs when LevelDB was opened anew after a failure, before anything else is written:
   * what was refused may be there all the same.
   */
  onReopened(listener: () => Promise<void>): void {
    this.#database.onReopened(listener);
  }

  /** A text under `key` that is kept over restarts. */
  cursor(key: string): Cursor {
    return cursorIn(this, key);
  }

  /** The sessions, queues and retained messages that are kept here; opened once. */
  sessions(limits?: QueueLimits): Promise<Sessions> {
    return Sessions.open(this, limits);
  }

  /**
   * Takes what two parts of the broker write for one message into custody, in one batch: after a
   * crash both are there, or neither. undefined, at once, when neither has anything to write.
   * Resolves when it is stored, and synced if one of them asks. @throws SluiceError STORE_FAILED.
   */
  take(one: Write | undefined, other: Write | undefined): Promise<void> | undefined {
    const write = eitherOrBoth(one, other);
    return write && this.commit(write);
  }

  /** Joins the write into the next batch; see GroupCommit. @throws SluiceError STORE_FAILED. */
  commit(write: Write): Promise<void> {
    return this.#commits.commit(write);
  }

  /** Stores a write that nobody waits for along with another; see GroupCommit. */
  later(write: Write): void {
    this.#commits.later(write);
  }

  get(key: string): Promise<Uint8Array | undefined> {
    return this.#database.get(key);
  }

  /** A piece of what is kept, at once. @throws SluiceError STORE_FAILED. */
  read(piece: Piece): Promise<[string, Uint8Array][]> {
    return this.#database.read(piece);
  }

  /** @throws SluiceError STORE_FAILED on the way. */
  entries(range: Range): AsyncIterable<[string, Uint8Array]> {
    return this.#database.entries(range);
  }

  /** Deletes all keys in the range. */
  clear(range: Range): Promise<void> {
    return this.#database.clear(range);
  }

  /** Gives the space of what was deleted in the range back to the file system. */
  compact(range: Range): Promise<void> {
    return this.#database.compact(range);
  }

  async close(): Promise<void> {
    await this.#commits.idle();
    await this.#database.close();
  }

  async #write(operations: Operation[], sync: Sync): Promise<void> {
    const sinceMs = performance.now();
    await this.#database.write(operations, sync === "always" || (sync && this.isSynced));
    this.#count.batches.add();
    this.#count.operations.add(operations.length);
    this.#count.seconds.add((performance.now() - sinceMs) / 1_000);
  }
}

function countsIn(metrics: Metrics) {
  const tally = (name: string, help: string) => metrics.tally(`sluice_store_${name}_total`, help);
  return {
    batches: tally("batches", "Batches written: commits of all that came meanwhile."),
    operations: tally("operations", "Keys written or deleted by them."),
    seconds: tally("write_seconds", "How long they took together."),
  };
}

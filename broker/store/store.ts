// store: the gateway's LevelDB: one folder, one lock, keyspaces by prefix, synced group commit.
// Path: mqtt → [store] → outbox. Touches: the data folder.
//
// Keyspaces: `session!`, `queue!`, `incoming!` and `retained!` (see sessions.ts), `outbox!` and
// `outbox-state!` (see the outbox's lane.ts), and a cursor each under its own name.

import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { reasonOf, SluiceError } from "#contract/errors";
import { type Cursor, cursorIn } from "./cursor.ts";
import { eitherOrBoth, GroupCommit, type Operation, type Write } from "./group-commit.ts";
import { type QueueLimits, Sessions } from "./sessions.ts";

export interface Range {
  /** Keys from this one on … */
  readonly gte: string;
  /** … up to but without this one. */
  readonly lt: string;
  readonly limit?: number;
}

type Database = ClassicLevel<string, Uint8Array>;

/** LevelDB behind the few verbs that Sluice needs. */
export class Store {
  readonly #database: Database;
  readonly #commits: GroupCommit;
  #fault: string | undefined;

  private constructor(database: Database) {
    this.#database = database;
    this.#commits = new GroupCommit((operations, sync) => this.#write(operations, sync));
  }

  /**
   * Opens, and makes if need be, `<data>/store`.
   * @throws SluiceError DATA_HELD naming the process that holds it, or STORE_FAILED.
   */
  static async open(data: string): Promise<Store> {
    const folder = join(data, "store");
    try {
      mkdirSync(folder, { recursive: true, mode: 0o750 });
      const database: Database = new ClassicLevel(folder, {
        keyEncoding: "utf8",
        valueEncoding: "view",
      });
      await database.open();
      return new Store(database);
    } catch (cause) {
      throw openFailure(folder, cause);
    }
  }

  /** Why nothing could be written the last time; undefined when it could. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** How long the write under way has taken up to now; a disk that hangs shows here. */
  get busyMs(): number {
    return this.#commits.busyMs;
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

  async get(key: string): Promise<Uint8Array | undefined> {
    return guarded("read", () => this.#database.get(key));
  }

  /** @throws SluiceError STORE_FAILED on the way. */
  async *entries(range: Range): AsyncIterable<[string, Uint8Array]> {
    try {
      yield* this.#database.iterator(range);
    } catch (cause) {
      throw failure("read", cause);
    }
  }

  /** Deletes all keys in the range. */
  async clear(range: Range): Promise<void> {
    await guarded("delete", () => this.#database.clear(range));
  }

  async close(): Promise<void> {
    await this.#commits.idle();
    await this.#database.close();
  }

  async #write(operations: Operation[], sync: boolean): Promise<void> {
    try {
      await guarded("write", () => this.#database.batch(operations, { sync }));
      this.#fault = undefined;
    } catch (fault) {
      this.#fault = reasonOf(fault);
      throw fault;
    }
  }
}

async function guarded<T>(verb: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (cause) {
    throw failure(verb, cause);
  }
}

function failure(verb: string, cause: unknown): SluiceError {
  return new SluiceError("STORE_FAILED", `LevelDB cannot ${verb}: ${reasonOf(cause)}`, { cause });
}

function openFailure(folder: string, cause: unknown): SluiceError {
  const deeper = cause instanceof Error && cause.cause ? cause.cause : cause;
  if ((deeper as { code?: string }).code === "LEVEL_LOCKED") {
    const holder = lockHolder(join(folder, "LOCK"));
    return new SluiceError(
      "DATA_HELD",
      `data folder ${folder} is held by ${holder}: stop it, or give this broker another data folder`,
      { cause },
    );
  }
  const message = `data folder ${folder} cannot be opened: ${reasonOf(deeper)}`;
  return new SluiceError("STORE_FAILED", message, { cause });
}

/** Names the process that holds a POSIX lock on `file`, from /proc/locks (proc(5)). */
function lockHolder(file: string): string {
  try {
    const inode = statSync(file).ino;
    const line = readFileSync("/proc/locks", "utf8")
      .split("\n")
      .find((text) => text.includes(`:${inode} `));
    const pid = Number(line?.trim().split(/\s+/)[4]);
    if (pid === process.pid) return "this process";
    return `process ${pid} (${readFileSync(`/proc/${pid}/comm`, "utf8").trim()})`;
  } catch {
    return "another process";
  }
}

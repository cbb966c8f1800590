// database: LevelDB behind a few verbs, opened anew once a disk that refused a write takes some again.
// Path: store → [database] → LevelDB. Touches: the data folder.

import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { reasonOf, SluiceError } from "#contract/errors";
import { wait } from "#runtime/backoff";
import type { Operation } from "./group-commit.ts";

export interface Range {
  /** Keys from this one on … */
  readonly gte: string;
  /** … up to but without this one. */
  readonly lt: string;
  readonly limit?: number;
  /** From the end on. */
  readonly reverse?: boolean;
}

/** A range that is read at once: not many bytes more than `bytesMax`, but one entry at the least. */
export interface Piece extends Range {
  readonly bytesMax?: number;
}

type Entry = [key: string, value: Uint8Array];
type Level = ClassicLevel<string, Uint8Array>;

const RETRY_MS = 1_000;
/** What must find room before LevelDB is asked again, which begins new files when it opens. */
const PROBE_BYTES = 1024 * 1024;
/** What LevelDB hands over at once. */
const READ_LIMITS = { entriesMax: 1_024, bytesMax: 256 * 1024 } as const;
/** Tables are mapped into memory while they are open: a long outage has more than a board can spare. */
const OPEN_FILES_MAX = 100;

/**
 * open → failing when a write is refused: nothing is written, what is there is read. failing →
 * opening when the disk takes a file again: reads wait. opening → open, or failing again; closed is
 * final. Only #setMode writes the mode.
 */
type Mode = "open" | "failing" | "opening" | "closed";

export class Database {
  readonly #data: string;
  readonly #tell: (fault: string | undefined) => void;
  #level: Level;
  #mode: Mode = "open";
  #fault: string | undefined;
  #recovery: Promise<void> = Promise.resolve();
  readonly #closing = new AbortController();
  /** What reads wait for. */
  #opened: Promise<void> | undefined;
  #onReopened: () => Promise<void> = async () => {};

  private constructor(data: string, level: Level, tell: (fault: string | undefined) => void) {
    this.#data = data;
    this.#level = level;
    this.#tell = tell;
  }

  /**
   * Opens, and makes if need be, `<data>/store`; `tell` hears why nothing can be written, and
   * undefined when it can again.
   * @throws SluiceError DATA_HELD naming the process that holds it, or STORE_FAILED.
   */
  static async open(data: string, tell: (fault: string | undefined) => void): Promise<Database> {
    try {
      mkdirSync(folderIn(data), { recursive: true, mode: 0o750 });
      return new Database(data, await openLevel(data), tell);
    } catch (cause) {
      throw openFailure(folderIn(data), cause);
    }
  }

  /** Why nothing can be written; undefined when it can. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** `listener` runs when it was opened anew, before anything else is written. */
  onReopened(listener: () => Promise<void>): void {
    this.#onReopened = listener;
  }

  /** All of it, or nothing. A batch that is refused may be there all the same once it is opened anew. */
  async write(operations: Operation[], sync: boolean): Promise<void> {
    if (this.#mode !== "open") throw new SluiceError("STORE_FAILED", this.#fault ?? "it is closed");
    await this.#changing("write", () => this.#level.batch(operations, { sync }));
  }

  /** Deletes all keys in the range. */
  async clear(range: Range): Promise<void> {
    await this.#changing("delete", () => this.#level.clear(range));
  }

  /** Gives the space of what was deleted in the range back to the file system. */
  async compact({ gte, lt }: Range): Promise<void> {
    await this.#changing("compact", () => this.#level.compactRange(gte, lt));
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    await this.#opened;
    return guarded("read", () => this.#level.get(key));
  }

  async read({ limit = READ_LIMITS.entriesMax, bytesMax, ...range }: Piece): Promise<Entry[]> {
    await this.#opened;
    return guarded("read", async () => {
      const most = Math.max(1, bytesMax ?? READ_LIMITS.bytesMax);
      const highWaterMarkBytes = Math.min(most, READ_LIMITS.bytesMax);
      await using iterator = this.#level.iterator({ ...range, limit, highWaterMarkBytes });
      const found: Entry[] = [];
      for (let bytes = 0; bytes < most && found.length < limit; ) {
        const some = await iterator.nextv(limit);
        if (some.length === 0) break;
        found.push(...some);
        for (const [, value] of some) bytes += value.length;
      }
      return found;
    });
  }

  /** @throws SluiceError STORE_FAILED on the way. */
  async *entries(range: Range): AsyncIterable<Entry> {
    await this.#opened;
    try {
      yield* this.#level.iterator(range);
    } catch (cause) {
      throw failure("read", cause);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#recovery;
    this.#setMode("closed", undefined);
    await this.#level.close();
  }

  async #changing(verb: string, change: () => Promise<void>): Promise<void> {
    await this.#opened;
    try {
      await guarded(verb, change);
    } catch (fault) {
      this.#failed(reasonOf(fault));
      throw fault;
    }
  }

  /** LevelDB takes nothing any more after a write that failed; it is asked anew when the disk does. */
  #failed(why: string): void {
    if (this.#mode === "failing") this.#setMode("failing", why);
    if (this.#mode !== "open") return;
    this.#setMode("failing", why);
    this.#recovery = this.#recover();
  }

  async #recover(): Promise<void> {
    const { signal } = this.#closing;
    while (this.#mode === "failing" && !signal.aborted) {
      await wait(RETRY_MS, signal);
      if (!signal.aborted && (await this.#takesFiles())) await this.#reopen();
    }
  }

  async #takesFiles(): Promise<boolean> {
    const path = join(this.#data, "probe");
    try {
      await using file = await open(path, "w", 0o640);
      await file.writeFile(new Uint8Array(PROBE_BYTES));
      await file.sync();
      return true;
    } catch (cause) {
      this.#setMode("failing", `the disk takes no file: ${reasonOf(cause)}`);
      return false;
    } finally {
      removeIfThere(path);
    }
  }

  async #reopen(): Promise<void> {
    const opened = Promise.withResolvers<void>();
    this.#opened = opened.promise;
    this.#setMode("opening", this.#fault);
    try {
      await this.#level.close();
      this.#level = await openLevel(this.#data);
      this.#opened = undefined;
      opened.resolve();
      await this.#onReopened();
      this.#setMode("open", undefined);
    } catch (cause) {
      this.#setMode("failing", reasonOf(cause));
    } finally {
      this.#opened = undefined;
      opened.resolve();
    }
  }

  #setMode(mode: Mode, fault: string | undefined): void {
    this.#mode = mode;
    if (fault === this.#fault) return;
    this.#fault = fault;
    if (mode !== "closed") this.#tell(fault);
  }
}

function folderIn(data: string): string {
  return join(data, "store");
}

async function openLevel(data: string): Promise<Level> {
  const level: Level = new ClassicLevel(folderIn(data), {
    keyEncoding: "utf8",
    valueEncoding: "view",
    maxOpenFiles: OPEN_FILES_MAX,
  });
  await level.open();
  return level;
}

function removeIfThere(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // A disk that takes no file need not let one go; the next probe writes over it.
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

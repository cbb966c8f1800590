// group-commit: joins the writes that arrive while one is under way into the next one.
// Path: outbox, sessions, cursors → [group commit] → LevelDB. Touches: the write that it is given.

/** One change of a key; the key names its keyspace by its prefix. */
export type Operation =
  | { readonly type: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: string };

/** What one place has to write, as a part of a write. */
export interface WritePart {
  /** Called when the batch is formed; writes are prepared and stored in the order of commit(). */
  prepare(): readonly Operation[];
  /** Called before commit() rejects, newest first, to take back what prepare() gave out. */
  undo?(): void;
  /** Called before commit() resolves, in the order of prepare(). */
  stored?(): void;
}

/**
 * Does commit() promise that the write survives a power cut? "always": even where the settings leave
 * the syncing of messages to the operating system.
 */
export type Sync = boolean | "always";

/** A write that waits for its turn; it is committed once. */
export interface Write extends WritePart {
  /** Asked for once it is prepared. */
  readonly sync: Sync;
}

interface Waiting {
  readonly write: Write;
  resolve(): void;
  reject(cause: unknown): void;
}

/** Writes in one batch; unbounded batches would make the first writer wait for the last. */
const BATCH_WRITES_MAX = 1024;
/** What nobody waits for goes by itself after this time, if no other write took it along. */
const LATER_MS = 50;

/** Carries along what waits for any batch. */
const NOTHING: Write = { sync: false, prepare: () => [] };

/** All parts as one write: after a crash all of it is there, or nothing. */
export function joined(parts: readonly WritePart[], sync: Sync): Write {
  return {
    sync,
    prepare: () => parts.flatMap((part) => part.prepare()),
    undo() {
      for (const part of parts.toReversed()) part.undo?.();
    },
    stored() {
      for (const part of parts) part.stored?.();
    },
  };
}

/** Those of two writes that are there as one, synced if one of them asks; undefined for none. */
export function eitherOrBoth(one: Write | undefined, other: Write | undefined): Write | undefined {
  if (!one || !other) return one ?? other;
  const { prepare, undo, stored } = joined([one, other], false);
  return {
    prepare,
    ...(undo ? { undo } : {}),
    ...(stored ? { stored } : {}),
    get sync() {
      return strongest([one, other]);
    },
  };
}

function strongest(writes: readonly Write[]): Sync {
  if (writes.some(({ sync }) => sync === "always")) return "always";
  return writes.some(({ sync }) => sync);
}

/**
 * One batch is under way at a time. All writes in it share one fsync, so that the rate is bound by
 * bytes and not by fsyncs; a lone write waits for nothing but its own.
 */
export class GroupCommit {
  readonly #store: (operations: Operation[], sync: Sync) => Promise<void>;
  #waiting: Waiting[] = [];
  #later: Write[] = [];
  #laterTimer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #batchSinceMs: number | undefined;

  constructor(store: (operations: Operation[], sync: Sync) => Promise<void>) {
    this.#store = store;
  }

  /** Resolves once the write is stored (and synced, if it asks); rejects with the store's error. */
  commit(write: Write): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ write, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /**
   * Stores the write behind those of the next batch, or alone after a while. Nobody hears when it
   * fails: it is undone, and whoever asked asks again.
   */
  later(write: Write): void {
    this.#later.push(write);
    this.#laterTimer ??= setTimeout(() => {
      this.#laterTimer = undefined;
      void this.#flush();
    }, LATER_MS).unref();
  }

  /** How long the batch under way has taken up to now; 0 when there is none. */
  get busyMs(): number {
    return this.#batchSinceMs === undefined ? 0 : performance.now() - this.#batchSinceMs;
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    clearTimeout(this.#laterTimer);
    await this.#flush();
    while (this.#running) await this.#running;
  }

  async #flush(): Promise<void> {
    // The store tells of its failure by itself (Store.fault); the writes of later() are undone.
    if (this.#later.length > 0) await this.commit(NOTHING).catch(() => {});
  }

  async #run(): Promise<void> {
    // Whoever commits in this turn of the event loop joins the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#storeBatch();
    this.#running = undefined;
  }

  async #storeBatch(): Promise<void> {
    const batch = this.#waiting.splice(0, BATCH_WRITES_MAX);
    const writes = [...batch.map(({ write }) => write), ...this.#later.splice(0)];
    const operations = writes.flatMap((write) => write.prepare());
    const fault = await this.#attempt(operations, strongest(writes));
    if (fault) {
      for (const write of writes.toReversed()) write.undo?.();
      for (const { reject } of batch) reject(fault.cause);
    } else {
      for (const write of writes) write.stored?.();
      for (const { resolve } of batch) resolve();
    }
  }

  async #attempt(operations: Operation[], sync: Sync): Promise<{ cause: unknown } | undefined> {
    // What was to be changed may have gone by itself; an empty batch would still cost an fsync.
    if (operations.length === 0) return undefined;
    this.#batchSinceMs = performance.now();
    try {
      await this.#store(operations, sync);
      return undefined;
    } catch (cause) {
      return { cause };
    } finally {
      this.#batchSinceMs = undefined;
    }
  }
}

// group-commit: joins the writes that arrive while one is under way into the next one.
// Path: outbox, cursors → [group commit] → LevelDB. Touches: the write that it is given.

/** One change of a key; the key names its keyspace by its prefix. */
export type Operation =
  | { readonly type: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: string };

/** A write that waits for its turn. */
export interface Write {
  /** Called when the batch is formed; writes are prepared and stored in the order of commit(). */
  prepare(): readonly Operation[];
  /** Called before commit() rejects, so that numbers given out in prepare() can be taken back. */
  undo?(): void;
  /** Does commit() promise that the write survives a power cut? */
  readonly sync: boolean;
}

interface Waiting {
  readonly write: Write;
  resolve(): void;
  reject(cause: unknown): void;
}

/** Writes in one batch; unbounded batches would make the first writer wait for the last. */
const BATCH_WRITES_MAX = 1024;

/**
 * One batch is under way at a time. All writes in it share one fsync, so that the rate is bound by
 * bytes and not by fsyncs; a lone write waits for nothing but its own.
 */
export class GroupCommit {
  readonly #store: (operations: Operation[], sync: boolean) => Promise<void>;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #batchSinceMs: number | undefined;

  constructor(store: (operations: Operation[], sync: boolean) => Promise<void>) {
    this.#store = store;
  }

  /** Resolves once the write is stored (and synced, if it asks); rejects with the store's error. */
  commit(write: Write): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ write, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** How long the batch under way has taken up to now; 0 when there is none. */
  get busyMs(): number {
    return this.#batchSinceMs === undefined ? 0 : performance.now() - this.#batchSinceMs;
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    // Whoever commits in this turn of the event loop joins the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#storeBatch();
    this.#running = undefined;
  }

  async #storeBatch(): Promise<void> {
    const batch = this.#waiting.splice(0, BATCH_WRITES_MAX);
    const operations = batch.flatMap(({ write }) => write.prepare());
    const sync = batch.some(({ write }) => write.sync);
    this.#batchSinceMs = performance.now();
    try {
      await this.#store(operations, sync);
      for (const { resolve } of batch) resolve();
    } catch (cause) {
      for (const { write } of batch.toReversed()) write.undo?.();
      for (const { reject } of batch) reject(cause);
    } finally {
      this.#batchSinceMs = undefined;
    }
  }
}

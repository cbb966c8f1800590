// disk: a stand-in for LevelDB that tells what it was asked, and fails when the test says so.
// Path: tests of the store's parts. Touches: nothing.

import {
  GroupCommit,
  type Operation,
  type Sync,
  type Write,
} from "../../../broker/store/group-commit.ts";
import type { KeyRange } from "../../../broker/store/keys.ts";
import type { QueueStore } from "../../../broker/store/queue.ts";

export class Disk implements QueueStore {
  readonly kept = new Map<string, Uint8Array>();
  /** What was to be written, the refused too. */
  readonly batches: { keys: string[]; sync: Sync }[] = [];
  readonly reads: KeyRange[] = [];
  gets = 0;
  clears = 0;
  /** What reads wait for, once they have seen what there is. */
  gate: Promise<void> = Promise.resolve();
  fault: Error | undefined;
  readonly isSynced = true;
  readonly #commits = new GroupCommit((operations, sync) => this.#write(operations, sync));

  commit(write: Write): Promise<void> {
    return this.#commits.commit(write);
  }

  later(write: Write): void {
    this.#commits.later(write);
  }

  idle(): Promise<void> {
    return this.#commits.idle();
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    this.gets += 1;
    return this.kept.get(key);
  }

  async *entries(range: KeyRange & { limit?: number }): AsyncIterable<[string, Uint8Array]> {
    this.reads.push(range);
    const found = [...this.kept].filter(([key]) => key >= range.gte && key < range.lt);
    found.sort(([a], [b]) => (a < b ? -1 : 1));
    await this.gate;
    yield* found.slice(0, range.limit);
  }

  async read(range: KeyRange & { limit?: number; reverse?: boolean }) {
    const { reverse, limit, ...keys } = range;
    const all: [string, Uint8Array][] = [];
    for await (const entry of this.entries(keys)) all.push(entry);
    return (reverse ? all.reverse() : all).slice(0, limit);
  }

  async compact(): Promise<void> {}

  async clear({ gte, lt }: KeyRange): Promise<void> {
    this.clears += 1;
    for (const key of [...this.kept.keys()]) if (key >= gte && key < lt) this.kept.delete(key);
  }

  async #write(operations: Operation[], sync: Sync): Promise<void> {
    this.batches.push({ keys: operations.map(({ key }) => key), sync });
    await new Promise(setImmediate);
    if (this.fault) throw this.fault;
    for (const operation of operations) {
      if (operation.type === "put") this.kept.set(operation.key, operation.value);
      else this.kept.delete(operation.key);
    }
  }
}

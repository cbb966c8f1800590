import assert from "node:assert/strict";
import { test } from "node:test";
import { GroupCommit, type Operation, type Sync } from "../../../broker/store/group-commit.ts";
import { waitFor } from "../../support/wait-for.ts";

const put = (key: string): Operation => ({ type: "put", key, value: new Uint8Array() });

/** A disk that finishes, or fails, when the test says so. */
class Disk {
  readonly batches: { keys: string[]; sync: Sync }[] = [];
  #finish: ((fault?: Error) => void)[] = [];

  write = (operations: Operation[], sync: Sync): Promise<void> => {
    this.batches.push({ keys: operations.map(({ key }) => key), sync });
    return new Promise((resolve, reject) => {
      this.#finish.push((fault) => (fault ? reject(fault) : resolve()));
    });
  };

  async finish(fault?: Error): Promise<void> {
    await new Promise(setImmediate);
    this.#finish.shift()?.(fault);
    await new Promise(setImmediate);
  }
}

test("joins the writes that arrive while one is under way into one batch, in their order", async () => {
  const disk = new Disk();
  const commits = new GroupCommit(disk.write);
  const done: string[] = [];
  const commit = (key: string, sync: boolean) =>
    commits.commit({ sync, prepare: () => [put(key)] }).then(() => done.push(key));

  void commit("a", false);
  await new Promise(setImmediate);
  void commit("b", false);
  void commit("c", true);
  assert.deepEqual(disk.batches, [{ keys: ["a"], sync: false }]);
  assert.ok(commits.busyMs > 0, "a disk that hangs shows");
  await disk.finish();
  assert.deepEqual(disk.batches[1], { keys: ["b", "c"], sync: true });
  assert.deepEqual(done, ["a"], "nothing is promised before its batch is stored");
  await disk.finish();
  assert.deepEqual(done, ["a", "b", "c"]);
  assert.equal(commits.busyMs, 0);
});

test("takes numbers back, newest first, when the disk refuses the batch", async () => {
  const disk = new Disk();
  const commits = new GroupCommit(disk.write);
  let given = 0;
  const commit = () => {
    let number = 0;
    return commits.commit({
      sync: true,
      prepare: () => {
        number = ++given;
        return [put(String(number))];
      },
      undo: () => {
        given = number - 1;
      },
    });
  };
  const [first, second] = [commit(), commit()];
  const refused = Promise.all([assert.rejects(first, /full/), assert.rejects(second, /full/)]);
  await disk.finish(new Error("disk full"));
  await refused;
  const third = commit();
  await disk.finish();
  await third;
  assert.deepEqual(disk.batches.at(-1)?.keys, ["1"]);
});

test("tells a write that it is stored before whoever waits for it, in the order of the batch", async () => {
  const disk = new Disk();
  const commits = new GroupCommit(disk.write);
  const told: string[] = [];
  const commit = (key: string) =>
    commits
      .commit({ sync: false, prepare: () => [put(key)], stored: () => told.push(`stored ${key}`) })
      .then(() => told.push(`resolved ${key}`));
  const both = Promise.all([commit("a"), commit("b")]);
  await new Promise(setImmediate);
  assert.deepEqual(told, []);
  await disk.finish();
  await both;
  assert.deepEqual(told, ["stored a", "stored b", "resolved a", "resolved b"]);
});

test("what may come later rides behind the writes of the next batch", async () => {
  const disk = new Disk();
  const commits = new GroupCommit(disk.write);
  commits.later({ sync: false, prepare: () => [put("later")] });
  await new Promise(setImmediate);
  assert.deepEqual(disk.batches, [], "it waits for company");
  const committed = commits.commit({ sync: true, prepare: () => [put("a")] });
  await disk.finish();
  await committed;
  assert.deepEqual(disk.batches, [{ keys: ["a", "later"], sync: true }]);
});

test("what may come later comes by itself when no other write does", async () => {
  const disk = new Disk();
  const commits = new GroupCommit(disk.write);
  commits.later({ sync: false, prepare: () => [put("later")] });
  // The timer alone keeps no process alive, so something else must.
  await waitFor("the write", () => disk.batches.length === 1);
  assert.deepEqual(disk.batches, [{ keys: ["later"], sync: false }]);
  await disk.finish();
});

test("what may come later is undone when the disk refuses it, and nobody has to hear", async () => {
  const disk = new Disk();
  const commits = new GroupCommit(disk.write);
  let isUndone = false;
  commits.later({
    sync: false,
    prepare: () => [put("later")],
    undo: () => {
      isUndone = true;
    },
  });
  const idle = commits.idle();
  await disk.finish(new Error("disk full"));
  await idle;
  assert.ok(isUndone);
});

test("a batch in which nothing is left to change asks nothing of the disk", async () => {
  const disk = new Disk();
  const commits = new GroupCommit(disk.write);
  await commits.commit({ sync: true, prepare: () => [] });
  assert.deepEqual(disk.batches, []);
});

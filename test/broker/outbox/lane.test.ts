import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Run } from "#contract/frame";
import { decodeRecord, encodeMessage } from "#contract/message";
import { Lane, type LaneOptions } from "../../../broker/outbox/lane.ts";
import type { LaneStore } from "../../../broker/outbox/lane-records.ts";
import type { LaneLimits } from "../../../broker/outbox/lane-room.ts";
import { Store } from "../../../broker/store/store.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { Disk } from "../store/disk.ts";
import { append } from "./append.ts";

const LIMITS: LaneLimits = {
  bytesMax: 100_000,
  tailBytesMax: 1_000,
  tailSecondsMax: 600,
  diskFreeBytesMin: 0,
  whenFull: "reject",
};

function record(text: string): Uint8Array {
  const payload = new TextEncoder().encode(text);
  return encodeMessage({ topic: "t", payload, qos: 1, retain: false, takenAtMs: 1_000 });
}

/** What the record at that place of a run says. */
function textOf(run: Run | undefined, place: number): string {
  const decoded = decodeRecord(run?.records[place]?.record ?? new Uint8Array());
  return decoded.kind === "message" ? new TextDecoder().decode(decoded.message.payload) : "gap";
}

async function openLane(
  t: TestContext,
  limits: Partial<LaneLimits> = {},
  options: Partial<LaneOptions> = {},
) {
  const folder = temporaryFolder(t);
  let store = await Store.open(folder);
  t.after(() => store.close());
  const open = () => Lane.open("default", { store, limits: { ...LIMITS, ...limits }, ...options });
  return {
    lane: await open(),
    get store() {
      return store;
    },
    async reopened(): Promise<Lane> {
      await store.close();
      store = await Store.open(folder);
      return open();
    },
  };
}

/** Appends the messages m<from> to m<to>, all at once. */
async function fill(
  store: Pick<LaneStore, "commit">,
  lane: Lane,
  from: number,
  to: number,
): Promise<void> {
  const numbers = Array.from({ length: to - from + 1 }, (_, index) => from + index);
  await Promise.all(numbers.map((number) => append(store, lane, record(`m${number}`))));
}

test("numbers records from 1 without a hole, and reads them in that order", async (t) => {
  const { lane, store } = await openLane(t);
  await fill(store, lane, 1, 600);
  const run = await lane.readAfter(0);
  assert.equal(run?.firstSeq, 1);
  assert.equal(run?.lastSeq, 256, "as many as a frame takes");
  assert.equal(textOf(run, 255), "m256");
  assert.equal((await lane.readAfter(599))?.lastSeq, 600);
  assert.equal(await lane.readAfter(600), undefined);
});

test("keeps what waits, its numbers and its epoch over a restart", async (t) => {
  const opened = await openLane(t);
  const { lane } = opened;
  await fill(opened.store, lane, 1, 10);
  await lane.moveTo(4);
  const after = await opened.reopened();
  assert.equal(after.epoch, lane.epoch);
  assert.equal(after.position, 4);
  assert.deepEqual(after.status().waitingMessages, 6);
  assert.equal(after.status().waitingBytes, lane.status().waitingBytes);
  await append(opened.store, after, record("m11"));
  assert.equal(after.lastSeq, 11);
});

test("refuses an append over the lane's limit, and takes it again once the cloud has taken some", async (t) => {
  const { lane, store } = await openLane(t, { bytesMax: record("m1").length * 2 });
  await fill(store, lane, 1, 2);
  await assert.rejects(append(store, lane, record("m3")), {
    code: "OUTBOX_FULL",
    message: /lane default/,
  });
  await lane.moveTo(1);
  await append(store, lane, record("m3"));
  assert.equal(lane.lastSeq, 3);
});

test("refuses at once what would not fit beside writes that are not stored yet", async (t) => {
  const { lane, store } = await openLane(t, { bytesMax: record("m1").length * 2 });
  const writes = [lane.write(record("m1"), true), lane.write(record("m2"), true)];
  assert.throws(() => lane.write(record("m3"), true), { code: "OUTBOX_FULL" });
  assert.equal(lane.lastSeq, 0, "a write that is not committed has no number");
  for (const write of writes) await store.commit(write);
  assert.deepEqual([lane.lastSeq, lane.status().waitingMessages], [2, 2]);
});

test("gives a number and its room to another when the store refuses the write", async () => {
  const disk = new Disk();
  const limits = { ...LIMITS, bytesMax: record("m1").length * 2 };
  const lane = await Lane.open("default", { store: disk, limits });
  const woken: number[] = [];
  lane.onAppend(() => woken.push(lane.lastSeq));
  disk.fault = new Error("disk full");
  await assert.rejects(fill(disk, lane, 1, 2), /disk full/);
  assert.deepEqual([lane.lastSeq, lane.status().waitingBytes, woken], [0, 0, []]);
  disk.fault = undefined;
  await fill(disk, lane, 1, 2);
  assert.deepEqual([lane.lastSeq, woken], [2, [1, 2]]);
});

test("keeps a tail of what the cloud took, up to its limit in bytes", async (t) => {
  const { lane, store } = await openLane(t, { tailBytesMax: record("m10").length * 25 });
  await fill(store, lane, 10, 109);
  for (let seq = 10; seq <= 100; seq += 10) await lane.moveTo(seq);
  assert.equal(lane.firstSeq, 81);
  assert.equal(lane.status().tailMessages, 20);
  await lane.moveTo(85);
  assert.equal(textOf(await lane.readAfter(85), 0), "m95");
  assert.deepEqual([lane.status().waitingMessages, lane.status().tailMessages], [15, 5]);
});

test("gives the numbers of a new epoch from 1, to what still waits only", async (t) => {
  const { lane, store, reopened } = await openLane(t);
  await fill(store, lane, 1, 10);
  await lane.moveTo(7);
  const before = lane.epoch;
  await lane.beginEpoch(before + 5);
  assert.ok(lane.epoch > before + 5);
  const after = await reopened();
  assert.deepEqual([after.epoch, after.position, after.lastSeq], [lane.epoch, 0, 3]);
  assert.equal(textOf(await after.readAfter(0), 0), "m8");
});

test("an epoch is synced before anything can be sent in it", async (t) => {
  const store = await Store.open(temporaryFolder(t));
  t.after(() => store.close());
  const synced: string[] = [];
  const watched = {
    isSynced: true,
    get: store.get.bind(store),
    read: store.read.bind(store),
    later: store.later.bind(store),
    compact: store.compact.bind(store),
    clear: store.clear.bind(store),
    commit: (write: Parameters<Store["commit"]>[0]) => {
      if (write.sync) for (const { key } of write.prepare()) synced.push(key);
      return store.commit(write);
    },
  };
  const lane = await Lane.open("default", { store: watched, limits: LIMITS });
  assert.deepEqual(synced, ["lane-state!default"]);
  await lane.beginEpoch(lane.epoch);
  assert.deepEqual(synced, ["lane-state!default", "lane-state!default"]);
});

test("keeps the count of what gap records stand for", async (t) => {
  const { lane, reopened } = await openLane(t);
  await lane.countDropped(7);
  await lane.countDropped(5);
  assert.deepEqual((await reopened()).status().dropped, { "forgotten by the cloud": 12 });
});

test("tells how old the oldest waiting message is", async (t) => {
  const { lane, store } = await openLane(t);
  assert.equal(lane.status().oldestWaitingAtMs, null);
  await fill(store, lane, 1, 3);
  await lane.moveTo(2);
  assert.equal(lane.status().oldestWaitingAtMs, 1_000, "from the record itself");
  await lane.moveTo(3);
  assert.equal(lane.status().oldestWaitingAtMs, null);
});

test("what a power cut took of unsynced messages is a gap, in the middle and at the front", async (t) => {
  const opened = await openLane(t);
  await fill(opened.store, opened.lane, 1, 9);
  for (const number of [1, 2, 5, 6]) {
    const key = `lane!default!${String(number).padStart(16, "0")}`;
    await opened.store.commit({ sync: false, prepare: () => [{ type: "del", key }] });
  }
  const lane = await opened.reopened();
  const run = await lane.readAfter(0);
  const places = run?.records.map(({ first, last }) => [first, last]);
  assert.deepEqual(places, [
    [3, 3],
    [4, 4],
    [5, 6],
    [7, 7],
    [8, 8],
    [9, 9],
  ]);
  assert.equal(textOf(run, 2), "gap");
  assert.deepEqual([lane.firstSeq, lane.position], [3, 2], "the cloud will be told of 1 and 2");
});

test("a number that may have gone to the cloud is not given again when a power cut took its message", async (t) => {
  const opened = await openLane(t);
  for (const number of [1, 2, 3]) {
    await opened.store.commit(opened.lane.write(record(`m${number}`), false));
  }
  assert.equal(
    (await opened.lane.readAfter(0))?.lastSeq,
    3,
    "they are sent before they are synced",
  );
  const lost = ["2", "3"].map((number) => `lane!default!${number.padStart(16, "0")}`);
  await opened.store.clear({ gte: lost[0] ?? "", lt: `${lost[1]}!` });
  const lane = await opened.reopened();
  assert.ok(lane.lastSeq >= 3, "what the cloud says that it holds is not ahead of us");
  await append(opened.store, lane, record("new"));
  await lane.moveTo(3);
  const run = await lane.readAfter(3);
  assert.ok((run?.records[1]?.first ?? 0) > 3, "it has a number of its own");
  assert.equal(textOf(run, 1), "new");
  const passed = decodeRecord(run?.records[0]?.record ?? new Uint8Array());
  assert.deepEqual(passed.kind === "gap" && [passed.gap.from, passed.gap.count], [4, 0]);
});

test("a clean stop, and messages that are synced, leave no gap to the next start", async (t) => {
  const opened = await openLane(t);
  await opened.store.commit(opened.lane.write(record("m1"), false));
  await opened.lane.close();
  const after = await opened.reopened();
  assert.equal(after.lastSeq, 1);
  await append(opened.store, after, record("m2"));
  assert.equal((await opened.reopened()).lastSeq, 2, "synced, so a crash cannot take it");
});

test("the numbers of unsynced messages are synced before the first of them is stored", async () => {
  const disk = new Disk();
  const lane = await Lane.open("default", { store: disk, limits: LIMITS });
  const from = disk.batches.length;
  for (let number = 1; number <= 1_025; number += 1) {
    await disk.commit(lane.write(record(`m${number}`), false));
  }
  const synced = disk.batches.slice(from).map(({ sync }) => sync === "always");
  assert.deepEqual(
    [synced[0], synced[1], synced[1_023], synced[1_024]],
    [true, false, false, true],
  );
  assert.equal(synced.filter(Boolean).length, 2, "a sync for many");
});

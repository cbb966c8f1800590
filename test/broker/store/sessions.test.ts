import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { encodeMessage, type Message } from "#contract/message";
import type { StoredSession, Taking } from "#contract/session";
import { eitherOrBoth, joined, type Write } from "../../../broker/store/group-commit.ts";
import { type QueueLimits, Sessions } from "../../../broker/store/sessions.ts";
import { Store } from "../../../broker/store/store.ts";
import {
  type OpenSessionStore,
  sessionStorePromises,
} from "../../support/session-store-promises.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { Disk } from "./disk.ts";

async function openAt(folder: string, t: TestContext): Promise<OpenSessionStore> {
  const disk = await Store.open(folder);
  t.after(() => disk.close());
  const store = await disk.sessions();
  return {
    store,
    take: async (taking) => disk.take(store.write(taking), undefined),
    async reopen() {
      await disk.close();
      return openAt(folder, t);
    },
  };
}

sessionStorePromises(test, (t) => openAt(temporaryFolder(t), t));

const MESSAGE: Message = {
  topic: "t",
  payload: new Uint8Array([1]),
  qos: 2,
  retain: false,
  takenAtMs: 1_000,
};

const session = (clientId: string): StoredSession => ({
  clientId,
  expirySeconds: 60,
  subscriptions: [],
  sentUpTo: 0,
});

const target = (clientId: string) =>
  ({ clientId, qos: 1, retain: false, subscriptionIds: [] }) as const;

const takingOf = (rest: Partial<Taking> = {}, message: Partial<Message> = {}): Taking => ({
  message: { ...MESSAGE, ...message },
  queues: [],
  ...rest,
});

async function openOnDisk(disk: Disk, limits?: QueueLimits) {
  const sessions = await Sessions.open(disk, limits);
  const take = async (taking: Taking) => {
    const write = sessions.write(taking);
    if (write) await disk.commit(write);
  };
  return { sessions, take };
}

test("a taking that is for no kept session and not retained has nothing to write", async () => {
  const { sessions } = await openOnDisk(new Disk());
  assert.equal(sessions.write(takingOf()), undefined);
  assert.equal(sessions.write(takingOf({ queues: [target("nobody")] })), undefined);
  const incoming = { clientId: "nobody", packetId: 1 };
  assert.equal(sessions.write(takingOf({ incoming })), undefined);
  const statistics = { topic: "$SYS/broker/uptime", retain: true };
  assert.equal(sessions.write(takingOf({}, statistics)), undefined);
});

test("all of a taking is in one batch, synced from QoS 1 on", async () => {
  const disk = new Disk();
  const { sessions, take } = await openOnDisk(disk);
  await Promise.all([sessions.save(session("a")), sessions.save(session("b"))]);
  const before = disk.batches.length;
  const incoming = { clientId: "a", packetId: 9 };
  await take(takingOf({ queues: [target("a"), target("b")], incoming }, { retain: true }));
  await take(takingOf({}, { qos: 0, retain: true }));
  assert.deepEqual(
    disk.batches.slice(before).map(({ keys, sync }) => [keys.length, sync]),
    [
      [4, true],
      [1, false],
    ],
  );
});

test("when the disk refuses a taking, none of it is there, and numbers are given again", async () => {
  const disk = new Disk();
  const { sessions, take } = await openOnDisk(disk);
  await Promise.all([sessions.save(session("a")), sessions.save(session("b"))]);
  const incoming = { clientId: "a", packetId: 9 };
  const taking = takingOf({ queues: [target("a"), target("b")], incoming }, { retain: true });
  disk.fault = new Error("disk full");
  await assert.rejects(Promise.all([take(taking), take(taking)]), /disk full/);
  const [a, b] = [sessions.queue("a"), sessions.queue("b")];
  for (const queue of [a, b]) assert.deepEqual(await queue.size(), { count: 0, bytes: 0 });
  assert.deepEqual(await a.incoming(), []);
  disk.fault = undefined;
  await take(taking);
  assert.deepEqual([await a.newest(), await b.newest()], [1, 1]);
  assert.deepEqual(await a.incoming(), [9]);
});

test("an acknowledgement's write is synced where the client relies on it", async () => {
  const disk = new Disk();
  const { sessions, take } = await openOnDisk(disk);
  await sessions.save(session("a"));
  await take(takingOf({ queues: [target("a")], incoming: { clientId: "a", packetId: 9 } }));
  const queue = sessions.queue("a");
  const before = disk.batches.length;
  await queue.release(1);
  await queue.removeIncoming(9);
  await queue.remove(1, true);
  await sessions.remove("a");
  assert.deepEqual(
    disk.batches.slice(before).map(({ sync }) => sync),
    [true, true, true, true],
  );
});

test("what no session is named for is cleared at the start, and its place is not used again", async () => {
  const disk = new Disk();
  const { sessions, take } = await openOnDisk(disk);
  await sessions.save(session("a"));
  await sessions.save(session("b"));
  await take(takingOf({ queues: [target("b")], incoming: { clientId: "b", packetId: 9 } }));
  disk.kept.delete("session!b");
  const after = await openOnDisk(disk);
  assert.deepEqual([...disk.kept.keys()], ["session!a"]);
  await after.sessions.save(session("c"));
  await after.take(takingOf({ queues: [target("c")] }));
  assert.match([...disk.kept.keys()].at(-1) ?? "", /^queue!0+3!0+1$/);
});

test("a removed session's queue is deleted without its client waiting for it", async () => {
  const disk = new Disk();
  const { sessions, take } = await openOnDisk(disk);
  await sessions.save(session("a"));
  await take(takingOf({ queues: [target("a")], incoming: { clientId: "a", packetId: 9 } }));
  await sessions.remove("a");
  await waitFor("the rest to be deleted", () => disk.kept.size === 0);
});

test("a session that left no queue behind costs no deletion", async () => {
  const disk = new Disk();
  const { sessions, take } = await openOnDisk(disk);
  await sessions.save(session("a"));
  await take(takingOf({ queues: [target("a")], incoming: { clientId: "a", packetId: 9 } }));
  await sessions.queue("a").remove(1, true);
  await sessions.queue("a").removeIncoming(9);
  await sessions.remove("a");
  assert.deepEqual([disk.kept.size, disk.clears], [0, 0]);
});

test("a session is gone for everybody as soon as its removal begins", async () => {
  const { sessions } = await openOnDisk(new Disk());
  await sessions.save(session("a"));
  const removed = sessions.remove("a");
  assert.equal(await sessions.load("a"), undefined);
  await removed;
});

test("a queue stays with its session when another takes the name", async () => {
  const disk = new Disk();
  const { sessions, take } = await openOnDisk(disk);
  await sessions.save(session("a"));
  await take(takingOf({ queues: [target("a")] }));
  const old = sessions.queue("a");
  const [removed, early] = [sessions.remove("a"), sessions.queue("a")];
  assert.deepEqual(await early.read(0, 10, 1_000), []);
  await Promise.all([removed, sessions.save(session("a"))]);
  await take(takingOf({ queues: [target("a")] }));
  assert.deepEqual(await old.read(0, 10, 1_000), []);
  await old.remove(1, true);
  assert.equal((await early.read(0, 10, 1_000)).length, 1);
});

test("a message that is over a queue's limit is told, once it is decided", async () => {
  const disk = new Disk();
  const told: string[] = [];
  const { sessions, take } = await openOnDisk(disk, {
    queueMessagesMax: 1,
    queueBytesMax: 1_000,
    dropped: (clientId, count) => told.push(`${clientId} ${count}`),
  });
  await sessions.save(session("a"));
  await sessions.save(session("b"));
  await take(takingOf({ queues: [target("a")] }));
  disk.fault = new Error("disk full");
  await assert.rejects(take(takingOf({ queues: [target("a"), target("b")] })));
  assert.deepEqual(told, [], "the publisher keeps it, so nothing is lost");
  disk.fault = undefined;
  await take(takingOf({ queues: [target("a"), target("b")] }));
  assert.deepEqual(told, ["a 1"]);
  assert.equal((await sessions.queue("b").size()).count, 1);
});

test("a broken entry is the store's failure, and its key is named", async () => {
  const put = async (key: string, value: Uint8Array) => {
    const disk = new Disk();
    const opened = await openOnDisk(disk);
    await opened.sessions.save(session("a"));
    await opened.take(takingOf({ queues: [target("a")] }));
    disk.kept.set(key, value);
    return disk;
  };
  const named = (key: string) => ({ code: "STORE_FAILED", message: new RegExp(key) });
  const reopened = async (key: string, value: Uint8Array) =>
    (await openOnDisk(await put(key, value))).sessions;

  await assert.rejects(reopened("session!x", new Uint8Array()), named("session!x"));
  const garbled = await reopened("session!a", new Uint8Array([1, 0, 2, 0x7b, 0x7d]));
  await assert.rejects(garbled.load("a"), named("session!a"));
  const tooLong = new Uint8Array([...encodeDocumentOf("a"), 0]);
  await assert.rejects((await reopened("session!a", tooLong)).load("a"), named("session!a"));
  const entry = `queue!${"1".padStart(16, "0")}!${"1".padStart(16, "0")}`;
  const queue = (await reopened(entry, new Uint8Array([0xff]))).queue("a");
  await assert.rejects(queue.read(0, 10, 1_000), named(entry));
  const retained = (await reopened("retained!t", encodeMessage(MESSAGE).subarray(0, 2))).retained();
  await assert.rejects(async () => {
    for await (const _ of retained) assert.fail("it is broken");
  }, named("retained!t"));
});

/** A document as it is stored: queue 1, sent up to 0, its JSON behind its length. */
function encodeDocumentOf(clientId: string): Uint8Array {
  const json = new TextEncoder().encode(
    JSON.stringify({ clientId, expirySeconds: 60, subscriptions: [] }),
  );
  return new Uint8Array([1, 0, json.length, ...json]);
}

test("two writes are one that is synced if one of them asks; one alone is itself", () => {
  const write = (sync: boolean) => ({ sync, prepare: () => [] });
  const [lazy, synced] = [write(false), write(true)];
  const syncOf = (one: Write, other: Write) => eitherOrBoth(one, other)?.sync;
  assert.deepEqual([syncOf(lazy, synced), syncOf(synced, lazy)], [true, true]);
  assert.equal(syncOf(lazy, lazy), false);
  assert.equal(eitherOrBoth(lazy, undefined), lazy);
  assert.equal(eitherOrBoth(undefined, synced), synced);
});

test("two writes that are joined are one: undone from the end, stored from the beginning", async () => {
  const disk = new Disk();
  const calls: string[] = [];
  const part = (name: string) => ({
    prepare: () => [{ type: "put", key: name, value: new Uint8Array() }] as const,
    undo: () => calls.push(`undo ${name}`),
    stored: () => calls.push(`stored ${name}`),
  });
  await disk.commit(joined([part("a"), part("b")], true));
  disk.fault = new Error("disk full");
  await assert.rejects(disk.commit(joined([part("c"), part("d")], false)));
  assert.deepEqual(calls, ["stored a", "stored b", "undo d", "undo c"]);
  assert.deepEqual(disk.batches, [
    { keys: ["a", "b"], sync: true },
    { keys: ["c", "d"], sync: false },
  ]);
});

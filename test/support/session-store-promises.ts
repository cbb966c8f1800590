// session-store-promises: what every session store must keep, whatever it is made of.
// Path: tests of store and cluster → a SessionStore. Touches: the store that it is given.

import assert from "node:assert/strict";
import type { TestContext, test as testOf } from "node:test";
import type { Message } from "#contract/message";
import {
  NEVER_EXPIRES_SECONDS,
  type QueuedMessage,
  type QueueTarget,
  type SessionQueue,
  type SessionStore,
  type StoredSession,
  type Taking,
} from "#contract/session";

/** A store that is open, and the seam that puts messages into it. */
export interface OpenSessionStore {
  readonly store: SessionStore;
  /** Resolves when the message is in custody for all that the taking names. */
  take(taking: Taking): Promise<void>;
  /** Closes it as a stop of the broker does, and opens it anew on the same data. */
  reopen(): Promise<OpenSessionStore>;
}

type Open = (t: TestContext) => Promise<OpenSessionStore>;

/** Client ids that a careless key would mix up: prefixes, separators, patterns, special names. */
const CLIENT_IDS = [
  ..."a|ab|a!|a!b|a!0000000000000001|a:|a:1|a%|a%21|a\\|a/b|a b|{a}|*|a*|?|[a]".split("|"),
  ..."constructor|__proto__|é|e\u0301|\uffff|\u{10ffff}|\ufeffa|\u0001|\u007f|日本".split("|"),
  "x".repeat(65_535),
  `${"x".repeat(65_534)}y`,
];

const TOPICS = [
  "t",
  "t/",
  "/t",
  "t!",
  "t:1",
  "T",
  "constructor",
  "é/日本",
  "\u{10ffff}",
  "$other/t",
];

/** Declares the promises as tests; `open` gives each of them an empty store of its own. */
export function sessionStorePromises(test: typeof testOf, open: Open): void {
  documentPromises(test, open);
  orderPromises(test, open);
  windowPromises(test, open);
  acknowledgementPromises(test, open);
  incomingPromises(test, open);
  separationPromises(test, open);
  retainedPromises(test, open);
}

function documentPromises(test: typeof testOf, open: Open): void {
  test("a session's document comes back whole, will and subscriptions with all that they carry", async (t) => {
    const opened = await open(t);
    await opened.store.save(FULL_SESSION);
    assert.deepEqual(plain(await opened.store.load("full")), plain(FULL_SESSION));
    const { store } = await opened.reopen();
    assert.deepEqual(plain(await store.load("full")), plain(FULL_SESSION));
    assert.deepEqual(plain(await all(store.sessions())), plain([FULL_SESSION]));
  });

  test("a session's document is replaced whole: what is left out is gone", async (t) => {
    const opened = await open(t);
    await opened.store.save(FULL_SESSION);
    await opened.store.save(session("full"));
    assert.deepEqual(plain(await opened.store.load("full")), plain(session("full")));
    const { store } = await opened.reopen();
    assert.deepEqual(plain(await store.load("full")), plain(session("full")));
    assert.equal(await store.load("other"), undefined);
  });

  test("all sessions are told after a restart, each once", async (t) => {
    const opened = await open(t);
    const ids = Array.from({ length: 300 }, (_, index) => `client-${index}`);
    await Promise.all(ids.map((id) => opened.store.save(session(id))));
    const { store } = await opened.reopen();
    const told = (await all(store.sessions())).map(({ clientId }) => clientId);
    assert.deepEqual(told.sort(), ids.sort());
  });

  test("a removed session leaves nothing behind, also for a later one of its name", async (t) => {
    const opened = await open(t);
    await fill(opened, "a", 1, 20);
    await opened.take(taking("q2", { incoming: { clientId: "a", packetId: 7 } }));
    await opened.store.remove("a");
    assert.equal(await opened.store.load("a"), undefined);
    await opened.store.save(session("a"));
    assert.deepEqual(await emptiness(opened.store, "a"), EMPTY);
    const { store, take } = await opened.reopen();
    assert.deepEqual(await emptiness(store, "a"), EMPTY);
    await take(taking("new", { queues: [target("a")] }));
    assert.deepEqual(texts(await readAll(store.queue("a"))), ["new"]);
  });

  test("what is taken for a session that is gone is kept for nobody", async (t) => {
    const opened = await open(t);
    await opened.store.save(session("a"));
    await opened.store.save(session("b"));
    await opened.store.remove("a");
    const incoming = { clientId: "a", packetId: 7 };
    await opened.take(taking("late", { queues: [target("a"), target("b")], incoming }));
    await opened.store.save(session("a"));
    assert.deepEqual(await emptiness(opened.store, "a"), EMPTY);
    assert.deepEqual(texts(await readAll(opened.store.queue("b"))), ["late"]);
    const { store } = await opened.reopen();
    assert.deepEqual(await emptiness(store, "a"), EMPTY);
  });

  test("removing a session that was never kept is no fault", async (t) => {
    const { store } = await open(t);
    await store.remove("nobody");
    assert.deepEqual(await all(store.sessions()), []);
  });
}

function orderPromises(test: typeof testOf, open: Open): void {
  test("a queue keeps the order of the takings, under numbers without a hole", async (t) => {
    const opened = await open(t);
    await fill(opened, "a", 1, 100);
    const before = await readAll(opened.store.queue("a"));
    assert.deepEqual(texts(before), range(1, 100).map(String));
    const first = before[0]?.number ?? 0;
    assert.ok(first >= 1);
    assert.deepEqual(numbers(before), range(first, first + 99));
    assert.equal(await opened.store.queue("a").newest(), first + 99);
    const { store } = await opened.reopen();
    assert.deepEqual(plain(await readAll(store.queue("a"))), plain(before));
  });

  test("an entry comes back with all that its delivery needs", async (t) => {
    const opened = await open(t);
    await opened.store.save(session("a"));
    const entitlement = { qos: 2, retain: true, subscriptionIds: [1, 268_435_455] } as const;
    const shared = "$share/group/t/+";
    await opened.take({
      message: FULL_MESSAGE,
      queues: [{ clientId: "a", ...entitlement, shared }],
    });
    const expected = [{ ...entitlement, shared, message: FULL_MESSAGE }];
    const read = async (store: SessionStore) => withoutNumbers(await readAll(store.queue("a")));
    assert.deepEqual(plain(await read(opened.store)), plain(expected));
    const { store } = await opened.reopen();
    assert.deepEqual(plain(await read(store)), plain(expected));
  });

  test("one message lies in each queue that it is for, at that session's own QoS", async (t) => {
    const { store, take } = await open(t);
    for (const id of ["a", "b", "c"]) await store.save(session(id));
    await take(taking("m", { queues: [target("a", 1), target("b", 2)] }));
    const qosOf = async (id: string) => (await readAll(store.queue(id))).map(({ qos }) => qos);
    assert.deepEqual([await qosOf("a"), await qosOf("b"), await qosOf("c")], [[1], [2], []]);
  });

  test("after a restart numbers go on behind what is kept, and behind what was sent", async (t) => {
    let opened = await open(t);
    await fill(opened, "a", 1, 3);
    opened = await opened.reopen();
    await opened.take(taking("4", { queues: [target("a")] }));
    const kept = await readAll(opened.store.queue("a"));
    assert.deepEqual(texts(kept), ["1", "2", "3", "4"]);
    const last = kept.at(-1)?.number ?? 0;
    assert.equal(await opened.store.queue("a").newest(), last);
    assert.equal(last, (kept[0]?.number ?? 0) + 3);

    await opened.store.save({ ...session("a"), sentUpTo: last });
    for (const { number } of kept) await opened.store.queue("a").remove(number, true);
    opened = await opened.reopen();
    await opened.take(taking("5", { queues: [target("a")] }));
    const [next] = await readAll(opened.store.queue("a"));
    assert.ok(next && next.number > last, "or it would be taken for one that was sent");
  });
}

function windowPromises(test: typeof testOf, open: Open): void {
  test("reading in windows gives every entry once, before and after a restart", async (t) => {
    const opened = await open(t);
    await fill(opened, "a", 1, 700);
    for await (const { store } of beforeAndAfterRestart(opened)) {
      const queue = store.queue("a");
      for (const countMax of [1, 7, 256, 1_000]) {
        assert.deepEqual(texts(await readAll(queue, countMax)), range(1, 700).map(String));
      }
    }
  });

  test("a window ends at its count and at its bytes, and holds one entry however large", async (t) => {
    const opened = await open(t);
    await opened.store.save(session("a"));
    for (let index = 0; index < 5; index += 1) {
      await opened.take(taking("x".repeat(1_000), { queues: [target("a")] }));
    }
    for await (const { store } of beforeAndAfterRestart(opened)) {
      const queue = store.queue("a");
      const lengthOf = async (count: number, bytes: number) =>
        (await queue.read(0, count, bytes)).length;
      assert.equal(await lengthOf(3, 1_000_000), 3);
      assert.equal(await lengthOf(10, 1_000_000), 5);
      assert.equal(await lengthOf(10, 2_500), 2);
      assert.equal(await lengthOf(10, 1), 1);
      assert.deepEqual(await queue.read((await lastOf(queue)) ?? 0, 10, 1_000), []);
    }
  });
}

function acknowledgementPromises(test: typeof testOf, open: Open): void {
  test("a released entry keeps its place and its number, not its message", async (t) => {
    const opened = await open(t);
    await fill(opened, "a", 1, 3, 2);
    const before = await readAll(opened.store.queue("a"));
    const number = before[1]?.number ?? 0;
    await opened.store.queue("a").release(number);
    for await (const { store } of beforeAndAfterRestart(opened)) {
      const entries = await readAll(store.queue("a"));
      assert.deepEqual(numbers(entries), numbers(before));
      assert.deepEqual(texts(entries), ["1", "released", "3"]);
      assert.equal(entries[1]?.qos, 2);
    }
  });

  test("a removed entry is gone, in whatever order they go, and over a restart", async (t) => {
    const opened = await open(t);
    await fill(opened, "a", 1, 6);
    const entries = numbers(await readAll(opened.store.queue("a")));
    const queue = opened.store.queue("a");
    for (const index of [4, 0, 2, 2]) await queue.remove(entries[index] ?? 0, index === 2);
    assert.deepEqual(texts(await readAll(queue)), ["2", "4", "6"]);
    assert.equal((await queue.size()).count, 3);
    const { store } = await opened.reopen();
    assert.deepEqual(texts(await readAll(store.queue("a"))), ["2", "4", "6"]);
    assert.equal((await store.queue("a").size()).count, 3);
  });

  test("an entry that was removed is not brought back by its release", async (t) => {
    const opened = await open(t);
    await fill(opened, "a", 1, 2, 2);
    const queue = opened.store.queue("a");
    const [first = 0] = numbers(await readAll(queue));
    await queue.remove(first, false);
    await queue.release(first);
    for await (const { store } of beforeAndAfterRestart(opened)) {
      assert.deepEqual(texts(await readAll(store.queue("a"))), ["2"]);
    }
  });

  test("a released entry is removed as any other", async (t) => {
    const opened = await open(t);
    await fill(opened, "a", 1, 2, 2);
    const queue = opened.store.queue("a");
    const [first = 0] = numbers(await readAll(queue));
    await queue.release(first);
    await queue.remove(first, true);
    for await (const { store } of beforeAndAfterRestart(opened)) {
      assert.deepEqual(texts(await readAll(store.queue("a"))), ["2"]);
    }
  });

  test("the size counts what waits, and nothing when all is removed", async (t) => {
    const opened = await open(t);
    await fill(opened, "a", 1, 10);
    const before = await opened.store.queue("a").size();
    assert.equal(before.count, 10);
    assert.ok(before.bytes > 10);
    const { store } = await opened.reopen();
    const queue = store.queue("a");
    assert.deepEqual(await queue.size(), before);
    const [first = 0, ...rest] = numbers(await readAll(queue));
    await queue.remove(first, false);
    const less = await queue.size();
    assert.equal(less.count, 9);
    assert.ok(less.bytes < before.bytes);
    for (const number of rest) await queue.remove(number, false);
    assert.deepEqual(await queue.size(), { count: 0, bytes: 0 });
  });
}

function incomingPromises(test: typeof testOf, open: Open): void {
  test("a QoS 2 packet id that was taken is known until its release, over restarts", async (t) => {
    const opened = await open(t);
    for (const id of ["a", "b"]) await opened.store.save(session(id));
    const publish = (clientId: string, packetId: number) =>
      opened.take(taking("m", { incoming: { clientId, packetId } }));
    await Promise.all([publish("a", 65_535), publish("a", 1), publish("a", 10), publish("b", 2)]);
    await opened.store.queue("a").removeIncoming(10);
    await opened.store.queue("b").removeIncoming(1);
    for await (const { store } of beforeAndAfterRestart(opened)) {
      assert.deepEqual(await incomingOf(store, "a"), [1, 65_535]);
      assert.deepEqual(await incomingOf(store, "b"), [2]);
    }
  });

  test("a QoS 2 packet id can be used again after its release", async (t) => {
    const opened = await open(t);
    await opened.store.save(session("a"));
    const incoming = { clientId: "a", packetId: 5 };
    await opened.take(taking("one", { queues: [target("a", 2)], incoming }));
    await opened.store.queue("a").removeIncoming(5);
    await opened.take(taking("two", { queues: [target("a", 2)], incoming }));
    for await (const { store } of beforeAndAfterRestart(opened)) {
      assert.deepEqual(await incomingOf(store, "a"), [5]);
      assert.deepEqual(texts(await readAll(store.queue("a"))), ["one", "two"]);
    }
  });
}

function separationPromises(test: typeof testOf, open: Open): void {
  test("no client id reaches what is kept for another", async (t) => {
    const opened = await open(t);
    const { store, take } = opened;
    await Promise.all(CLIENT_IDS.map((id) => store.save(session(id))));
    for (const [index, clientId] of CLIENT_IDS.entries()) {
      const incoming = { clientId, packetId: index + 1 };
      await take(taking(`for ${index}`, { queues: [target(clientId)], incoming }));
    }
    await assertSeparate(store, CLIENT_IDS);
    const after = await opened.reopen();
    await assertSeparate(after.store, CLIENT_IDS);
  });

  test("removing one client's session leaves those of similar names alone", async (t) => {
    const opened = await open(t);
    const ids = CLIENT_IDS.slice(0, -2);
    await Promise.all(ids.map((id) => opened.store.save(session(id))));
    for (const [index, clientId] of ids.entries()) {
      const incoming = { clientId, packetId: index + 1 };
      await opened.take(taking(`for ${index}`, { queues: [target(clientId)], incoming }));
    }
    const isKept = (index: number) => index % 2 === 1;
    for (const [index, id] of ids.entries()) if (!isKept(index)) await opened.store.remove(id);
    const { store } = await opened.reopen();
    await assertSeparate(store, ids, isKept);
  });
}

/** The session with this index has the message `for <index>` and the packet id behind the index. */
async function assertSeparate(
  store: SessionStore,
  ids: readonly string[],
  isKept: (index: number) => boolean = () => true,
): Promise<void> {
  for (const [index, id] of ids.entries()) {
    const shown = JSON.stringify(id.slice(0, 20));
    const [text, packetIds] = isKept(index) ? [[`for ${index}`], [index + 1]] : [[], []];
    assert.equal((await store.load(id))?.clientId, isKept(index) ? id : undefined, shown);
    assert.deepEqual(texts(await readAll(store.queue(id))), text, shown);
    assert.deepEqual(await incomingOf(store, id), packetIds, shown);
  }
}

function retainedPromises(test: typeof testOf, open: Open): void {
  test("a retained message is kept whole, the last one of each topic", async (t) => {
    const opened = await open(t);
    for (const topic of TOPICS) {
      await opened.take(retaining(topic, "old"));
      await opened.take(retaining(topic, `last of ${topic}`));
    }
    await opened.take({ message: FULL_MESSAGE, queues: [] });
    const expected = [...TOPICS.map((topic) => retaining(topic, `last of ${topic}`).message)];
    for await (const { store } of beforeAndAfterRestart(opened)) {
      const retained = byTopic(await all(store.retained()));
      assert.deepEqual(plain(retained), plain(byTopic([...expected, FULL_MESSAGE])));
    }
  });

  test("an empty payload clears what is retained, and is not retained itself [MQTT-3.3.1-6]", async (t) => {
    const opened = await open(t);
    await opened.take(retaining("t", "m"));
    await opened.take(retaining("u", "m"));
    await opened.take(retaining("t", ""));
    await opened.take(retaining("never", ""));
    for await (const { store } of beforeAndAfterRestart(opened)) {
      assert.deepEqual(
        (await all(store.retained())).map(({ topic }) => topic),
        ["u"],
      );
    }
  });

  test("what is published without RETAIN leaves the retained message alone [MQTT-3.3.1-12]", async (t) => {
    const { store, take } = await open(t);
    await store.save(session("a"));
    await take(retaining("t", "kept"));
    await take(taking("", { queues: [target("a")] }));
    await take(taking("m", { queues: [target("a")] }));
    assert.deepEqual((await all(store.retained())).map(payloadText), ["kept"]);
  });

  test("one taking both retains and queues", async (t) => {
    const opened = await open(t);
    await opened.store.save(session("a"));
    await opened.take({ ...retaining("t", "m"), queues: [target("a")] });
    for await (const { store } of beforeAndAfterRestart(opened)) {
      assert.deepEqual((await all(store.retained())).map(payloadText), ["m"]);
      assert.deepEqual(texts(await readAll(store.queue("a"))), ["m"]);
    }
  });

  test("a broker's own statistics are not stored: the next one has its own", async (t) => {
    const opened = await open(t);
    await opened.take(retaining("$SYS/broker/uptime", "5 seconds"));
    for await (const { store } of beforeAndAfterRestart(opened)) {
      assert.deepEqual(await all(store.retained()), []);
    }
  });
}

const FULL_MESSAGE: Message = {
  topic: "full/é",
  payload: new Uint8Array([0, 1, 0xff, 0xfe]),
  qos: 2,
  retain: true,
  takenAtMs: 1_700_000_000_000,
  expiresAtMs: 4_000_000_000_000,
  publisher: "publisher-é",
  // Content Type "x" and User Property "a": "b".
  properties: new Uint8Array([0x03, 0, 1, 0x78, 0x26, 0, 1, 0x61, 0, 1, 0x62]),
};

const FULL_SESSION: StoredSession = {
  clientId: "full",
  user: 'us"er-é\u{1f600}',
  certificateName: "certificate",
  expirySeconds: NEVER_EXPIRES_SECONDS,
  subscriptions: [
    {
      filter: "a/+/é/#",
      qos: 2,
      noLocal: true,
      retainAsPublished: true,
      retainHandling: 2,
      id: 268_435_455,
    },
    {
      filter: "$share/g/t",
      qos: 0,
      noLocal: false,
      retainAsPublished: false,
      retainHandling: 0,
      id: 1,
    },
    { filter: "t", qos: 1, noLocal: false, retainAsPublished: true, retainHandling: 1 },
  ],
  will: { message: FULL_MESSAGE, delaySeconds: 4_294_967_295 },
  connectedTo: "broker-1",
  awaySinceMs: 1_700_000_000_000.25,
  sentUpTo: 65_537,
};

/** A document with nothing in it that may be left out. */
function session(clientId: string): StoredSession {
  return { clientId, expirySeconds: 60, subscriptions: [], sentUpTo: 0 };
}

function target(clientId: string, qos: 1 | 2 = 1): QueueTarget {
  return { clientId, qos, retain: false, subscriptionIds: [] };
}

function taking(text: string, rest: Partial<Taking>): Taking {
  const payload = new TextEncoder().encode(text);
  return {
    message: { topic: "t", payload, qos: 2, retain: false, takenAtMs: 1_000 },
    queues: [],
    ...rest,
  };
}

function retaining(topic: string, text: string): Taking {
  const { message } = taking(text, {});
  return { message: { ...message, topic, retain: true }, queues: [] };
}

async function* beforeAndAfterRestart(opened: OpenSessionStore): AsyncIterable<OpenSessionStore> {
  yield opened;
  yield await opened.reopen();
}

/** Saves the session and takes the messages `from` to `to` for it, without waiting in between. */
async function fill(
  { store, take }: OpenSessionStore,
  clientId: string,
  from: number,
  to: number,
  qos: 1 | 2 = 1,
): Promise<void> {
  await store.save(session(clientId));
  const queues = [target(clientId, qos)];
  await Promise.all(range(from, to).map((number) => take(taking(String(number), { queues }))));
}

async function readAll(queue: SessionQueue, countMax = 100): Promise<QueuedMessage[]> {
  const entries: QueuedMessage[] = [];
  for (;;) {
    const window = await queue.read(entries.at(-1)?.number ?? 0, countMax, 1_000_000);
    if (window.length === 0) return entries;
    assert.ok(window.length <= countMax);
    entries.push(...window);
  }
}

async function lastOf(queue: SessionQueue): Promise<number | undefined> {
  return (await readAll(queue)).at(-1)?.number;
}

const EMPTY = { entries: [], incoming: [], size: { count: 0, bytes: 0 } };

async function emptiness(store: SessionStore, clientId: string): Promise<typeof EMPTY> {
  const queue = store.queue(clientId);
  const entries = (await readAll(queue)) as never[];
  const incoming = (await queue.incoming()) as never[];
  return { entries, incoming, size: await queue.size() };
}

async function incomingOf(store: SessionStore, clientId: string): Promise<number[]> {
  return (await store.queue(clientId).incoming()).sort((a, b) => a - b);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

function numbers(entries: readonly QueuedMessage[]): number[] {
  return entries.map(({ number }) => number);
}

function texts(entries: readonly QueuedMessage[]): string[] {
  return entries.map(({ message }) => (message ? payloadText(message) : "released"));
}

function payloadText({ payload }: Message): string {
  return new TextDecoder().decode(payload);
}

function withoutNumbers(entries: readonly QueuedMessage[]): object[] {
  return entries.map(({ number: _, ...rest }) => rest);
}

function byTopic(messages: readonly Message[]): Message[] {
  return messages.toSorted((a, b) => (a.topic < b.topic ? -1 : 1));
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** The same value with its bytes as numbers: a Buffer is as good as a Uint8Array. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { bytes: [...value] };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, of]) => [key, plain(of)]));
}

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { QueuedMessage, SessionStore, Taking } from "#contract/session";
import type { ClusterSessions, ClusterSessionsOptions } from "../../../broker/cluster/sessions.ts";
import { startRedisProxy } from "../../support/redis-proxy.ts";
import { type RedisServer, startRedis } from "../../support/redis-server.ts";
import {
  type OpenSessionStore,
  sessionStorePromises,
} from "../../support/session-store-promises.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openCluster } from "./open-cluster.ts";

/** With `everysec`, Redis may answer before its file has the write: a kill would undo it. */
const startDurableRedis = (t: TestContext) => startRedis(t, "--appendfsync", "always");

/** A restart is the broker's and Redis' own, which is killed. */
async function openStore(t: TestContext, redis: RedisServer): Promise<OpenSessionStore> {
  const cluster = await openCluster(t, redis.url);
  return {
    store: cluster.sessions,
    take: async (taking) => {
      await cluster.sessions.take(taking);
    },
    async reopen() {
      cluster.close();
      await redis.kill();
      await redis.start();
      return openStore(t, redis);
    },
  };
}

sessionStorePromises(test, async (t) => openStore(t, await startDurableRedis(t)));

test("what nobody must keep costs no round trip", async (t) => {
  const { sessions } = await openCluster(t, (await startRedis(t)).url);
  assert.equal(sessions.take(taking("m", [])), undefined);
  const taken = sessions.take(taking("m", ["a"]));
  assert.notEqual(taken, undefined);
  await taken;
});

test("a message for one more session does not touch what is retained since", async (t) => {
  const { sessions } = await openCluster(t, (await startRedis(t)).url);
  await sessions.save(session("a"));
  const { message, queues } = taking("old", ["a"], true);
  await sessions.take(taking("new", [], true));
  assert.equal(sessions.takeAlso(message, []), undefined);
  await sessions.takeAlso(message, queues);
  assert.deepEqual(await kept(sessions), { queue: ["old"], incoming: [], retained: ["new"] });
});

test("a queue at its limit of messages refuses the new one, counted; others get it", async (t) => {
  const { sessions, dropped } = await openLimited(t, { queueMessagesMax: 3 });
  for (const id of ["full", "free"]) await sessions.save(session(id));
  for (const text of ["1", "2", "3"]) await sessions.take(taking(text, ["full"]));
  await sessions.take(taking("4", ["full", "free"]));
  await sessions.take(taking("5", ["full"]));
  assert.deepEqual(dropped, ["full", "full"]);
  const queue = sessions.queue("full");
  assert.deepEqual(texts(await queue.read(0, 10, 1_000)), ["1", "2", "3"]);
  assert.deepEqual(texts(await sessions.queue("free").read(0, 10, 1_000)), ["4"]);

  await queue.release(1);
  await sessions.take(taking("6", ["full"]));
  assert.deepEqual(dropped, ["full", "full", "full"], "a released one still has its place");
  await queue.remove(1, true);
  await sessions.take(taking("7", ["full"]));
  assert.deepEqual(texts(await queue.read(0, 10, 1_000)), ["2", "3", "7"]);
  assert.deepEqual(numbers(await queue.read(0, 10, 1_000)), [2, 3, 4], "no number was lost");
});

test("a queue at its limit of bytes refuses what does not fit, and takes what does", async (t) => {
  const { sessions, dropped } = await openLimited(t, { queueBytesMax: 1_100 });
  await sessions.save(session("a"));
  await sessions.take(taking("x".repeat(1_000), ["a"]));
  await sessions.take(taking("y".repeat(1_000), ["a"]));
  await sessions.take(taking("z", ["a"]));
  assert.deepEqual(dropped, ["a"]);
  const queue = sessions.queue("a");
  assert.deepEqual(texts(await queue.read(0, 10, 10_000)), ["x".repeat(1_000), "z"]);
  await queue.release(1);
  assert.ok((await queue.size()).bytes < 100, "the client has the message: its bytes are free");
  await sessions.take(taking("y".repeat(1_000), ["a"]));
  assert.deepEqual(dropped, ["a"]);
});

test("a message for a session that another broker ended is told, and kept for nobody", async (t) => {
  const missing: string[] = [];
  const redis = await startRedis(t);
  const options = { missing: (id: string) => missing.push(id) };
  const { sessions } = await openCluster(t, redis.url, options);
  const other = await openCluster(t, redis.url);
  for (const id of ["gone", "kept"]) await sessions.save(session(id));
  await sessions.take(taking("early", ["gone"]));
  await other.sessions.remove("gone");
  await sessions.take(taking("late", ["gone", "kept"]));
  assert.deepEqual(missing, ["gone"]);
  await other.sessions.remove("kept");
  assert.deepEqual(await redis.client.keys("*"), []);
});

test("a taking is kept whole or not at all", async (t) => {
  const redis = await startRedis(t);
  const { sessions } = await openCluster(t, redis.url);
  await sessions.save(session("a"));
  await sessions.save(session("publisher"));
  const whole: Taking = {
    ...taking("m", ["a"], true),
    incoming: { clientId: "publisher", packetId: 7 },
  };
  const limit = (bytes: number) => redis.client.config("SET", "maxmemory", bytes);
  await limit(1);
  await assert.rejects(async () => sessions.take(whole), { code: "CLOUD_UNREACHABLE" });
  await limit(0);
  assert.deepEqual(await kept(sessions), { queue: [], incoming: [], retained: [] });
  await sessions.take(whole);
  assert.deepEqual(await kept(sessions), { queue: ["m"], incoming: [7], retained: ["m"] });
});

test("a QoS 2 message that comes again, also to another broker, is queued once", async (t) => {
  const redis = await startRedis(t);
  const [one, other] = [await openCluster(t, redis.url), await openCluster(t, redis.url)];
  await one.sessions.save(session("a"));
  await one.sessions.save(session("publisher"));
  const incoming = { clientId: "publisher", packetId: 7 };
  await one.sessions.take({ ...taking("m", ["a"]), incoming });
  await other.sessions.take({ ...taking("m", ["a"]), incoming });
  assert.deepEqual((await kept(one.sessions)).queue, ["m"]);
});

test("without Redis nothing is acknowledged, and what is repeated comes once", async (t) => {
  const redis = await startRedis(t);
  const proxy = await startRedisProxy(t, redis.port);
  const cluster = await openCluster(t, proxy.url);
  const { sessions } = cluster;
  await sessions.save(session("a"));
  await sessions.save(session("publisher"));
  const publish = async (packetId: number) =>
    sessions.take({
      ...taking(String(packetId), ["a"]),
      incoming: { clientId: "publisher", packetId },
    });
  const packetIds = Array.from({ length: 20 }, (_, index) => index + 1);

  proxy.loseAnswers();
  const outcomes = await Promise.allSettled(packetIds.map(publish));
  for (const outcome of outcomes) {
    assert.equal(outcome.status === "rejected" && outcome.reason.code, "CLOUD_UNREACHABLE");
  }
  await assert.rejects(publish(21), { code: "CLOUD_UNREACHABLE" });
  await assert.rejects(sessions.queue("a").read(0, 1, 1), { code: "CLOUD_UNREACHABLE" });
  await proxy.serveAgain();
  await waitFor("the store to be back", () => cluster.unavailable() === undefined);
  const carriedOut = (await kept(sessions)).queue;
  assert.deepEqual(carriedOut, packetIds.map(String), "Redis had done it all: once");
  for (const packetId of packetIds) await publish(packetId);
  assert.deepEqual((await kept(sessions)).queue, packetIds.map(String));
});

test("what may be done twice waits for a connection that breaks, and is done", async (t) => {
  const redis = await startRedis(t);
  const cluster = await openCluster(t, redis.url);
  const { sessions } = cluster;
  await sessions.save(session("a"));
  for (const text of ["1", "2"]) await sessions.take(taking(text, ["a"]));
  const queue = sessions.queue("a");
  const cut = () => redis.client.client("KILL", "TYPE", "normal", "SKIPME", "yes");
  for (let cuts = 0; cuts < 5; cuts += 1) {
    const { message, queues } = taking("3", ["a"]);
    const atQos1 = queues.map((target) => ({ ...target, qos: 1 as const }));
    const saved = session(`b${cuts}`);
    const underWay = [queue.read(0, 10, 1_000_000), sessions.save(saved), queue.remove(1, false)];
    await cut();
    const [read] = await Promise.all(underWay);
    assert.ok(read && read.length >= 1);
    await waitFor("the cluster to be back", () => cluster.unavailable() === undefined);
    await cut();
    await waitFor("the loss to be seen", () => cluster.unavailable() !== undefined);
    // While there is no connection at all.
    await Promise.all([sessions.takeAlso(message, atQos1), sessions.load("a")]);
    await waitFor("the cluster to be back", () => cluster.unavailable() === undefined);
  }
  const payloads = (await kept(sessions)).queue;
  assert.deepEqual([...new Set(payloads)], ["2", "3"]);
  assert.ok(payloads.length >= 6);
  for (let cuts = 0; cuts < 5; cuts += 1) assert.ok(await sessions.load(`b${cuts}`));
});

test("a broker that a client has left does not write over what it is by now, nor ends it", async (t) => {
  const { sessions } = await openCluster(t, (await startRedis(t)).url);
  await sessions.save({ ...session("a"), connectedTo: "old" });
  await sessions.save({ ...session("a"), connectedTo: "new", sentUpTo: 7 });
  const moved = { code: "SESSION_MOVED" };
  await assert.rejects(sessions.save(session("a"), "old"), moved);
  await sessions.remove("a", "old");
  const stored = await sessions.load("a");
  assert.deepEqual([stored?.connectedTo, stored?.sentUpTo], ["new", 7]);

  await sessions.save(session("a"), "new");
  assert.equal((await sessions.load("a"))?.connectedTo, undefined, "its own may say it is away");
  await sessions.save(session("a"), "old");
  await sessions.remove("a", "old");
  assert.equal(await sessions.load("a"), undefined, "one that is away is anybody's");
});

test("what was acknowledged is there after Redis was killed, in order and once", async (t) => {
  const redis = await startDurableRedis(t);
  const cluster = await openCluster(t, redis.url);
  const { sessions } = cluster;
  await sessions.save(session("a"));
  const acknowledged: string[] = [];
  let isOver = false;
  const publishing = async (publisher: number) => {
    for (let index = 0; !isOver; index += 1) {
      const text = `${publisher}:${String(index).padStart(6, "0")}`;
      await sessions.take(taking(text, ["a"]));
      acknowledged.push(text);
    }
  };
  const publishers = [1, 2, 3].map((publisher) => publishing(publisher).catch((fault) => fault));
  await waitFor("some messages", () => acknowledged.length > 300);
  await redis.kill();
  isOver = true;
  for (const fault of await Promise.all(publishers)) {
    assert.equal(fault?.code, "CLOUD_UNREACHABLE");
  }
  await redis.start();
  await waitFor("the store to be back", () => cluster.unavailable() === undefined, 10_000);
  await sessions.take(taking("4:last", ["a"]));
  const held = texts(await sessions.queue("a").read(0, 1_000_000, 1_000_000_000));
  assert.equal(new Set(held).size, held.length, "once");
  assert.deepEqual(
    acknowledged.filter((text) => !held.includes(text)),
    [],
  );
  for (const publisher of ["1", "2", "3"]) {
    const own = held.filter((text) => text.startsWith(publisher));
    assert.deepEqual(own, own.toSorted(), "in order");
  }
});

test("numbers go on behind an emptied queue, over a rewrite of Redis' file and a kill", async (t) => {
  const redis = await startDurableRedis(t);
  const { store, take, reopen } = await openStore(t, redis);
  await store.save(session("a"));
  for (const text of ["1", "2"]) await take(taking(text, ["a"]));
  for (const number of [1, 2]) await store.queue("a").remove(number, true);
  await redis.client.bgrewriteaof();
  await waitFor("the rewrite", async () => {
    const state = await redis.client.info("persistence");
    return /aof_rewrite_in_progress:0/.test(state) && /aof_rewrite_scheduled:0/.test(state);
  });
  const after = await reopen();
  await after.take(taking("3", ["a"]));
  assert.deepEqual(numbers(await after.store.queue("a").read(0, 10, 1_000)), [3]);
});

test("scripts that somebody flushed are loaded again; until then nothing is acknowledged", async (t) => {
  const redis = await startRedis(t);
  const { sessions } = await openCluster(t, redis.url);
  await sessions.save(session("a"));
  await redis.client.script("FLUSH");
  const texts = ["1", "2", "3"];
  const outcomes = await Promise.allSettled(
    texts.map(async (text) => sessions.take(taking(text, ["a"]))),
  );
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ["rejected", "rejected", "rejected"],
  );
  await Promise.all(texts.map(async (text) => sessions.take(taking(text, ["a"]))));
  assert.deepEqual((await kept(sessions)).queue, texts);
});

test("2,000 queued are all read, in windows, whatever was acknowledged in between", async (t) => {
  const { sessions } = await openCluster(t, (await startRedis(t)).url);
  await sessions.save(session("a"));
  const all = Array.from({ length: 2_000 }, (_, index) => index + 1);
  await Promise.all(all.map(async (number) => sessions.take(taking(String(number), ["a"]))));
  const queue = sessions.queue("a");
  const isRemoved = (number: number) => number % 3 === 0 || (number > 500 && number < 900);
  const isReleased = (number: number) => number % 5 === 0 || number > 1_900;
  for (const number of all.filter(isReleased)) await queue.release(number);
  for (const number of all.filter(isRemoved)) await queue.remove(number, false);
  const expected = all.filter((number) => !isRemoved(number));
  for (const [countMax, bytesMax] of [
    [50, 1_000_000],
    [1, 1_000_000],
    [1_000, 100],
    [10_000, 1_000_000],
  ] as const) {
    const read = await readAll(queue, countMax, bytesMax);
    assert.deepEqual(numbers(read), expected, `${countMax} messages, ${bytesMax} bytes`);
    assert.deepEqual(
      texts(read),
      expected.map((number) => (isReleased(number) ? "released" : String(number))),
    );
  }
  assert.equal((await queue.size()).count, expected.length);
});

test("a removal and a window cost the same in a long queue as in a short one", async (t) => {
  const redis = await startRedis(t);
  const { sessions } = await openCluster(t, redis.url);
  const costIn = async (clientId: string, length: number) => {
    await sessions.save(session(clientId));
    await Promise.all(Array.from({ length }, async () => sessions.take(taking("m", [clientId]))));
    const queue = sessions.queue(clientId);
    return measure(redis, async () => {
      for (let index = 0; index < 100; index += 1) {
        const number = Math.ceil((length * (index + 1)) / 100);
        assert.equal((await queue.read(number - 1, 1, 1_000))[0]?.number, number);
        await queue.release(number);
        await queue.remove(number, false);
        await queue.size();
      }
    });
  };
  const short = await costIn("short", 100);
  const long = await costIn("long", 10_000);
  assert.deepEqual(long.calls, short.calls);
  // A hundred times the entries; the margin is for a machine that is busy with something else.
  const microsMax = 10 * short.micros + 50_000;
  assert.ok(long.micros < microsMax, `${long.micros} µs against ${short.micros} µs`);
});

test("all of many retained messages and sessions are told, in bounded batches", async (t) => {
  const redis = await startRedis(t);
  const { sessions } = await openCluster(t, redis.url);
  const names = Array.from({ length: 2_000 }, (_, index) => `name-${index}`).toSorted();
  await Promise.all(names.map((name) => sessions.save(session(name))));
  await Promise.all(
    names.map(async (topic) => {
      const { message } = taking("m", [], true);
      await sessions.take({ message: { ...message, topic }, queues: [] });
    }),
  );
  const told = { sessions: new Set<string>(), topics: new Set<string>() };
  const { calls } = await measure(redis, async () => {
    for await (const { clientId } of sessions.sessions()) told.sessions.add(clientId);
    for await (const { topic } of sessions.retained()) told.topics.add(topic);
  });
  assert.deepEqual([...told.sessions].toSorted(), names);
  assert.deepEqual([...told.topics].toSorted(), names);
  assert.ok((calls.get("sscan") ?? 0) > 10 && (calls.get("hscan") ?? 0) > 10, "in batches");
});

function session(clientId: string) {
  return { clientId, expirySeconds: 60, subscriptions: [], sentUpTo: 0 };
}

function taking(text: string, ids: readonly string[], retain = false): Taking {
  const payload = new TextEncoder().encode(text);
  return {
    message: { topic: "t", payload, qos: 2, retain, takenAtMs: 1_000 },
    queues: ids.map((clientId) => ({ clientId, qos: 2, retain: false, subscriptionIds: [] })),
  };
}

/** A cluster with limits, and the ids that were told to `dropped`, once for each message. */
async function openLimited(
  t: TestContext,
  limits: Partial<ClusterSessionsOptions>,
): Promise<{ sessions: ClusterSessions; dropped: string[] }> {
  const dropped: string[] = [];
  const told = (id: string, count: number) => dropped.push(...Array<string>(count).fill(id));
  const { sessions } = await openCluster(t, (await startRedis(t)).url, {
    ...limits,
    dropped: told,
  });
  return { sessions, dropped };
}

/** What is kept of the messages for session `a`, of the ids of `publisher`, and retained. */
async function kept(sessions: SessionStore) {
  const retained: string[] = [];
  for await (const { payload } of sessions.retained())
    retained.push(Buffer.from(payload).toString());
  return {
    queue: texts(await sessions.queue("a").read(0, 1_000, 1_000_000)),
    incoming: await sessions.queue("publisher").incoming(),
    retained,
  };
}

async function readAll(
  queue: ReturnType<SessionStore["queue"]>,
  countMax: number,
  bytesMax: number,
): Promise<QueuedMessage[]> {
  const entries: QueuedMessage[] = [];
  for (;;) {
    const window = await queue.read(entries.at(-1)?.number ?? 0, countMax, bytesMax);
    if (window.length === 0) return entries;
    entries.push(...window);
  }
}

function texts(entries: readonly QueuedMessage[]): string[] {
  return entries.map(({ message }) =>
    message ? Buffer.from(message.payload).toString() : "released",
  );
}

function numbers(entries: readonly QueuedMessage[]): number[] {
  return entries.map(({ number }) => number);
}

/** What Redis itself counted meanwhile: calls by command, and the time of all scripts. */
async function measure(
  redis: RedisServer,
  run: () => Promise<void>,
): Promise<{ calls: Map<string, number>; micros: number }> {
  await redis.client.config("RESETSTAT");
  await run();
  const lines = (await redis.client.info("commandstats")).matchAll(
    /cmdstat_([^:|]+):calls=(\d+),usec=(\d+)/g,
  );
  const calls = new Map<string, number>();
  let micros = 0;
  for (const [, name = "", count, usec] of lines) {
    // The bus waits in XREAD, whatever else goes on.
    if (["config", "info", "xread"].includes(name)) continue;
    calls.set(name, Number(count));
    if (name === "evalsha") micros = Number(usec);
  }
  return { calls, micros };
}

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { QueuedMessage, QueueTarget, Taken, Taking } from "#contract/session";
import type { ClusterSessions, ClusterSessionsOptions } from "../../../broker/cluster/sessions.ts";
import { Random } from "../../../scripts/ordeal/random.ts";
import { type RedisServer, startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openCluster } from "./open-cluster.ts";

/** The least number of script calls that the limits of a batch allow for `count` messages. */
const batchesOf = (count: number) => Math.ceil(count / 256);

test("messages of one turn share few steps, and keep their order in every queue", async (t) => {
  const { redis, sessions } = await open(t, ["a", "b"]);
  const all = texts(1_000);
  const calls = await scriptCalls(redis, async () => {
    await taken(
      sessions,
      all.map((text) => to(text, "a")),
    );
    await taken(
      sessions,
      all.map((text) => to(text, "b", "a")),
    );
  });
  assert.equal(calls, batchesOf(1_000) + batchesOf(2_000));
  assert.deepEqual(await queued(sessions, "a"), [...all, ...all]);
  assert.deepEqual(await queued(sessions, "b"), all);
  const entries = await sessions.queue("a").read(0, 10_000, 10_000_000);
  assert.deepEqual(
    entries.map(({ number }) => number),
    entries.map((_, index) => index + 1),
  );
});

test("what comes while a batch is under way is the next one", async (t) => {
  const { redis, sessions } = await open(t, ["a"]);
  const all = texts(200);
  const calls = await scriptCalls(redis, async () => {
    const takings: Promise<Taken>[] = [];
    for (const text of all) {
      takings.push(take(sessions, to(text, "a")));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(takings);
  });
  assert.ok(calls < 200, `${calls} calls`);
  assert.deepEqual(await queued(sessions, "a"), all);
});

test("large messages make small batches", async (t) => {
  const { redis, sessions } = await open(t, ["a"]);
  const large = texts(8).map((text) => text.padEnd(100_000));
  const calls = await scriptCalls(redis, () =>
    taken(
      sessions,
      large.map((text) => to(text, "a")),
    ),
  );
  assert.equal(calls, 4, "two of them fit into 256 KiB");
  const huge = "x".repeat(1_000_000);
  await taken(sessions, [to(huge, "a")]);
  assert.deepEqual(await queued(sessions, "a"), [...large, huge]);
});

test("each message of a batch has its own outcome", async (t) => {
  const { sessions, dropped, missing } = await open(t, ["a", "full", "here"], {
    queueMessagesMax: 2,
  });
  await sessions.save({ ...session("gone"), connectedTo: "other broker" });
  await sessions.save({ ...session("here"), connectedTo: "this broker" });
  await taken(sessions, [to("1", "full"), to("2", "full")]);
  const from = (clientId: string, packetId: number) => ({
    incoming: { clientId, packetId, broker: "this broker" },
  });
  const outcomes = await Promise.allSettled([
    take(sessions, { ...to("one", "a"), ...from("here", 7) }),
    take(sessions, { ...to("one", "a"), ...from("here", 7) }),
    take(sessions, { ...retained("moved", "a"), ...from("gone", 7) }),
    take(sessions, to("over", "full", "nobody", "a")),
    take(sessions, { ...retained("two", "full"), ...from("here", 8) }),
    take(sessions, { ...retained("again", "a"), ...from("here", 8) }),
  ]);
  assert.deepEqual(
    outcomes.map((it) => (it.status === "fulfilled" ? it.value : it.reason.code)),
    ["taken", "repeat", "SESSION_MOVED", "taken", "taken", "repeat"],
  );
  assert.deepEqual(dropped, ["full", "full"]);
  assert.deepEqual(missing, ["nobody"]);
  assert.deepEqual(await queued(sessions, "a"), ["one", "over"]);
  assert.deepEqual(await queued(sessions, "full"), ["1", "2"]);
  assert.deepEqual((await sessions.queue("here").incoming()).toSorted(), [7, 8]);
  assert.deepEqual(await retainedTexts(sessions), ["two"]);
});

test("in a batch of many kinds each message keeps its own queues and form", async (t) => {
  const { sessions } = await open(t, ["a", "b", "publisher"]);
  const random = new Random(11);
  const packetIds: number[] = [];
  const ids: readonly (readonly number[])[] = [[], [1], [2, 3]];
  // The same objects again and again, as routing has them.
  const targets: QueueTarget[] = ["a", "b"].flatMap((clientId) =>
    ([1, 2] as const).flatMap((qos) =>
      ids.flatMap((subscriptionIds) => {
        const target = { clientId, qos, retain: qos === 2, subscriptionIds };
        return [target, { ...target, shared: "$share/g/t" }];
      }),
    ),
  );
  const all: Taking[] = [];
  const expected = new Map<string, [string, QueueTarget][]>(["a", "b"].map((id) => [id, []]));
  let queues: QueueTarget[] = [];
  for (const text of texts(2_000)) {
    // Runs of those that are alike, and now and then a retained one between them.
    if (queues.length === 0 || random.once(3)) queues = targets.filter(() => random.once(16));
    const { message } = random.once(5) ? retained(text) : to(text);
    if (queues.length === 0 && !message.retain) continue;
    const packetId = Number(text);
    const incoming = random.once(4) ? { incoming: { clientId: "publisher", packetId } } : {};
    if (incoming.incoming) packetIds.push(packetId);
    all.push({ message, queues: [...queues], ...incoming });
    for (const target of queues) expected.get(target.clientId)?.push([text, target]);
  }
  await taken(sessions, all);
  for (const [clientId, entries] of expected) {
    assert.deepEqual(
      (await entriesOf(sessions, clientId)).map(({ message, number: _, ...form }) => [
        Buffer.from(message?.payload ?? "").toString(),
        { clientId, ...form },
      ]),
      entries,
    );
  }
  const incoming = await sessions.queue("publisher").incoming();
  assert.deepEqual(
    incoming.toSorted((one, other) => one - other),
    packetIds,
  );
  const last = all.findLast(({ message }) => message.retain);
  assert.deepEqual(await retainedTexts(sessions), [
    Buffer.from(last?.message.payload ?? "").toString(),
  ]);
});

test("a retained message of a batch is its topic's last one, cleared or kept", async (t) => {
  const { sessions } = await open(t, []);
  await taken(
    sessions,
    ["1", "", "2"].map((text) => retained(text)),
  );
  assert.deepEqual(await retainedTexts(sessions), ["2"]);
  await taken(
    sessions,
    ["3", ""].map((text) => retained(text)),
  );
  assert.deepEqual(await retainedTexts(sessions), []);
});

test("the limits of a queue hold to the message and to the byte within a batch", async (t) => {
  const byCount = await open(t, ["a", "b"], { queueMessagesMax: 3 });
  await taken(byCount.sessions, [to("0", "a")]);
  await taken(
    byCount.sessions,
    texts(5).map((text) => to(text, "a", "b")),
  );
  assert.deepEqual(await queued(byCount.sessions, "a"), ["0", "1", "2"]);
  assert.deepEqual(await queued(byCount.sessions, "b"), ["1", "2", "3"]);
  assert.deepEqual(byCount.dropped, ["a", "a", "b", "a", "b"]);
  assert.equal((await byCount.sessions.queue("a").size()).count, 3);

  const ample = await open(t, ["a"]);
  await taken(ample.sessions, [to("", "a")]);
  const head = (await ample.sessions.queue("a").size()).bytes;
  const byBytes = await open(t, ["a"], { queueBytesMax: 2 * head + 200 });
  const sizes = [100, 1, 100, 100 - head, 99 - head, 0];
  await taken(
    byBytes.sessions,
    sizes.map((size) => to("x".repeat(size), "a")),
  );
  const kept = (await queued(byBytes.sessions, "a")).map(({ length }) => length);
  assert.deepEqual(kept, [100, 1, 99 - head]);
  assert.deepEqual(byBytes.dropped, ["a", "a", "a"]);
  assert.equal((await byBytes.sessions.queue("a").size()).bytes, 2 * head + 200);
});

test("a batch that Redis refuses is refused whole", async (t) => {
  const { redis, sessions, missing } = await open(t, ["a", "publisher"]);
  const batch = [
    to("for nobody", "nobody"),
    { ...to("1", "a"), incoming: { clientId: "publisher", packetId: 7 } },
    retained("2", "a"),
  ];
  await redis.client.config("SET", "maxmemory", 1);
  assert.deepEqual(await refusals(sessions, batch), Array(3).fill("CLOUD_UNREACHABLE"));
  await redis.client.config("SET", "maxmemory", 0);
  assert.deepEqual(missing, []);
  assert.deepEqual(await queued(sessions, "a"), []);
  assert.deepEqual(await sessions.queue("publisher").incoming(), []);
  assert.deepEqual(await retainedTexts(sessions), []);
  await taken(sessions, batch);
  assert.deepEqual(await queued(sessions, "a"), ["1", "2"]);
});

test("what waits behind a refused batch is refused, too, and kept in order when it comes again", async (t) => {
  const { redis, sessions } = await open(t, ["a"]);
  const all = texts(1_000).map((text) => to(text, "a"));
  // Redis refuses the first batch alone: the scripts are loaded again then.
  await redis.client.script("FLUSH");
  const codes = await refusals(sessions, all);
  assert.deepEqual(codes, Array(1_000).fill("CLOUD_UNREACHABLE"));
  assert.deepEqual(await queued(sessions, "a"), []);
  await taken(sessions, all);
  assert.deepEqual(await queued(sessions, "a"), texts(1_000));
});

test("with no memory left in the middle of a flood, what is kept has no hole", async (t) => {
  const { redis, sessions } = await open(t, ["a"]);
  const used = /used_memory:(\d+)/.exec(await redis.client.info("memory"))?.[1];
  await redis.client.config("SET", "maxmemory", Number(used) + 2_000_000);
  const all = texts(4_000).map((text) => text.padEnd(1_000));
  const codes = await refusals(
    sessions,
    all.map((text) => to(text, "a")),
  );
  await redis.client.config("SET", "maxmemory", 0);
  const count = codes.indexOf("CLOUD_UNREACHABLE");
  assert.ok(count > 0, "the first ones have room, the last ones have none");
  assert.deepEqual(await queued(sessions, "a"), all.slice(0, count));
  assert.ok(codes.slice(count).every((code) => code === "CLOUD_UNREACHABLE"));
});

test("a message for one more session has its place among those of its turn", async (t) => {
  const { sessions } = await open(t, ["a"]);
  const { message, queues } = to("2", "a");
  await Promise.all([
    take(sessions, to("1", "a")),
    sessions.takeAlso(message, queues),
    take(sessions, to("3", "a")),
  ]);
  assert.deepEqual(await queued(sessions, "a"), ["1", "2", "3"]);
});

test("of a batch that a broken connection ends, what nobody can be told of comes later, in order", async (t) => {
  const { redis, sessions } = await open(t, ["a"]);
  const also = (text: string) => sessions.takeAlso(to(text, "a").message, to(text, "a").queues);
  const told: Promise<Taken>[] = [];
  const untold: (Promise<void> | undefined)[] = [];
  await redis.client.client("PAUSE", 60_000, "WRITE");
  for (const text of texts(600)) {
    told.push(take(sessions, to(`told ${text}`, "a")));
    untold.push(also(text));
  }
  const refused = Promise.allSettled(told);
  const stats = async () => (await redis.client.info("clients")).includes("blocked_clients:2");
  await waitFor("the batch to be there, beside the bus' reader", stats);
  await redis.client.client("KILL", "TYPE", "normal", "SKIPME", "yes");
  assert.ok((await refused).every(({ status }) => status === "rejected"));
  await redis.client.client("UNPAUSE");
  await Promise.all(untold);
  assert.deepEqual(await queued(sessions, "a"), texts(600));
});

test("nothing that is under way to a session gets into the next one of its name", async (t) => {
  const { sessions, missing } = await open(t, ["a"]);
  await taken(sessions, [to("first", "a")]);
  const under = texts(600).map((text) => take(sessions, to(text, "a")));
  const acknowledged = sessions.queue("a").remove(1, false);
  await sessions.remove("a");
  await sessions.save(session("a"));
  await taken(sessions, [to("new", "a")]);
  await Promise.all([...under, acknowledged]);
  assert.deepEqual(await queued(sessions, "a"), ["new"]);
  assert.deepEqual(missing, []);
});

function session(clientId: string) {
  return { clientId, expirySeconds: 60, subscriptions: [], sentUpTo: 0 };
}

function to(text: string, ...ids: readonly string[]): Taking {
  const payload = new TextEncoder().encode(text);
  return {
    message: { topic: "t", payload, qos: 2, retain: false, takenAtMs: 1_000 },
    queues: ids.map((clientId) => ({ clientId, qos: 1, retain: false, subscriptionIds: [] })),
  };
}

function retained(text: string, ...ids: readonly string[]): Taking {
  const { message, queues } = to(text, ...ids);
  return { message: { ...message, retain: true }, queues };
}

function texts(count: number): string[] {
  return Array.from({ length: count }, (_, index) => String(index + 1));
}

interface Open {
  readonly redis: RedisServer;
  readonly sessions: ClusterSessions;
  /** Client ids, once for each message. */
  readonly dropped: string[];
  readonly missing: string[];
}

/** A store with kept sessions of these names. */
async function open(
  t: TestContext,
  ids: readonly string[],
  limits: Partial<ClusterSessionsOptions> = {},
): Promise<Open> {
  const [dropped, missing]: [string[], string[]] = [[], []];
  const redis = await startRedis(t);
  const { sessions } = await openCluster(t, redis.url, {
    ...limits,
    dropped: (id, count) => dropped.push(...Array<string>(count).fill(id)),
    missing: (id) => missing.push(id),
  });
  for (const id of ids) await sessions.save(session(id));
  return { redis, sessions, dropped, missing };
}

async function take(sessions: ClusterSessions, taking: Taking): Promise<Taken> {
  return (await sessions.take(taking)) ?? assert.fail("nothing would be kept of it");
}

/** All in one turn of the event loop. */
async function taken(sessions: ClusterSessions, takings: readonly Taking[]): Promise<void> {
  await Promise.all(takings.map((taking) => take(sessions, taking)));
}

/** As taken; the code of each fault, or the outcome. */
async function refusals(sessions: ClusterSessions, takings: readonly Taking[]): Promise<string[]> {
  const all = await Promise.allSettled(takings.map((taking) => take(sessions, taking)));
  return all.map((it) => (it.status === "rejected" ? it.reason.code : it.value));
}

async function queued(sessions: ClusterSessions, clientId: string): Promise<string[]> {
  const entries = await entriesOf(sessions, clientId);
  return entries.map(({ message }) => Buffer.from(message?.payload ?? "").toString());
}

async function entriesOf(sessions: ClusterSessions, clientId: string): Promise<QueuedMessage[]> {
  const entries: QueuedMessage[] = [];
  for (;;) {
    const window = await sessions.queue(clientId).read(entries.at(-1)?.number ?? 0, 256, 1e6);
    if (window.length === 0) return entries;
    entries.push(...window);
  }
}

async function retainedTexts(sessions: ClusterSessions): Promise<string[]> {
  const payloads: string[] = [];
  for await (const { payload } of sessions.retained()) {
    payloads.push(Buffer.from(payload).toString());
  }
  return payloads;
}

/** How many scripts Redis ran meanwhile. */
async function scriptCalls(redis: RedisServer, run: () => Promise<void>): Promise<number> {
  await redis.client.config("RESETSTAT");
  await run();
  const stats = await redis.client.info("commandstats");
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0);
}

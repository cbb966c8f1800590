import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ClusterSessions, ClusterSessionsOptions } from "../../../broker/cluster/sessions.ts";
import { Random } from "../../../scripts/ordeal/random.ts";
import { type RedisServer, startRedis } from "../../support/redis-server.ts";
import { openCluster } from "./open-cluster.ts";

test("what is acknowledged in one turn is removed in few steps, wherever it lies", async (t) => {
  const { redis, sessions } = await open(t, ["a", "b"]);
  await fill(sessions, 600, "a", "b");
  const [a, b] = [sessions.queue("a"), sessions.queue("b")];
  await redis.client.config("RESETSTAT");
  const front = Array.from({ length: 250 }, (_, index) => index + 1);
  await Promise.all([...front.map((number) => a.remove(number, true)), b.remove(300, true)]);
  await Promise.all(
    [301, 302, 305, 303].flatMap((number) => [a, b].map((it) => it.remove(number, false))),
  );
  const stats = await redis.client.info("commandstats");
  assert.match(stats, /cmdstat_evalsha:calls=2,/);
  const isGone = (number: number) => [301, 302, 303, 305].includes(number);
  const all = Array.from({ length: 600 }, (_, index) => index + 1);
  assert.deepEqual(
    await numbersOf(sessions, "a"),
    all.filter((number) => number > 250 && !isGone(number)),
  );
  assert.deepEqual(
    await numbersOf(sessions, "b"),
    all.filter((number) => number !== 300 && !isGone(number)),
  );
});

test("a removal that Redis was asked for twice, or that nothing stands for, counts once or not", async (t) => {
  const { sessions } = await open(t, ["a"]);
  await fill(sessions, 3, "a");
  const queue = sessions.queue("a");
  const { bytes } = await queue.size();
  await queue.release(2);
  await Promise.all([1, 1, 2, 2, 7].map((number) => queue.remove(number, true)));
  assert.deepEqual(await queue.size(), { count: 1, bytes: bytes / 3 });
  assert.deepEqual(await numbersOf(sessions, "a"), [3]);
  await sessions.queue("nobody").remove(1, true);
  assert.deepEqual(await sessions.queue("nobody").size(), { count: 0, bytes: 0 });
});

test("a removal makes room for what is taken behind it in the same turn", async (t) => {
  const dropped: string[] = [];
  const options = { queueMessagesMax: 1, dropped: (id: string) => dropped.push(id) };
  const { sessions } = await open(t, ["a", "b"], options);
  await fill(sessions, 1, "a");
  await Promise.all([
    fill(sessions, 1, "b"),
    sessions.queue("a").remove(1, false),
    fill(sessions, 1, "a"),
  ]);
  assert.deepEqual(dropped, []);
  assert.deepEqual(await numbersOf(sessions, "a"), [2]);
});

test("a removal does not reach into the next session of its name", async (t) => {
  const { sessions } = await open(t, ["a"]);
  await fill(sessions, 1, "a");
  const removed = sessions.queue("a").remove(1, false);
  const ended = sessions.remove("a");
  const saved = sessions.save(session("a"));
  await Promise.all([removed, ended, saved, fill(sessions, 1, "a")]);
  assert.deepEqual(await numbersOf(sessions, "a"), [1]);
});

test("whatever is taken, released and removed in whichever turns, a queue holds the rest", async (t) => {
  const { sessions } = await open(t, ["a"]);
  const random = new Random(7);
  const queue = sessions.queue("a");
  /** Number → is it released? */
  const held = new Map<number, boolean>();
  let newest = 0;
  for (let round = 0; round < 200; round += 1) {
    const count = random.int(40);
    await fill(sessions, count, "a");
    for (let index = 0; index < count; index += 1) held.set(++newest, false);
    for (const number of [...held.keys()].filter(() => random.once(20))) {
      await queue.release(number);
      held.set(number, true);
    }
    const isFront = random.once(2);
    const share = 1 + random.int(6);
    const numbers = isFront
      ? [...held.keys()].slice(0, random.int(60))
      : [...held.keys()].filter(() => random.once(share));
    await Promise.all(numbers.map((number) => queue.remove(number, false)));
    for (const number of numbers) held.delete(number);
    assert.equal((await queue.size()).count, held.size);
  }
  assert.deepEqual(await numbersOf(sessions, "a"), [...held.keys()]);
  const waiting = [...held.values()].filter((isReleased) => !isReleased).length;
  assert.equal((await queue.size()).bytes, waiting * (await bytesOfOne(sessions)));
});

interface Open {
  readonly redis: RedisServer;
  readonly sessions: ClusterSessions;
}

async function open(
  t: TestContext,
  ids: readonly string[],
  options: Partial<ClusterSessionsOptions> = {},
): Promise<Open> {
  const redis = await startRedis(t);
  const { sessions } = await openCluster(t, redis.url, options);
  for (const clientId of ids) await sessions.save(session(clientId));
  return { redis, sessions };
}

function session(clientId: string) {
  return { clientId, expirySeconds: 60, subscriptions: [], sentUpTo: 0 };
}

/** So many equal messages for each of them, in one turn. */
async function fill(sessions: ClusterSessions, count: number, ...ids: string[]): Promise<void> {
  const message = { topic: "t", payload: Buffer.from("m"), qos: 2, retain: false } as const;
  const queues = ids.map(
    (clientId) => ({ clientId, qos: 2, retain: false, subscriptionIds: [] }) as const,
  );
  const taking = { message: { ...message, takenAtMs: 1_000 }, queues };
  await Promise.all(Array.from({ length: count }, () => sessions.take(taking)));
}

async function bytesOfOne(sessions: ClusterSessions): Promise<number> {
  await sessions.save(session("one"));
  await fill(sessions, 1, "one");
  return (await sessions.queue("one").size()).bytes;
}

async function numbersOf(sessions: ClusterSessions, clientId: string): Promise<number[]> {
  const numbers: number[] = [];
  for (;;) {
    const window = await sessions.queue(clientId).read(numbers.at(-1) ?? 0, 256, 1e6);
    if (window.length === 0) return numbers;
    numbers.push(...window.map(({ number }) => number));
  }
}

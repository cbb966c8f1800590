// bus.test: what every broker hears on the bus, whatever happens to connections, Redis and the stream.
// Path: test → bus, cluster. Touches: a Redis of its own, loopback.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { type TestContext, test } from "node:test";
import type { Message } from "#contract/message";
import type { StoredSession } from "#contract/session";
import { Metrics } from "#runtime/metrics";
import { BUS_KEY, type BusPacket } from "../../../broker/cluster/bus-entry.ts";
import { BUS_LIMITS } from "../../../broker/cluster/bus-window.ts";
import type { Cluster } from "../../../broker/cluster/cluster.ts";
import { startRedisProxy } from "../../support/redis-proxy.ts";
import { type RedisServer, startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openCluster } from "./open-cluster.ts";

const CLUSTER_FILE = new URL("../../../broker/cluster/cluster.ts", import.meta.url).href;
const METRICS_FILE = new URL("../../../broker/runtime/metrics.ts", import.meta.url).href;

interface Broker {
  readonly cluster: Cluster;
  readonly metrics: Metrics;
  readonly heard: BusPacket[];
  readonly lost: string[];
}

async function openBroker(t: TestContext, redis: { readonly url: string }): Promise<Broker> {
  const metrics = new Metrics();
  const cluster = await openCluster(t, redis.url, {}, metrics);
  const lost: string[] = [];
  cluster.onLost((why) => lost.push(why));
  return { cluster, metrics, heard: await listen(cluster), lost };
}

/** Hears everything from now on. */
async function listen({ emitter }: Cluster): Promise<BusPacket[]> {
  const packets: BusPacket[] = [];
  const listener = (packet: BusPacket, done: () => void) => {
    packets.push(packet);
    done();
  };
  await new Promise<void>((done) => emitter.on("#", listener, done));
  return packets;
}

function said({ cluster }: Broker, topic: string): Promise<void> {
  return new Promise((resolve, reject) =>
    cluster.emitter.emit({ topic, payload: "" }, (fault) => (fault ? reject(fault) : resolve())),
  );
}

const topicsOf = ({ heard }: Broker) => heard.map(({ topic }) => topic);

/** Ends the connections on which one of `commands` was the last one. */
async function cut(redis: RedisServer, ...commands: string[]): Promise<number> {
  const clients = String(await redis.client.client("LIST")).split("\n");
  const ids = clients.flatMap((line) => {
    const command = / cmd=(\S+) /.exec(line)?.[1] ?? "";
    return commands.includes(command) ? [/id=(\d+)/.exec(line)?.[1] ?? ""] : [];
  });
  for (const id of ids) await redis.client.client("KILL", "ID", id);
  return ids.length;
}

test("what several brokers say at once is heard by all in one order, each one's in its own", async (t) => {
  const redis = await startRedis(t);
  const brokers = [await openBroker(t, redis), await openBroker(t, redis)];
  const saying: Promise<void>[] = [];
  for (let number = 0; number < 2_000; number += 1) {
    for (const [index, broker] of brokers.entries())
      saying.push(said(broker, `${index}/${number}`));
    if (number % 37 === 0) await new Promise(setImmediate);
  }
  await Promise.all(saying);
  for (const broker of brokers) await waitFor("all", () => broker.heard.length === 4_000);
  const [one, two] = brokers.map(topicsOf);
  assert.deepEqual(one, two);
  for (const index of ["0/", "1/"]) {
    const own = one?.filter((topic) => topic.startsWith(index));
    assert.deepEqual(
      own,
      Array.from({ length: 2_000 }, (_, number) => index + number),
    );
  }
});

test("a packet comes back with its message and its session, whole", async (t) => {
  const redis = await startRedis(t);
  const { cluster, heard } = await openBroker(t, redis);
  const message: Message = {
    topic: "\ufefft/é",
    payload: Uint8Array.of(0, 255),
    qos: 2,
    retain: true,
    takenAtMs: 1_700_000_000_000,
    expiresAtMs: 1_700_000_001_000,
    publisher: "p",
    properties: Uint8Array.of(1, 1),
  };
  const session: StoredSession = {
    clientId: "__proto__",
    expirySeconds: 7,
    subscriptions: [],
    will: { message, delaySeconds: 3 },
    sentUpTo: 9,
  };
  const envelope = { message, queued: ["a"], chosen: [], isRepeat: true };
  cluster.emitter.emit({ topic: message.topic, payload: "", properties: { envelope } });
  const notice = { kind: "session", session };
  cluster.emitter.emit({ topic: "$SYS/b/sluice", payload: "", properties: { notice } });
  await waitFor("both", () => heard.length === 2);
  assert.deepEqual(heard[0]?.properties, { envelope });
  assert.deepEqual(heard[1]?.properties, { notice });
});

test("connections that break in a flood miss nothing and repeat nothing", async (t) => {
  const redis = await startRedis(t);
  const [speaker, hearer] = [await openBroker(t, redis), await openBroker(t, redis)];
  const saying: Promise<void>[] = [];
  let cuts = 0;
  for (let number = 0; number < 6_000; number += 1) {
    saying.push(said(speaker, String(number)));
    if (number % 50 === 0) await new Promise(setImmediate);
    if (number % 600 === 300) cuts += await cut(redis, "xread", "xadd");
    if (number % 600 === 599) {
      const isBack = () => hearer.cluster.unavailable() === undefined;
      await waitFor("the hearer to be back", isBack);
    }
  }
  assert.ok(cuts >= 10, `${cuts} connections cut`);
  await Promise.all(saying);
  for (const broker of [speaker, hearer]) {
    await waitFor("all", () => broker.heard.length >= 6_000);
    assert.deepEqual(
      topicsOf(broker),
      saying.map((_, number) => String(number)),
    );
    assert.deepEqual(broker.lost, [], "and nothing is read anew");
  }
});

test("what is stored though its answer was lost is heard once, in its order", async (t) => {
  const redis = await startRedis(t);
  const proxy = await startRedisProxy(t, redis.port);
  const [speaker, hearer] = [await openBroker(t, proxy), await openBroker(t, redis)];
  const saying: Promise<void>[] = [];
  for (let round = 0; round < 3; round += 1) {
    proxy.loseAnswers();
    for (let number = 0; number < 100; number += 1) {
      saying.push(said(speaker, String(saying.length)));
      if (number % 10 === 0) await new Promise(setImmediate);
    }
    const isCut = () => speaker.cluster.unavailable() !== undefined;
    await waitFor("the loss to be seen", isCut);
    await proxy.serveAgain();
    await waitFor("the speaker to be back", () => !isCut(), 10_000);
  }
  await Promise.all(saying);
  for (const broker of [speaker, hearer]) {
    await waitFor("all", () => broker.heard.length >= saying.length);
    assert.deepEqual(
      topicsOf(broker),
      saying.map((_, number) => String(number)),
    );
  }
  assert.ok(hearer.metrics.total("sluice_bus_repeats_total") > 0, "and some were stored twice");
});

test("a connection on which nothing comes any more is given up, and nothing is missed", async (t) => {
  const redis = await startRedis(t);
  const proxy = await startRedisProxy(t, redis.port);
  const [speaker, hearer] = [await openBroker(t, redis), await openBroker(t, proxy)];
  await said(speaker, "0");
  await waitFor("the first", () => hearer.heard.length === 1);
  proxy.freeze();
  const saying = [said(speaker, "1"), said(hearer, "2")];
  await Promise.all(saying);
  await waitFor("all", () => hearer.heard.length === 3, 20_000);
  assert.deepEqual(topicsOf(hearer), topicsOf(speaker));
  assert.deepEqual(hearer.lost, []);
  assert.equal(await hearer.cluster.sessions.load("nobody"), undefined, "its store is back, too");
});

test("what a broken connection made a broker write twice is heard once", async (t) => {
  const redis = await startRedis(t);
  const { heard, metrics, cluster } = await openBroker(t, redis);
  cluster.emitter.emit({ topic: "once", payload: "" });
  await waitFor("the packet", () => heard.length === 1);
  const [[, fields] = ["", []]] = await redis.client.xrange(BUS_KEY, "-", "+");
  await redis.client.xadd(BUS_KEY, "1-*", ...fields);
  cluster.emitter.emit({ topic: "behind", payload: "" });
  await waitFor("what is behind it", () => heard.length > 1);
  assert.deepEqual(
    heard.map(({ topic }) => topic),
    ["once", "behind"],
  );
  assert.equal(metrics.total("sluice_bus_repeats_total"), 1);
});

test("what is said while Redis is away is said when it is back, and refused over a limit", async (t) => {
  const redis = await startRedis(t);
  const broker = await openBroker(t, redis);
  await redis.kill();
  await waitFor("the loss to be seen", () => broker.cluster.unavailable() !== undefined);
  const outcomes: Promise<unknown>[] = [said(broker, "0"), said(broker, "1")];
  const message = { topic: "2", payload: new Uint8Array(200_000), qos: 1, retain: false } as const;
  const properties = { envelope: { message: { ...message, takenAtMs: 1 } } };
  const faults: Error[] = [];
  for (let count = 0; count < 100; count += 1) {
    const done = (fault?: Error) => void (fault && faults.push(fault));
    broker.cluster.emitter.emit({ topic: "2", payload: "", properties }, done);
  }
  assert.ok(faults.length > 0 && faults.length < 20, `${faults.length} refused`);
  assert.equal((faults[0] as { code?: string }).code, "CLOUD_UNREACHABLE");
  outcomes.push(redis.start());
  await Promise.all(outcomes);
  await waitFor("all", () => broker.heard.length === 102 - faults.length, 10_000);
  assert.deepEqual(topicsOf(broker).slice(0, 3), ["0", "1", "2"]);
});

test("a hole behind the cursor is noticed, and told", async (t) => {
  const redis = await startRedis(t);
  const [speaker, hearer] = [await openBroker(t, redis), await openBroker(t, redis)];
  for (const topic of ["0", "1"]) await said(speaker, topic);
  await waitFor("both", () => hearer.heard.length === 2);
  // The hearer is cut off while two more come, and the first of them is trimmed.
  await redis.client
    .multi()
    .client("KILL", "TYPE", "normal", "SKIPME", "yes")
    .xadd(BUS_KEY, "1-*", "writer", "w", "count", 1, "heads", "[]", "records", "")
    .xadd(BUS_KEY, "1-*", "writer", "w", "count", 2, "heads", "[]", "records", "")
    .xtrim(BUS_KEY, "MAXLEN", 1)
    .exec();
  for (const { lost, metrics, cluster } of [speaker, hearer]) {
    await waitFor("the hole to be told", () => lost.length > 0, 10_000);
    assert.match(lost[0] ?? "", /does not go on|lost what/);
    await waitFor("the broker to be back", () => cluster.unavailable() === undefined);
    assert.equal(metrics.total("sluice_bus_holes_total"), 1);
  }
  await said(speaker, "2");
  await waitFor("the next", () => topicsOf(hearer).includes("2"));
});

test("a stream that somebody removed is noticed by the next packet, and goes on", async (t) => {
  const redis = await startRedis(t);
  const broker = await openBroker(t, redis);
  for (const topic of ["0", "1", "2"]) await said(broker, topic);
  await waitFor("all", () => broker.heard.length === 3);
  await redis.client.flushall();
  await said(broker, "swallowed");
  await waitFor("the loss to be told", () => broker.lost.length === 1);
  await waitFor("the broker to be back", () => broker.cluster.unavailable() === undefined, 10_000);
  await said(broker, "3");
  await waitFor("the next", () => topicsOf(broker).includes("3"));
});

test("the stream stays within its limit, and who reads meanwhile misses nothing", async (t) => {
  const redis = await startRedis(t);
  const broker = await openBroker(t, redis);
  const payload = new Uint8Array(200_000);
  const message = { topic: "large", payload, qos: 1, retain: false, takenAtMs: 1 } as const;
  const packet = { topic: "large", payload: "", properties: { envelope: { message } } };
  const count = Math.ceil((1.5 * BUS_LIMITS.keptBytesMax) / payload.length);
  for (let number = 0; number < count; number += 50) {
    const some = Array.from({ length: 50 }, () => {
      const { promise, resolve } = Promise.withResolvers<unknown>();
      broker.cluster.emitter.emit(packet, resolve);
      return promise;
    });
    await Promise.all(some);
  }
  await waitFor("all", () => broker.heard.length >= count, 10_000);
  const most = BUS_LIMITS.keptBytesMax / payload.length;
  const length = () => redis.client.xlen(BUS_KEY);
  await waitFor("the stream to be trimmed", async () => (await length()) <= most);
  assert.ok((await length()) > 0.9 * most, "and no more than must");
  assert.deepEqual(broker.lost, []);
});

test("lives on when somebody else writes to the stream, and counts it", async (t) => {
  const redis = await startRedis(t);
  const { cluster, heard, metrics, lost } = await openBroker(t, redis);
  const record = Buffer.from([5, 1, 2, 3]);
  const garbage: (string | Buffer | number)[][] = [
    ["a", "b"],
    ["writer", "w", "count", "x", "heads", "[]", "records", ""],
    ["writer", "", "count", "1", "heads", "[]", "records", ""],
    ["writer", "w", "count", "1", "heads", "{", "records", ""],
    ["writer", "w", "count", "1", "heads", "[1]", "records", ""],
    ["writer", "w", "count", "1", "heads", "[null]", "records", ""],
    ["writer", "w", "count", "1", "heads", '{"length":1}', "records", ""],
    ["writer", "w", "count", "1", "heads", '[{"topic":1}]', "records", ""],
    ["writer", "w", "count", "1", "heads", '[{"topic":"t"}]', "records", ""],
    ["writer", "w", "count", "1", "heads", '[{"rest":{}}]', "records", ""],
    ["writer", "w", "count", "1", "heads", '[{"rest":{}}]', "records", record],
    ["writer", "w", "count", "1", "heads", "[]", "records", record],
  ];
  for (const fields of garbage) await redis.client.xadd(BUS_KEY, "1-*", ...fields);
  cluster.emitter.emit({ topic: "a/b", payload: Buffer.from("ours") });
  await waitFor("the message behind it", () => heard.length > 0);
  assert.deepEqual(heard, [{ topic: "a/b", payload: Buffer.from("ours") }]);
  const foreign = "sluice_cluster_foreign_messages_total";
  assert.equal(metrics.total(foreign), garbage.length);
  assert.deepEqual(lost, []);
});

test("goes on behind an entry that somebody put under an id of its own", async (t) => {
  const redis = await startRedis(t);
  const broker = await openBroker(t, redis);
  await said(broker, "0");
  await redis.client.xadd(BUS_KEY, "*", "a", "b");
  await waitFor("the loss to be told", () => broker.lost.length === 1);
  await waitFor("the broker to be back", () => broker.cluster.unavailable() === undefined);
  await said(broker, "1");
  await waitFor("the next", () => topicsOf(broker).includes("1"));
});

test("a fault of a listener ends the process, as everywhere: it is no foreign message", async (t) => {
  const redis = await startRedis(t);
  const program = `
    const { Cluster } = await import(${JSON.stringify(CLUSTER_FILE)});
    const { Metrics } = await import(${JSON.stringify(METRICS_FILE)});
    const log = { warn() { process.exit(7); } };
    const settings = { url: ${JSON.stringify(redis.url)} };
    const cluster = new Cluster({ settings, sessions: {}, log, metrics: new Metrics() });
    await cluster.connected();
    const { emitter } = cluster;
    emitter.on("#", () => { throw new Error("ours"); }, () => emitter.emit({ topic: "t", payload: "" }));`;
  const ended = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    encoding: "utf8",
    timeout: 10_000,
  });
  assert.equal(ended.status, 1, ended.stderr);
  assert.match(ended.stderr, /Error: ours/);
});

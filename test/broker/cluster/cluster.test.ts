import assert from "node:assert/strict";
import { test } from "node:test";
import type { Cluster } from "../../../broker/cluster/cluster.ts";
import { startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";
import { createCluster, openCluster } from "./open-cluster.ts";

test("a Redis that begins anew may have forgotten something: all is read anew", async (t) => {
  const redis = await startRedis(t);
  const cluster = createCluster(t, redis.url);
  assert.match(cluster.unavailable() ?? "", /connecting/);
  await cluster.connected();
  assert.equal(cluster.unavailable(), undefined);

  const told: string[] = [];
  cluster.onLost((why) => told.push(why));
  cluster.onBack(async () => void told.push("back"));
  await redis.kill();
  await waitFor("the loss to be seen", () => cluster.unavailable() !== undefined);
  await redis.start();
  await waitFor("the cluster to be back", () => cluster.unavailable() === undefined, 10_000);
  assert.deepEqual(told, ["the cluster Redis has begun anew", "back"]);
});

test("a broker that was cut off just now is not unwell yet: it may read on", async (t) => {
  const redis = await startRedis(t);
  const cluster = createCluster(t, redis.url);
  await cluster.connected();
  await redis.kill();
  await waitFor("the loss to be seen", () => cluster.unavailable() !== undefined);
  assert.equal(cluster.unwell(), undefined);
  await waitFor("it to be unwell", () => cluster.unwell() !== undefined, 15_000);
  await redis.start();
  await waitFor("it to be well again", () => cluster.unwell() === undefined, 10_000);
  assert.equal(cluster.unavailable(), undefined);
});

test("connections that are cut again and again, while they are made, too, come back", async (t) => {
  const redis = await startRedis(t);
  const clusters = await Promise.all([1, 2, 3, 4].map(() => openCluster(t, redis.url)));
  const untilMs = performance.now() + 2_000;
  while (performance.now() < untilMs) {
    await redis.client.client("KILL", "TYPE", "normal", "SKIPME", "yes");
    await new Promise(setImmediate);
  }
  for (const cluster of clusters) {
    await waitFor("the cluster to be back", () => cluster.unavailable() === undefined, 10_000);
    assert.equal(await cluster.sessions.load("a"), undefined);
  }
});

test("waits for a Redis that is not there yet", async (t) => {
  const redis = await startRedis(t);
  await redis.kill();
  const cluster = createCluster(t, redis.url);
  const connected = cluster.connected();
  await waitFor("the reason", () => /ECONNREFUSED/.test(cluster.unavailable() ?? ""));
  await redis.start();
  await connected;
  assert.equal(cluster.unavailable(), undefined);
});

test("is not available without its store, where custody is taken", async (t) => {
  const redis = await startRedis(t);
  const cluster = await openCluster(t, redis.url);
  await cluster.sessions.load("a");
  const clients = String(await redis.client.client("LIST"));
  const store = clients.split("\n").find((line) => line.includes("cmd=hget"));
  const id = /id=(\d+)/.exec(store ?? "")?.[1];
  assert.ok(id, clients);
  await redis.client.client("KILL", "ID", id);
  await waitFor("the loss to be seen", () => cluster.unavailable() !== undefined);
  await waitFor("the store to be back", () => cluster.unavailable() === undefined);
});

test("brings a message to every broker, whatever its topic is called", async (t) => {
  const redis = await startRedis(t);
  const brokers = [await openCluster(t, redis.url), await openCluster(t, redis.url)];
  const topics = ["a/b", "a/*", "what?", "a/[1]/+", "back\\slash", "constructor", "__proto__", "é"];
  const heard = await Promise.all(brokers.map((broker) => listen(broker)));
  for (const topic of topics) {
    brokers[0]?.emitter.emit({ topic, payload: Buffer.from([0, 0xff]) });
  }
  for (const packets of heard) {
    await waitFor("all messages", () => packets.length === topics.length);
    assert.deepEqual(
      packets,
      topics.map((topic) => ({ topic, payload: Buffer.from([0, 0xff]) })),
    );
  }
});

/** Hears everything from now on. */
async function listen({ emitter }: Cluster): Promise<object[]> {
  const packets: object[] = [];
  const listener = (packet: object, done: () => void) => {
    packets.push(packet);
    done();
  };
  await new Promise<void>((done) => emitter.on("#", listener, done));
  return packets;
}

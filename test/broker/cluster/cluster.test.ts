import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { Metrics } from "#runtime/metrics";
import type { Cluster } from "../../../broker/cluster/cluster.ts";
import { startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";
import { createCluster, openCluster } from "./open-cluster.ts";

const BUS_FILE = new URL("../../../broker/cluster/bus.ts", import.meta.url).href;
const IOREDIS = import.meta.resolve("ioredis");

test("tells when messages may have passed by, and when the cluster is back", async (t) => {
  const redis = await startRedis(t);
  const cluster = createCluster(t, redis.url);
  assert.match(cluster.unavailable() ?? "", /connecting/);
  await cluster.connected();
  assert.equal(cluster.unavailable(), undefined);

  const lost: string[] = [];
  cluster.onLost((why) => lost.push(why));
  await redis.kill();
  await waitFor("the loss to be told", () => lost.length > 0);
  assert.notEqual(cluster.unavailable(), undefined);
  await redis.start();
  await waitFor("the cluster to be back", () => cluster.unavailable() === undefined, 10_000);
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
    brokers[0]?.emitter.emit({ topic, payload: Buffer.from([0, 0xff]), at: 1_700_000_000_000 });
  }
  for (const packets of heard) {
    await waitFor("all messages", () => packets.length === topics.length);
    assert.deepEqual(
      packets,
      topics.map((topic) => ({ topic, payload: Buffer.from([0, 0xff]), at: 1_700_000_000_000 })),
    );
  }
});

test("lives on when somebody else publishes to the cluster Redis, and counts it", async (t) => {
  const redis = await startRedis(t);
  const metrics = new Metrics();
  const cluster = await openCluster(t, redis.url, {}, metrics);
  const heard = await listen(cluster);
  const garbage = {
    "no bytes": "",
    "no msgpack": "c1",
    "cut short": "82a2",
    nil: "c0",
    "a number": "01",
    "a map without a packet": "81a26964a178",
    "a topic that is no text": "82a26964a178a36d736781a5746f70696301",
    "no payload": "82a26964a179a36d736781a5746f706963a174",
  };
  for (const hex of Object.values(garbage))
    await redis.client.publish("a/b", Buffer.from(hex, "hex"));
  cluster.emitter.emit({ topic: "a/b", payload: Buffer.from("ours") });
  await waitFor("the message behind it", () => heard.length > 0);
  assert.deepEqual(heard, [{ topic: "a/b", payload: Buffer.from("ours") }]);
  assert.match(metrics.text(), /sluice_cluster_foreign_messages_total 8\n/);
});

test("a fault of a listener ends the process, as everywhere: it is no foreign message", async (t) => {
  const redis = await startRedis(t);
  const program = `
    const { Redis } = (await import(${JSON.stringify(IOREDIS)})).default;
    const { Bus } = await import(${JSON.stringify(BUS_FILE)});
    const connect = () => new Redis(${redis.port}, "127.0.0.1");
    const bus = new Bus(connect(), connect(), () => process.exit(7));
    bus.on("#", () => { throw new Error("ours"); }, () => bus.emit({ topic: "t", payload: "" }));`;
  const ended = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    encoding: "utf8",
    timeout: 10_000,
  });
  assert.equal(ended.status, 1, ended.stderr);
  assert.match(ended.stderr, /Error: ours/);
});

test("a listener that was removed hears nothing more", async (t) => {
  const redis = await startRedis(t);
  const { emitter } = await openCluster(t, redis.url);
  const heard: string[] = [];
  const listener = (packet: { topic: string }, done: () => void) => {
    heard.push(packet.topic);
    done();
  };
  await new Promise<void>((done) => emitter.on("a", listener, done));
  await new Promise<void>((done) => emitter.on("b", listener, done));
  await new Promise<void>((done) => emitter.removeListener("a", listener, done));
  for (const topic of ["a", "b"]) emitter.emit({ topic, payload: "" });
  await waitFor("the other topic", () => heard.length > 0);
  assert.deepEqual(heard, ["b"]);
});

/** Subscribes to everything; resolves when Redis knows. */
async function listen({ emitter }: Cluster): Promise<object[]> {
  const packets: object[] = [];
  const listener = (packet: object, done: () => void) => {
    packets.push(packet);
    done();
  };
  await new Promise<void>((done) => emitter.on("#", listener, done));
  return packets;
}

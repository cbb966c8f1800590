// cluster-failures.test: what the clients of a cluster notice when a broker or the cluster Redis fails.
// Path: journeys → brokers → chain. Touches: what a chain touches.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { Redis } from "ioredis";
import type { Chain } from "../../scripts/chain/chain.ts";
import type { Part } from "../../scripts/chain/part.ts";
import { CODE, ended, kept } from "../conformance/mqtt-5/clients.ts";
import type { WillOptions } from "../conformance/support/wire-build.ts";
import { fresh, type WireClient } from "../conformance/support/wire-client.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  type Automatic,
  automaticAt,
  BROKERS,
  connectAt,
  numbers,
  publishAt,
  sorted,
} from "./support/brokers.ts";
import { startChain } from "./support/journey.ts";

/** The device of the chain says nothing meanwhile. */
const SILENT = { deviceIntervalMs: 3_600_000 };
const BOUNDED = { timeout: 60_000 } as const;
/** Until the others have noticed that a broker is dead, and done what it has left undone. */
const NOTICED_MS_MAX = 30_000;

test("a cluster's clients lose nothing by a broker that fails or a Redis that restarts", async (t) => {
  const chain = await startChain(t, SILENT);
  const run = (name: string, body: (t: TestContext, chain: Chain) => Promise<void>) =>
    t.test(name, BOUNDED, (inner) => body(inner, chain));
  await t.test("a broker is killed with SIGKILL", (inner) => killed(inner, chain));
  await run(
    "both brokers are killed, and go on with sessions, queues, wills and retained",
    bothKilled,
  );
  await run("a broker that is stopped tells its clients, and leaves no will undone", stopped);
  await run("who moves away from a frozen broker is served at once, and is let go there", frozen);
  await run("a frozen broker does not take what its client has completed elsewhere", frozenQos2);
  await run("a frozen broker does not end the session that its client has elsewhere", frozenQueue);
  await run(
    "who moves away from a broker that is cut off from Redis is let go there",
    deafTakeover,
  );
  await run("a broker that was taken for dead lets its clients go, their wills said once", revived);
  await run("a broker that was cut off from Redis knows what was retained meanwhile", deafRetained);
  await run(
    "a broker that was cut off from Redis knows who subscribed meanwhile",
    deafSubscription,
  );
  await run("a restart of the cluster Redis loses nothing that was acknowledged", restart);
});

async function killed(t: TestContext, chain: Chain): Promise<void> {
  const wills = await prepareWills(t, chain);
  const group = await prepareGroup(t, chain);
  const topic = fresh("t");
  const clientId = fresh("kept");
  const client = await connectAt(t, chain, 2, kept(clientId));
  await client.subscribe(topic, 1);
  await publishAt(t, chain, 1, topic, "1");
  await client.expect("publish", { topic, payload: "1" });

  const part = chain.part("cloud-2");
  part.kill();
  await part.waitForExit();
  const run = (name: string, body: (t: TestContext) => Promise<void>) =>
    t.test(name, BOUNDED, body);
  await run("its kept sessions go on at the other broker at once", async (inner) => {
    await publishAt(inner, chain, 1, topic, "2");
    const back = await connectAt(inner, chain, 1, kept(clientId), true);
    const [first, second] = await back.take(2);
    assert.deepEqual([first?.payload, first?.dup, second?.payload], ["1", true, "2"]);
    await back.nothing();
  });
  const returned = await connectAt(t, chain, 1, { clientId: wills.returning });
  await group.publishMore();
  await run("its clients' wills are published, whole", (inner) => assertWills(inner, wills));
  await run("a client's will is published though the client returned before", (inner) =>
    assertWillOf(inner, wills, "returns"),
  );
  await returned.disconnect();
  await run("its members of a shared subscription that are kept keep nothing from others", () =>
    group.assertAll(),
  );
  await part.ready();
}

interface Wills {
  readonly level: string;
  readonly returning: string;
  readonly watcher: Automatic;
}

const WILL_PROPERTIES = {
  contentType: "text/plain",
  correlationData: Buffer.from([0, 255]),
  messageExpiryInterval: 600,
  userProperty: [["unit", "°C"] as const],
};

function willOf(level: string, name: string, willDelayInterval = 0): WillOptions {
  const properties = { ...WILL_PROPERTIES, willDelayInterval };
  return { topic: `${level}/${name}`, payload: name, qos: 2, properties };
}

/** Clients of broker 2 with wills, and one of broker 1 that watches them. */
async function prepareWills(t: TestContext, chain: Chain): Promise<Wills> {
  const [level, returning] = [fresh("will"), fresh("returns")];
  const watcher = await automaticAt(t, chain, 1);
  await watcher.client.subscribeAsync(`${level}/+`, { qos: 2 });
  const will = (name: string, willDelayInterval = 0) => willOf(level, name, willDelayInterval);
  await connectAt(t, chain, 2, { clientId: fresh(), will: will("clean") });
  await connectAt(t, chain, 2, { ...kept(fresh()), will: will("kept") });
  await connectAt(t, chain, 2, { ...kept(fresh()), will: will("delayed", 2) });
  await connectAt(t, chain, 2, { clientId: returning, will: will("returns") });
  const content = await connectAt(t, chain, 2, { clientId: fresh(), will: will("content") });
  await content.disconnect();
  return { level, returning, watcher };
}

async function assertWills(t: TestContext, wills: Wills): Promise<void> {
  for (const name of ["clean", "kept", "delayed"]) await assertWillOf(t, wills, name);
  const of = (name: string) => wills.watcher.received.filter(({ payload }) => payload === name);
  assert.equal(of("content").length, 0, "who said DISCONNECT leaves no will");
}

/** The will came once, with all that belongs to it. */
async function assertWillOf(
  t: TestContext,
  { watcher, level }: Pick<Wills, "watcher" | "level">,
  name: string,
): Promise<void> {
  const of = () => watcher.received.filter(({ topic }) => topic === `${level}/${name}`);
  const sinceMs = performance.now();
  await waitFor(`the will "${name}"`, () => of().length > 0, NOTICED_MS_MAX);
  t.diagnostic(`${name}: ${Math.round(performance.now() - sinceMs)} ms`);
  const [{ qos, properties } = { qos: 0, properties: {} }, ...more] = of();
  assert.equal(more.length, 0, "once");
  assert.equal(qos, 2);
  const { userProperties, messageExpiryInterval = 0, ...rest } = properties;
  const { userProperty: _, messageExpiryInterval: __, ...given } = WILL_PROPERTIES;
  assert.deepEqual(rest, given);
  assert.deepEqual({ ...userProperties }, { unit: "°C" });
  assert.ok(messageExpiryInterval > 560 && messageExpiryInterval <= 600, "its expiry begins now");
}

interface Group {
  publishMore(): Promise<void>;
  assertAll(): Promise<void>;
}

/** A member at broker 1, and a kept one at broker 2 that acknowledges nothing. */
async function prepareGroup(t: TestContext, chain: Chain): Promise<Group> {
  const topic = fresh("t");
  const filter = `$share/group/${topic}`;
  const stays = await automaticAt(t, chain, 1);
  await stays.client.subscribeAsync(filter, { qos: 1 });
  const dies = await connectAt(t, chain, 2, kept(fresh()));
  await dies.subscribe(filter, 1);
  const publisher = await automaticAt(t, chain, 1);
  const all = numbers(100);
  const publish = async (payloads: readonly string[]) => {
    const under = payloads.map((it) => publisher.client.publishAsync(topic, it, { qos: 1 }));
    await Promise.all(under);
  };
  await publish(all.slice(0, 50));
  await dies.expect("publish", { topic });
  return {
    publishMore: () => publish(all.slice(50)),
    async assertAll() {
      const payloads = () => sorted(stays.received.map(({ payload }) => payload));
      const missing = () => all.filter((it) => !payloads().includes(it));
      await waitFor("all", () => missing().length === 0, NOTICED_MS_MAX).catch(() => {});
      assert.deepEqual(missing(), [], "all that was acknowledged reaches the member that lives");
      assert.deepEqual(payloads(), all, "each once");
    },
  };
}

async function bothKilled(t: TestContext, chain: Chain): Promise<void> {
  const [level, kind, topic, clientId] = [fresh("will"), fresh("kind"), fresh("t"), fresh("away")];
  const options = { clientId, clean: false, properties: { sessionExpiryInterval: 600 } };
  const away = await connectAt(t, chain, 1, kept(clientId));
  await away.subscribe([
    { filter: `${level}/+`, qos: 2 },
    { filter: topic, qos: 1 },
  ]);
  await away.disconnect();
  await publishAt(t, chain, 2, topic, "waits");
  await publishAt(t, chain, 1, kind, "retained", { retain: true });
  for (const at of BROKERS) {
    await connectAt(t, chain, at, { clientId: fresh(), will: willOf(level, `clean ${at}`) });
    await connectAt(t, chain, at, { ...kept(fresh()), will: willOf(level, `kept ${at}`) });
  }
  const parts = [chain.part("cloud-1"), chain.part("cloud-2")];
  for (const part of parts) part.kill();
  await Promise.all(parts.map((part) => part.waitForExit()));
  await Promise.all(parts.map((part) => part.ready()));

  for (const at of BROKERS) {
    const late = await connectAt(t, chain, at);
    await late.subscribe(kind, 1);
    await late.expect("publish", { topic: kind, payload: "retained", retain: true });
  }
  const watcher = await automaticAt(t, chain, 2, options);
  await waitFor("what waited", () => watcher.received.some((it) => it.payload === "waits"));
  for (const name of ["clean 1", "kept 1", "clean 2", "kept 2"]) {
    await assertWillOf(t, { watcher, level }, name);
  }
}

async function stopped(t: TestContext, chain: Chain): Promise<void> {
  const [level, topic, clientId] = [fresh("will"), fresh("t"), fresh("kept")];
  const watcher = await automaticAt(t, chain, 1);
  await watcher.client.subscribeAsync(`${level}/+`, { qos: 2 });
  const transient = await connectAt(t, chain, 2, { will: willOf(level, "clean") });
  const lasting = await connectAt(t, chain, 2, kept(clientId));
  await lasting.subscribe(topic, 1);
  await publishAt(t, chain, 1, topic, "1");
  await lasting.expect("publish", { topic, payload: "1" });
  const part = chain.part("cloud-2");
  const exit = await part.stop();
  assert.equal(exit?.code, 0);
  try {
    for (const client of [transient, lasting]) await ended(client, CODE.serverShuttingDown);
    await waitFor("the will", () => watcher.received.length > 0, 2_000);
    await assertWillOf(t, { watcher, level }, "clean");
    await publishAt(t, chain, 1, topic, "2");
    const back = await connectAt(t, chain, 1, kept(clientId), true);
    const packets = (await back.take(2)).map(({ payload, dup }) => [payload, dup]);
    assert.deepEqual(packets, [
      ["1", true],
      ["2", false],
    ]);
  } finally {
    await part.start();
  }
}

/** Broker 1 stands still, as on a machine that swaps, while `run` runs. */
async function whileFrozen(chain: Chain, run: () => Promise<void>): Promise<void> {
  const part = chain.part("cloud-1");
  part.kill("SIGSTOP");
  try {
    await run();
  } finally {
    part.kill("SIGCONT");
  }
}

async function frozen(t: TestContext, chain: Chain): Promise<void> {
  const options = kept(fresh("moves"));
  const topic = fresh("t");
  const old = await connectAt(t, chain, 1, options);
  await old.subscribe(topic, 1);
  let newer: WireClient | undefined;
  await whileFrozen(chain, async () => {
    newer = await connectAt(t, chain, 2, options, true);
    await publishAt(t, chain, 2, topic, "1");
    await newer.take(1);
  });
  await ended(old, CODE.sessionTakenOver);
  await publishAt(t, chain, 1, topic, "2");
  await newer?.take(1);
  await newer?.nothing();
}

async function frozenQos2(t: TestContext, chain: Chain): Promise<void> {
  const options = kept(fresh("moves"));
  const topic = fresh("t");
  const watcher = await connectAt(t, chain, 2);
  await watcher.subscribe(topic, 2);
  const old = await connectAt(t, chain, 1, options);
  await whileFrozen(chain, async () => {
    const message = { topic, payload: "1", qos: 2, packetId: 7 };
    // It lies in the kernel until the broker moves again.
    old.sendPublish(message);
    const newer = await connectAt(t, chain, 2, options, true);
    newer.sendPublish({ ...message, dup: true });
    await newer.expect("pubrec", { packetId: 7, code: 0 });
    newer.sendPubrel({ packetId: 7 });
    await newer.expect("pubcomp", { packetId: 7 });
  });
  await old.closed();
  await publishAt(t, chain, 1, topic, "2");
  const payloads = (await watcher.take(2)).map(({ payload }) => payload);
  assert.deepEqual(payloads, ["1", "2"], "exactly once");
}

async function frozenQueue(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, topic] = [fresh("moves"), fresh("t")];
  // A session that ends with its connection is stored for its will's sake.
  const will = { topic: fresh("will"), payload: "will" };
  const watcher = await connectAt(t, chain, 2);
  await watcher.subscribe(will.topic);
  await connectAt(t, chain, 1, { clientId, will });
  await whileFrozen(chain, async () => {
    const newer = await connectAt(t, chain, 2, kept(clientId));
    await newer.subscribe(topic, 1);
    await newer.disconnect();
    await publishAt(t, chain, 2, topic, "1");
  });
  await watcher.expect("publish", { topic: will.topic }, 10_000);
  await publishAt(t, chain, 2, topic, "2");
  const back = await connectAt(t, chain, 2, kept(clientId), true);
  const payloads = (await back.take(2)).map(({ payload }) => payload);
  assert.deepEqual(payloads, ["1", "2"]);
}

/** Broker 1 loses its connections to the cluster Redis, and finds out after `run`. */
async function whileDeaf(chain: Chain, run: () => Promise<void>): Promise<void> {
  const redis = new Redis(chain.redis("cluster"));
  try {
    await whileFrozen(chain, async () => {
      const ports = localPorts(chain.part("cloud-1"));
      const clients = String(await redis.client("LIST"))
        .trim()
        .split("\n");
      const own = clients.flatMap((line) => {
        const [, id, port] = /^id=(\d+) addr=[^ ]*:(\d+) /.exec(line) ?? [];
        return id !== undefined && ports.has(Number(port)) ? [id] : [];
      });
      assert.ok(own.length >= 3, `${own.length} connections of cloud-1 to the cluster Redis`);
      for (const id of own) await redis.client("KILL", "ID", id);
      await run();
    });
  } finally {
    redis.disconnect();
  }
  await chain.part("cloud-1").ready();
}

/** The local ports of a process's TCP connections (proc(5): fd, net/tcp). */
function localPorts({ pid }: Part): Set<number> {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  const lines = readFileSync(`/proc/${pid}/net/tcp`, "utf8").trim().split("\n").slice(1);
  const columns = lines.map((line) => line.trim().split(/\s+/));
  const own = columns.filter((it) => inodes.has(it[9] ?? ""));
  return new Set(own.map((it) => Number.parseInt(it[1]?.split(":")[1] ?? "", 16)));
}

async function deafTakeover(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, topic, level] = [fresh("moves"), fresh("t"), fresh("will")];
  const watcher = await automaticAt(t, chain, 2);
  await watcher.client.subscribeAsync(`${level}/+`, { qos: 2 });
  const options = { ...kept(clientId), will: willOf(level, "old") };
  const old = await connectAt(t, chain, 1, options);
  await old.subscribe(topic, 1);
  const stays = await connectAt(t, chain, 1);
  await stays.subscribe(topic, 1);
  let newer: WireClient | undefined;
  await whileDeaf(chain, async () => {
    newer = await connectAt(t, chain, 2, kept(clientId), true);
    await publishAt(t, chain, 2, topic, "1");
    await newer.take(1);
  });
  await ended(old, CODE.sessionTakenOver);
  await assertWillOf(t, { watcher, level }, "old");
  await publishAt(t, chain, 2, topic, "2");
  await newer?.take(1);
  const payloads = (await stays.take(2)).map(({ payload }) => payload);
  assert.deepEqual(payloads, ["1", "2"], "who stays is not cut off, and misses nothing");
  // What the session is by now is what its newer connection made of it.
  await newer?.disconnect();
  const back = await connectAt(t, chain, 1, kept(clientId), true);
  await back.disconnect({ properties: { sessionExpiryInterval: 0 } });
}

async function revived(t: TestContext, chain: Chain): Promise<void> {
  const [level, topic, clientId] = [fresh("will"), fresh("t"), fresh("kept")];
  const watcher = await automaticAt(t, chain, 2);
  await watcher.client.subscribeAsync(`${level}/+`, { qos: 2 });
  const clean = await connectAt(t, chain, 1, { will: willOf(level, "clean") });
  const lasting = await connectAt(t, chain, 1, { ...kept(clientId), will: willOf(level, "kept") });
  await lasting.subscribe(topic, 1);
  const plain = await automaticAt(t, chain, 1);
  await plain.client.subscribeAsync(topic, { qos: 1 });
  await whileFrozen(chain, async () => {
    const wills = () => watcher.received.length;
    await waitFor("the wills", () => wills() === 2, NOTICED_MS_MAX);
    await publishAt(t, chain, 2, topic, "1");
  });
  for (const client of [clean, lasting]) await ended(client, CODE.serverBusy);
  const back = await connectAt(t, chain, 1, kept(clientId), true);
  assert.equal((await back.take(1))[0]?.payload, "1");
  await waitFor("who has no will", () => plain.received.length === 1);
  for (const name of ["clean", "kept"]) await assertWillOf(t, { watcher, level }, name);
}

async function deafRetained(t: TestContext, chain: Chain): Promise<void> {
  const [old, gone, topic] = [fresh("t"), fresh("t"), fresh("t")];
  await publishAt(t, chain, 2, old, "old", { retain: true });
  await publishAt(t, chain, 2, gone, "gone", { retain: true });
  await whileDeaf(chain, async () => {
    await publishAt(t, chain, 2, old, "new", { retain: true });
    await publishAt(t, chain, 2, gone, "", { retain: true });
    await publishAt(t, chain, 2, topic, "first", { retain: true });
  });
  const client = await connectAgain(t, chain);
  await client.subscribe(gone, 1);
  await client.nothing();
  for (const [name, payload] of [
    [old, "new"],
    [topic, "first"],
  ] as const) {
    await client.subscribe(name, 1);
    await client.expect("publish", { topic: name, payload, retain: true });
    client.sendPuback({ packetId: 1 });
  }
}

async function deafSubscription(t: TestContext, chain: Chain): Promise<void> {
  const [clientId, ended, topic, never] = [fresh("new"), fresh("ended"), fresh("t"), fresh("t")];
  await (await connectAt(t, chain, 2, kept(ended))).disconnect();
  await whileDeaf(chain, async () => {
    const client = await connectAt(t, chain, 2, kept(clientId));
    await client.subscribe(topic, 1);
    await client.disconnect();
    const over = await connectAt(t, chain, 2, kept(ended), true);
    await over.disconnect({ properties: { sessionExpiryInterval: 0 } });
  });
  const publisher = await connectAgain(t, chain);
  await publisher.publish(topic, "1", { qos: 1 });
  await publisher.publish(never, "1", { qos: 1 });
  const back = await connectAt(t, chain, 1, kept(clientId), true);
  await back.take(1);
  await connectAt(t, chain, 1, { clientId: ended, clean: false });
}

/** A client of broker 1, as soon as that serves clients again. */
async function connectAgain(t: TestContext, chain: Chain): Promise<WireClient> {
  return waitFor(
    "broker 1 to serve clients",
    () => connectAt(t, chain, 1).catch(() => undefined),
    15_000,
  );
}

async function restart(t: TestContext, chain: Chain): Promise<void> {
  const [topic, kind, away] = [fresh("t"), fresh("t"), fresh("away")];
  const leaver = await connectAt(t, chain, 2, kept(away));
  await leaver.subscribe(topic, 1);
  await leaver.disconnect();
  const options = { clean: false, properties: { sessionExpiryInterval: 600 } };
  const live = await automaticAt(t, chain, 2, options);
  await live.client.subscribeAsync(topic, { qos: 1 });
  await publishAt(t, chain, 1, kind, "kept", { retain: true });
  const { client: publisher } = await automaticAt(t, chain, 1, options);
  const acknowledged: string[] = [];
  let isStopped = false;
  const publishing = (async () => {
    for (let number = 0; !isStopped; number += 1) {
      const payload = String(number);
      // What is refused meanwhile was not acknowledged; it may arrive or not.
      await publisher.publishAsync(topic, payload, { qos: 1 }).then(
        () => acknowledged.push(payload),
        () => {},
      );
    }
  })();
  const more = async () => {
    const from = acknowledged.length;
    await waitFor("acknowledgements", () => acknowledged.length >= from + 200, 30_000);
  };

  await more();
  chain.part("cluster").kill();
  await chain.part("cluster").waitForExit();
  await more();
  isStopped = true;
  await publishing;
  const last = acknowledged.at(-1) ?? "";
  /** The acknowledged ones, in the order of their first arrival. */
  const firsts = (payloads: readonly string[]) =>
    [...new Set(payloads)].filter((it) => acknowledged.includes(it));
  const byLive = () => live.received.map(({ payload }) => payload);
  await waitFor("the last", () => byLive().includes(last), 15_000);
  assert.deepEqual(firsts(byLive()), acknowledged, "live");
  const back = await connectAt(t, chain, 1, kept(away), true);
  const byBack: string[] = [];
  while (!byBack.includes(last)) byBack.push((await back.take(1))[0]?.payload ?? "");
  assert.deepEqual(firsts(byBack), acknowledged, "from the queue");
  for (const at of BROKERS) {
    const late = await connectAt(t, chain, at);
    await late.subscribe(kind, 1);
    await late.expect("publish", { topic: kind, payload: "kept", retain: true });
  }
}

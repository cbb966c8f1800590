// poison.test: what cannot be handed on, and owners that fail in the middle of a drain, on the way
// from the landing to the cluster's clients.
// Path: journeys → chain. Touches: what a chain touches.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { encodeFrame } from "#contract/frame";
import { LANDING_FUNCTIONS, landingKeys } from "#contract/landing";
import { encodeMessage } from "#contract/message";
import type { StatusDocument } from "#contract/status";
import type { Chain } from "../../scripts/chain/chain.ts";
import { waitFor } from "../support/wait-for.ts";
import { automaticAt, BROKERS, type BrokerNumber, OTHER } from "./support/brokers.ts";
import { assertLandedOnce, connectGateway, type Received, startChain } from "./support/journey.ts";

/** The device of the chain says nothing meanwhile. */
const SILENT = { deviceIntervalMs: 3_600_000 };
const DRAINED = 20_000;
/** The uplink's longest wait between two tries, a lease, and time to drain. */
const RECOVERY_MS_MAX = 90_000;

function record(topic: string, text: string): Uint8Array {
  const payload = new TextEncoder().encode(text);
  return encodeMessage({ topic, payload, qos: 1, retain: false, takenAtMs: 1 });
}

function redisOf(t: TestContext, chain: Chain, name: "landing" | "cluster"): Redis {
  const redis = new Redis({ ...chain.redis(name), maxRetriesPerRequest: null });
  redis.on("error", () => {});
  t.after(() => redis.disconnect());
  return redis;
}

function statusPort({ ports }: Chain, at: BrokerNumber): number {
  return at === 1 ? ports.cloud1Status : ports.cloud2Status;
}

async function statusOf(chain: Chain, at: BrokerNumber): Promise<StatusDocument> {
  const answer = await fetch(`http://127.0.0.1:${statusPort(chain, at)}/status.json`);
  return (await answer.json()) as StatusDocument;
}

/** The broker that takes in the gateway's frames. */
async function ownerOf(chain: Chain, gateway: string): Promise<BrokerNumber> {
  return waitFor(`an owner of ${gateway}`, async () => {
    for (const at of BROKERS) {
      const { ingest } = await statusOf(chain, at);
      if (ingest?.gateways.some((it) => it.gateway === gateway)) return at;
    }
    return undefined;
  });
}

/** The payloads on a topic in the order in which they came first. */
function firsts(received: readonly Received[], topic: string): string[] {
  const payloads = received.filter((it) => it.topic === topic).map(({ payload }) => payload);
  return [...new Set(payloads)];
}

test("what is poisoned goes to the dead letters, and all else of its gateway and of others arrives", async (t) => {
  const chain = await startChain(t, SILENT);
  const landing = redisOf(t, chain, "landing");
  const cluster = redisOf(t, chain, "cluster");
  const owner = await ownerOf(chain, "gw-001");
  const { client, received } = await automaticAt(t, chain, OTHER[owner]);
  await client.subscribeAsync("from/#", { qos: 1 });
  const publisher = await connectGateway(t, chain);
  const good: string[] = [];
  const publish = async (count: number) => {
    for (let index = 0; index < count; index += 1) {
      good.push(String(good.length));
      await publisher.publishAsync("good", good.at(-1) ?? "", { qos: 1 });
    }
  };
  await publish(10);

  // As a gateway may, which writes to its own stream past the function.
  const { up } = landingKeys("gw-001");
  const byHand = (frame: Uint8Array) =>
    landing.xadd(up, "*", "lane", "by-hand", "epoch", 1, "frame", Buffer.from(frame));
  await byHand(Buffer.from("nonsense"));
  const forbidden = [record("hand", "a"), record("w/#", "poison"), record("hand", "b")];
  await byHand(encodeFrame(1, forbidden));
  await publish(10);

  const other = landingKeys("gw-002");
  for (let seq = 1; seq <= 10; seq += 1) {
    const frame = Buffer.from(encodeFrame(seq, [record("other", String(seq))]));
    const args = [other.up, other.pos, "default", 7, seq - 1, seq, frame];
    await landing.call("FCALL", LANDING_FUNCTIONS.append, 2, ...args);
    const last = () => firsts(received, "from/gw-002/other").at(-1) === String(seq);
    const sinceMs = performance.now();
    await waitFor(`${seq} of the other gateway`, last);
    // The first one waits until the gateway is found.
    const tookMs = performance.now() - sinceMs;
    assert.ok(seq === 1 || tookMs < 1_000, `${seq} took ${tookMs} ms`);
  }
  await publish(10);
  await waitFor("all that is good", () => firsts(received, "from/gw-001/good").length === 30);
  await waitFor("what surrounds the poison", () => firsts(received, "from/gw-001/hand").length > 1);

  const payloads = received.filter(({ topic }) => topic.startsWith("from/gw-001/good"));
  assert.deepEqual(
    payloads.map(({ payload }) => payload),
    good,
    "once, in order",
  );
  const byHandOnce = received.filter(({ topic }) => topic === "from/gw-001/hand");
  assert.deepEqual(
    byHandOnce.map(({ payload }) => payload),
    ["a", "b"],
  );
  await assertBuried(chain, owner, cluster);
});

async function assertBuried(chain: Chain, owner: BrokerNumber, cluster: Redis): Promise<void> {
  const letters = (await cluster.xrange("sluice:dead", "-", "+")).map(([, fields]) =>
    Object.fromEntries(
      fields.flatMap((name, at) => (at % 2 === 0 ? [[name, fields[at + 1] ?? ""]] : [])),
    ),
  );
  assert.deepEqual(
    letters.map(({ gateway, lane, epoch, sequence, reason }) => [
      ...[gateway, lane, epoch, sequence, reason],
    ]),
    [
      ["gw-001", "by-hand", "1", undefined, "frame version 110, knows 1"],
      ["gw-001", "by-hand", "1", "2", 'topic "w/#" holds a wildcard'],
    ],
  );
  assert.equal(letters[0]?.bytes, "nonsense");
  const { ingest } = await statusOf(chain, owner);
  const status = ingest?.gateways.find(({ gateway }) => gateway === "gw-001");
  assert.deepEqual([status?.deadLetters, status?.lostMessages, status?.state], [2, 0, "online"]);
  const metrics = await fetch(`http://127.0.0.1:${statusPort(chain, owner)}/metrics`);
  const text = await metrics.text();
  assert.match(text, /^sluice_ingest_dead_letters_total\{gateway="gw-001"\} 2$/m);
  assert.match(text, /^sluice_ingest_failures_total\{gateway="gw-001"\} 6$/m);
}

test("an owner that fails in the middle of a drain leaves no hole, and order as it was", async (t) => {
  const chain = await startChain(t, SILENT);
  await t.test("killed with SIGKILL", (inner) => drain(inner, chain, "killed", "SIGKILL"));
  await t.test("frozen for longer than its lease", (inner) =>
    drain(inner, chain, "frozen", "SIGSTOP"),
  );
  await assertLandedOnce(chain);
});

async function drain(
  t: TestContext,
  chain: Chain,
  topic: string,
  signal: "SIGKILL" | "SIGSTOP",
): Promise<void> {
  const owner = await ownerOf(chain, "gw-001");
  const part = chain.part(`cloud-${owner}`);
  const watcher = await automaticAt(t, chain, OTHER[owner]);
  const kept = await automaticAt(t, chain, OTHER[owner], {
    ...{ clientId: `kept-${topic}`, clean: false, properties: { sessionExpiryInterval: 600 } },
  });
  const cloudTopic = `from/gw-001/${topic}`;
  for (const { client } of [watcher, kept]) await client.subscribeAsync(cloudTopic, { qos: 1 });
  const publisher = await connectGateway(t, chain);
  await chain.networkOff();
  const expected = Array.from({ length: DRAINED }, (_, index) => String(index));
  await Promise.all(expected.map((text) => publisher.publishAsync(topic, text, { qos: 1 })));
  await chain.networkOn();

  await waitFor("the drain", () => watcher.received.length > DRAINED / 20, RECOVERY_MS_MAX);
  part.kill(signal);
  const before = watcher.received.length;
  assert.ok(before < DRAINED, "it fails in the middle");
  if (signal === "SIGSTOP") {
    t.after(() => part.kill("SIGCONT"));
    const another = async () => (await ownerNow(chain, OTHER[owner])) === true;
    await waitFor("another owner", another, RECOVERY_MS_MAX);
    await sleep(500);
    part.kill("SIGCONT");
  }
  for (const { received } of [watcher, kept]) {
    const all = () => firsts(received, cloudTopic).length === DRAINED;
    await waitFor("all of it", all, RECOVERY_MS_MAX);
    assert.deepEqual(firsts(received, cloudTopic), expected);
    t.diagnostic(`${received.length - DRAINED} came twice; it failed at ${before}`);
  }
  await part.ready();
}

/** Does this broker take in the gateway's frames by now? */
async function ownerNow(chain: Chain, at: BrokerNumber): Promise<boolean> {
  const { ingest } = await statusOf(chain, at);
  return ingest?.gateways.some(({ gateway }) => gateway === "gw-001") ?? false;
}

// bridged.test: a connected subscriber misses nothing of the bridged traffic, whatever becomes of the brokers.
// Path: journeys → gateway → landing → brokers → subscribers. Touches: what a chain touches.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Redis } from "ioredis";
import { BRIDGE_PROPERTIES } from "#contract/properties";
import type { StatusDocument } from "#contract/status";
import { wait } from "#runtime/backoff";
import type { Chain } from "../../scripts/chain/chain.ts";
import { GATEWAY } from "../../scripts/chain/folder.ts";
import { Part } from "../../scripts/chain/part.ts";
import { NODE, programOf } from "../../scripts/chain/plans.ts";
import { answersOk } from "../../scripts/chain/ready.ts";
import { fresh } from "../conformance/support/wire-client.ts";
import { freePort } from "../support/redis-server.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  type Automatic,
  automaticAt,
  BROKERS,
  type BrokerNumber,
  OTHER,
} from "./support/brokers.ts";
import { connectCloud, connectGateway, type Received, startChain } from "./support/journey.ts";

/** The device of the chain says nothing meanwhile. */
const SILENT = { deviceIntervalMs: 3_600_000 };
const BOUNDED = { timeout: 90_000 } as const;
const EACH_MS = 20;
/** 500 a second. */
const AT_ONCE = 10;

test("a connected subscriber misses nothing of the bridged traffic", async (t) => {
  const chain = await startChain(t, SILENT);
  const run = (name: string, body: (t: TestContext, chain: Chain) => Promise<void>) =>
    t.test(name, BOUNDED, (inner) => body(inner, chain));
  await run("when the connections to the cluster Redis break, and break again", redisCut);
  await run("when the cluster Redis is out of reach for four seconds", redisAway);
  await run("when the owner of the gateway's partition is killed", ownerKilled);
  await run("when a broker restarts", brokerRestarts);
  await run("when a broker joins", brokerJoins);
});

/** What a gateway's client publishes, at 500 a second, until it is told to stop. */
interface Flow {
  readonly acknowledged: string[];
  more(count: number): Promise<void>;
  stop(): Promise<void>;
}

async function startFlow(t: TestContext, chain: Chain, topic: string): Promise<Flow> {
  const client = await connectGateway(t, chain);
  const acknowledged: string[] = [];
  const underWay: Promise<unknown>[] = [];
  let number = 0;
  const publish = () => {
    const payload = String(number++);
    const publishing = client.publishAsync(topic, payload, { qos: 1 });
    underWay.push(publishing.then(() => acknowledged.push(payload)));
  };
  const timer = setInterval(() => {
    for (let count = 0; count < AT_ONCE; count += 1) publish();
  }, EACH_MS);
  t.after(() => clearInterval(timer));
  return {
    acknowledged,
    more: async (count) => {
      const until = acknowledged.length + count;
      await waitFor("more to be published", () => acknowledged.length >= until, 30_000);
    },
    stop: async () => {
      clearInterval(timer);
      await Promise.all(underWay);
    },
  };
}

interface Subscriber extends Automatic {
  readonly name: string;
  /** How often its connection ended. */
  readonly ends: () => number;
}

/** Of MQTT 5 and 3.1.1, without a session and with one. */
async function subscribers(
  t: TestContext,
  chain: Chain,
  at: BrokerNumber,
  filter: string,
): Promise<Subscriber[]> {
  const open = async (protocolVersion: 4 | 5, clean: boolean): Promise<Subscriber> => {
    const properties = protocolVersion === 5 ? { sessionExpiryInterval: clean ? 0 : 600 } : {};
    const options = { protocolVersion, clean, ...(protocolVersion === 5 ? { properties } : {}) };
    const automatic = await automaticAt(t, chain, at, options);
    let ends = 0;
    automatic.client.on("close", () => {
      ends += 1;
    });
    await automatic.client.subscribeAsync(filter, { qos: 1 });
    const name = `MQTT ${protocolVersion} at broker ${at}, ${clean ? "clean" : "kept"}`;
    return { ...automatic, name, ends: () => ends };
  };
  const kinds = [5, 4].flatMap((level) => [true, false].map((clean) => [level, clean] as const));
  return Promise.all(kinds.map(([level, clean]) => open(level as 4 | 5, clean)));
}

/** All that was acknowledged, in its order; what comes again says that it does. */
async function assertAll(subscriber: Subscriber, { acknowledged }: Flow): Promise<void> {
  const { name, received } = subscriber;
  const last = acknowledged.at(-1) ?? "";
  const hasLast = () => received.some(({ payload }) => payload === last);
  await waitFor(`the last for ${name}`, hasLast, 30_000).catch(() => {});
  const payloads = received.map(({ payload }) => payload);
  assert.deepEqual([...new Set(payloads)], acknowledged, name);
  assert.equal(subscriber.ends(), 0, `${name} stayed connected`);
  if (subscriber.client.options.protocolVersion === 5) assertTold(received);
}

/** Who repeats a message names the same place of the same lane, and no two share one. */
function assertTold(received: readonly Received[]): void {
  const payloadAt = new Map<string, string>();
  for (const { payload, properties } of received) {
    const { userProperties = {} } = properties;
    const place = Object.values(BRIDGE_PROPERTIES).map((name) => String(userProperties[name]));
    assert.equal(place[0], GATEWAY);
    assert.ok(!place.includes("undefined"), place.join(" "));
    const key = place.join(" ");
    assert.equal(payloadAt.get(key) ?? payload, payload, key);
    payloadAt.set(key, payload);
  }
  assert.equal(payloadAt.size, new Set(payloadAt.values()).size, "one place a message");
}

async function redisCut(t: TestContext, chain: Chain): Promise<void> {
  const topic = fresh("t");
  const all = await Promise.all(BROKERS.map((at) => subscribers(t, chain, at, `from/+/${topic}`)));
  const flow = await startFlow(t, chain, topic);
  const redis = new Redis(chain.redis("cluster"));
  try {
    for (let cuts = 0; cuts < 6; cuts += 1) {
      await flow.more(400);
      await redis.client("KILL", "TYPE", "normal", "SKIPME", "yes");
      await redis.client("KILL", "TYPE", "pubsub");
    }
    await flow.more(400);
  } finally {
    redis.disconnect();
  }
  await flow.stop();
  for (const subscriber of all.flat()) await assertAll(subscriber, flow);
}

/** The clients are behind the balancer, which would take them away from a broker that is unwell. */
async function redisAway(t: TestContext, chain: Chain): Promise<void> {
  const topic = fresh("t");
  const open = async (protocolVersion: 4 | 5): Promise<Subscriber> => {
    const received: Received[] = [];
    const client = await connectCloud(t, chain, { protocolVersion, received });
    let ends = 0;
    client.on("close", () => {
      ends += 1;
    });
    await client.subscribeAsync(`from/+/${topic}`, { qos: 1 });
    return { client, received, name: `MQTT ${protocolVersion}, clean`, ends: () => ends };
  };
  const all = await Promise.all(([4, 5, 4, 5] as const).map(open));
  const flow = await startFlow(t, chain, topic);
  await flow.more(300);
  const redis = new Redis(chain.redis("cluster"));
  const untilMs = performance.now() + 4_000;
  try {
    while (performance.now() < untilMs) {
      await redis.client("KILL", "TYPE", "normal", "SKIPME", "yes");
      await wait(EACH_MS);
    }
  } finally {
    redis.disconnect();
  }
  await flow.more(300);
  await flow.stop();
  for (const subscriber of all) await assertAll(subscriber, flow);
}

/** Which broker takes in the gateway's frames. */
async function ownerOf({ ports }: Chain): Promise<BrokerNumber> {
  const owner = await waitFor("an owner of the gateway", async () => {
    for (const at of BROKERS) {
      const port = at === 1 ? ports.cloud1Status : ports.cloud2Status;
      const answer = await fetch(`http://127.0.0.1:${port}/status.json`);
      const { ingest } = (await answer.json()) as StatusDocument;
      if (ingest?.gateways.some(({ gateway }) => gateway === GATEWAY)) return at;
    }
    return undefined;
  });
  return owner;
}

async function ownerKilled(t: TestContext, chain: Chain): Promise<void> {
  const topic = fresh("t");
  const owner = await ownerOf(chain);
  const all = await subscribers(t, chain, OTHER[owner], `from/+/${topic}`);
  const flow = await startFlow(t, chain, topic);
  await flow.more(500);
  const part = chain.part(`cloud-${owner}`);
  part.kill();
  await part.waitForExit();
  await flow.more(1_000);
  await part.ready();
  await flow.more(500);
  await flow.stop();
  for (const subscriber of all) await assertAll(subscriber, flow);
}

async function brokerRestarts(t: TestContext, chain: Chain): Promise<void> {
  const topic = fresh("t");
  const owner = await ownerOf(chain);
  const all = await subscribers(t, chain, owner, `from/+/${topic}`);
  const flow = await startFlow(t, chain, topic);
  const part = chain.part(`cloud-${OTHER[owner]}`);
  await flow.more(300);
  await part.stop();
  await flow.more(300);
  await part.start();
  await flow.more(1_000);
  await flow.stop();
  for (const subscriber of all) await assertAll(subscriber, flow);
}

async function brokerJoins(t: TestContext, chain: Chain): Promise<void> {
  const topic = fresh("t");
  const all = await Promise.all(BROKERS.map((at) => subscribers(t, chain, at, `from/+/${topic}`)));
  const flow = await startFlow(t, chain, topic);
  await flow.more(300);
  const third = await thirdBroker(t, chain);
  await third.start();
  await flow.more(2_000);
  await third.stop();
  await flow.more(300);
  await flow.stop();
  for (const subscriber of all.flat()) await assertAll(subscriber, flow);
}

/** Broker 1's settings, with addresses of its own. */
async function thirdBroker(t: TestContext, { folder }: Chain): Promise<Part> {
  const status = await freePort();
  const sections = readFileSync(folder.settingsOf("cloud-1.toml"), "utf8").split(/^(?=\[)/m);
  const kept = sections.filter(
    (it) => !it.startsWith("[[listeners]]") && !it.startsWith("[status]"),
  );
  const own = `[status]\naddress = "127.0.0.1:${status}"\n`;
  const listener = `[[listeners]]\nprotocol = "mqtt"\naddress = "127.0.0.1:${await freePort()}"\n`;
  const file = join(folder.path, "cloud-3.toml");
  writeFileSync(file, [...kept, own, listener].join("\n").replaceAll("cloud-1", "cloud-3"));
  const part = new Part(
    {
      name: "cloud-3",
      command: NODE,
      args: [programOf("sources", "broker"), "--config", file],
      logFile: folder.logOf("cloud-1").replace("cloud-1", "cloud-3"),
      address: "",
      isReady: () => answersOk(status, "/readyz"),
    },
    { say: (line) => t.diagnostic(line), started: () => {} },
  );
  t.after(() => part.stop());
  return part;
}

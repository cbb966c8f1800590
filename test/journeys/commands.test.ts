// commands.test: what the cloud asks of a gateway is done in order and once, or answered.
// Path: journeys → chain. Touches: what a chain touches.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { IClientPublishOptions, MqttClient } from "mqtt";
import { landingKeys } from "#contract/landing";
import { isOlderId } from "../../broker/ingest/landing.ts";
import type { Chain } from "../../scripts/chain/chain.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  collect,
  connectCloud,
  connectGateway,
  landedPayloads,
  type Received,
  startChain,
} from "./support/journey.ts";

const FIVE = { protocolVersion: 5 } as const;
const KEPT = { ...FIVE, clean: false, properties: { sessionExpiryInterval: 600 } } as const;
const COMMANDS = 8_000;
/** How long the gateway lives each time. */
const KILLED_AFTER_MS = [70, 310, 190, 130, 250, 90, 220, 160];
const RECOVERY_MS_MAX = 60_000;

test("commands of the cloud", async (t) => {
  const chain = await startChain(t, {
    deviceIntervalMs: 3_600_000,
    gatewaySettings: { uplink: { probe_seconds: 1 } },
  });
  const run = (name: string, body: (t: TestContext, chain: Chain) => Promise<void>) =>
    t.test(name, { timeout: 180_000 }, (inner) => body(inner, chain));
  await run("each is done once and in order, through kill -9 of the gateway", overKills);
  await run("each has an id that nobody can forge", ids);
  await run("what expired while the gateway was away is answered, not done", expired);
  await run("none is sent back up to the cloud", notEchoed);
});

async function overKills(t: TestContext, chain: Chain): Promise<void> {
  // What was carried out while it is away stands in its queue, once for each time.
  const away = await connectGateway(t, chain, { ...KEPT, clientId: "away", reconnectPeriod: 0 });
  await away.subscribeAsync("valve/set", { qos: 1 });
  await away.endAsync();
  const gateway = chain.part("gateway");
  await gateway.stop();
  const client = await connectCloud(t, chain, FIVE);
  const expected = Array.from({ length: COMMANDS }, (_, index) => String(index + 1));
  await Promise.all(
    expected.map((number) => client.publishAsync("to/gw-001/valve/set", number, { qos: 1 })),
  );
  await gateway.start();
  // It is busy with them all the time, so that each kill hits it in the middle of one.
  for (const [index, ms] of KILLED_AFTER_MS.entries()) {
    await sleep(ms);
    gateway.kill();
    await waitFor("it to be started again", () => gateway.restartCount > index, 30_000);
    await gateway.ready();
  }
  const last = await newestCommand(chain);
  assert.notEqual(await downCursor(chain), last, "it was not done before the last kill");
  await waitFor("all to be done", async () => (await downCursor(chain)) === last, RECOVERY_MS_MAX);

  const all: Received[] = [];
  await connectGateway(t, chain, { ...KEPT, clientId: "away", received: all });
  await waitFor("the last", () => all.at(-1)?.payload === String(COMMANDS));
  const ids = all.map(idOf);
  assert.equal(new Set(ids).size, ids.length, "none was done twice");
  assert.deepEqual(ids, ids.toSorted(byAge), "in order");
  // What the client published again, its connection being cut, is a command of its own.
  const payloads = new Set(all.map(({ payload }) => payload));
  assert.deepEqual([...payloads], expected);
}

async function ids(t: TestContext, chain: Chain): Promise<void> {
  const device = await connectGateway(t, chain, FIVE);
  const all = collect(device);
  await device.subscribeAsync("named/#", { qos: 1 });
  const userProperties = { "sluice-command": "6-6", unit: "°C" };
  const client = await connectCloud(t, chain, FIVE);
  await publish(client, "to/gw-001/named/command", { userProperties });
  const command = await arrival(all, "named/command");
  const { "sluice-command": id, ...others } = { ...command.properties.userProperties };
  assert.equal(id, await newestCommand(chain));
  assert.deepEqual(others, { unit: "°C" });

  const other = await connectGateway(t, chain, FIVE);
  await publish(other, "named/by-a-device", { userProperties });
  const forged = await arrival(all, "named/by-a-device");
  assert.deepEqual({ ...forged.properties.userProperties }, { unit: "°C" });
}

async function expired(t: TestContext, chain: Chain): Promise<void> {
  const client = await connectCloud(t, chain, FIVE);
  const answers = collect(client);
  await client.subscribeAsync("from/gw-001/+/+", { qos: 1 });
  await chain.part("gateway").stop();
  const correlationData = Buffer.from([0, 1, 255]);
  const responseTopic = "answers/late";
  const late = { messageExpiryInterval: 1 };
  await publish(client, "to/gw-001/late/asked", { ...late, responseTopic, correlationData });
  const first = await newestCommand(chain);
  await publish(client, "to/gw-001/late/told", late);
  const second = await newestCommand(chain);
  await publish(client, "to/gw-001/late/in-time", { messageExpiryInterval: 600 });
  // The clock itself is what is waited for.
  await sleep(2_500);
  await chain.part("gateway").start();
  const device = await connectGateway(t, chain, FIVE);
  const done = collect(device);
  await device.subscribeAsync("late/#", { qos: 1 });

  const asked = await arrival(answers, "from/gw-001/answers/late");
  const told = await arrival(answers, "from/gw-001/sluice/commands");
  assert.deepEqual(asked.properties.correlationData, correlationData);
  for (const [{ payload, qos }, id, topic] of [
    [asked, first, "late/asked"],
    [told, second, "late/told"],
  ] as const) {
    const { at, reason, ...answer } = JSON.parse(payload);
    assert.deepEqual(answer, { id, topic, result: "expired" });
    assert.match(reason, /^it expired \d+ s ago$/);
    assert.ok(Math.abs(Date.parse(at) - Date.now()) < 60_000);
    assert.equal(qos, 1);
  }
  const last = await newestCommand(chain);
  await waitFor("the last to be done", async () => (await downCursor(chain)) === last, 20_000);
  assert.ok(done.every(({ topic }) => topic === "late/in-time"));
}

async function notEchoed(t: TestContext, chain: Chain): Promise<void> {
  const consumer = await connectCloud(t, chain, FIVE);
  const all = collect(consumer);
  await consumer.subscribeAsync("from/gw-001/echo/#", { qos: 1 });
  const device = await connectGateway(t, chain, FIVE);
  const seen = collect(device);
  await device.subscribeAsync("echo/#", { qos: 1 });
  await publish(consumer, "to/gw-001/echo/command");
  await arrival(seen, "echo/command");
  await publish(device, "echo/behind-it");
  await arrival(all, "from/gw-001/echo/behind-it");
  assert.deepEqual(
    all.map(({ topic }) => topic),
    ["from/gw-001/echo/behind-it"],
  );
  assert.deepEqual(await landedPayloads(chain, "echo/command"), []);
}

const KEYS = landingKeys("gw-001");

async function asked<T>(chain: Chain, ask: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis({ ...chain.redis("landing"), maxRetriesPerRequest: null });
  try {
    return await ask(redis);
  } finally {
    redis.disconnect();
  }
}

/** The last command that the gateway says to have done. */
function downCursor(chain: Chain): Promise<string | null> {
  return asked(chain, (redis) => redis.hget(KEYS.pos, "down_cursor"));
}

async function newestCommand(chain: Chain): Promise<string | undefined> {
  const [newest] = await asked(chain, (redis) => redis.xrevrange(KEYS.down, "+", "-", "COUNT", 1));
  return newest?.[0];
}

function idOf({ properties }: Received): string {
  return String(properties.userProperties?.["sluice-command"]);
}

function byAge(one: string, other: string): number {
  return isOlderId(one, other) ? -1 : Number(isOlderId(other, one));
}

function arrival(all: readonly Received[], topic: string): Promise<Received> {
  return waitFor(topic, () => all.find((it) => it.topic === topic), RECOVERY_MS_MAX);
}

/** At QoS 1, the topic as payload; resolves when it is acknowledged. */
async function publish(
  client: MqttClient,
  topic: string,
  properties: NonNullable<IClientPublishOptions["properties"]> = {},
): Promise<void> {
  await client.publishAsync(topic, topic, { qos: 1, properties });
}

// mqtt-5.test: MQTT 5.0 from a device of a gateway to a consumer in the cloud, and back.
// Path: journeys → chain. Touches: what a chain touches.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { IClientPublishOptions, MqttClient } from "mqtt";
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
/** A session that outlives its connection. */
const KEPT = { ...FIVE, clean: false, properties: { sessionExpiryInterval: 600 } } as const;
const ARRIVE_MS_MAX = 20_000;
/** The uplink's longest wait between two tries, and time to drain. */
const RECOVERY_MS_MAX = 60_000;
/** The device of the chain says nothing while the tests run: sequences are the tests' own. */
const SILENT = { deviceIntervalMs: 3_600_000 };

const ORIGIN = ["sluice-gateway", "sluice-lane", "sluice-epoch", "sluice-sequence"] as const;

const WHOLE = {
  payloadFormatIndicator: true,
  contentType: "text/plain; charset=utf-8",
  responseTopic: "answers/ä",
  correlationData: Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
  userProperties: { unit: "°C", tag: ["b", "a", "b"], "": "" },
};

type Publishing = NonNullable<IClientPublishOptions["properties"]>;

test("MQTT 5.0 goes through the gateway, the landing and the cluster, and back", async (t) => {
  const chain = await startChain(t, SILENT);
  const run = (name: string, body: (t: TestContext, chain: Chain) => Promise<void>) =>
    t.test(name, { timeout: 90_000 }, (inner) => body(inner, chain));
  await run("a consumer gets all of a message's properties, and where it comes from", whole);
  await run("retained, a message keeps its properties for who subscribes later", retained);
  await run("sequences of one device's messages grow by one", sequences);
  await run("a consumer of 3.1.1 gets the plain message, one of 5.0 a plain device's", plain);
  await run("what a device says under the names of sluice is not passed on", forged);
  await run(
    "a request goes to the device and its answer back, by the request's own topic",
    request,
  );
  await run("a session that is away finds the properties in its queue, and nothing expired", queue);
  await run("what expires while the network is away never arrives, what follows it does", outage);
});

async function whole(t: TestContext, chain: Chain): Promise<void> {
  const consumer = await connectCloud(t, chain, { by: "websocket", ...FIVE });
  const all = collect(consumer);
  await consumer.subscribeAsync("from/+/whole", {
    qos: 1,
    properties: { subscriptionIdentifier: 7 },
  });
  const device = await connectGateway(t, chain, FIVE);
  await publish(device, "whole", { ...WHOLE, messageExpiryInterval: 600 });

  const message = await arrival(all, "from/gw-001/whole");
  const { messageExpiryInterval = 0, userProperties: _, ...rest } = message.properties;
  const { userProperties, ...given } = WHOLE;
  assert.deepEqual(rest, { ...given, subscriptionIdentifier: 7 });
  assert.ok(messageExpiryInterval > 560 && messageExpiryInterval <= 600, "decremented, no more");
  assert.deepEqual(withoutOrigin(message), userProperties);
  const { "sluice-epoch": epoch, "sluice-sequence": sequence, ...origin } = originOf(message);
  assert.deepEqual(origin, { "sluice-gateway": "gw-001", "sluice-lane": "default" });
  assert.match(String(epoch), /^[1-9]\d*$/);
  assert.match(String(sequence), /^[1-9]\d*$/);
}

async function retained(t: TestContext, chain: Chain): Promise<void> {
  const live = await connectCloud(t, chain, FIVE);
  const first = collect(live);
  await live.subscribeAsync("from/gw-001/kept", { qos: 1 });
  const device = await connectGateway(t, chain, FIVE);
  await publish(device, "kept", WHOLE, true);
  await arrival(first, "from/gw-001/kept");

  const late = await connectCloud(t, chain, FIVE);
  const all = collect(late);
  await late.subscribeAsync("from/gw-001/kept", { qos: 1 });
  const message = await arrival(all, "from/gw-001/kept");
  assert.equal(message.retain, true);
  assert.deepEqual(withoutOrigin(message), WHOLE.userProperties);
  assert.deepEqual(message.properties.correlationData, WHOLE.correlationData);
  assert.deepEqual(originOf(message), originOf(first[0]));
}

async function sequences(t: TestContext, chain: Chain): Promise<void> {
  const consumer = await connectCloud(t, chain, FIVE);
  const all = collect(consumer);
  await consumer.subscribeAsync("from/gw-001/count/+", { qos: 1 });
  const device = await connectGateway(t, chain, FIVE);
  for (let number = 0; number < 10; number += 1) await publish(device, `count/${number}`);
  await waitFor("ten messages", () => all.length >= 10, ARRIVE_MS_MAX);
  const found = all.map((it) => Number(originOf(it)["sluice-sequence"]));
  const [first = 0] = found;
  assert.deepEqual(
    found,
    found.map((_, index) => first + index),
  );
  assert.equal(new Set(all.map((it) => originOf(it)["sluice-epoch"])).size, 1, "in one epoch");
}

async function plain(t: TestContext, chain: Chain): Promise<void> {
  const [old, modern] = [await connectCloud(t, chain), await connectCloud(t, chain, FIVE)];
  const [byOld, byModern] = [collect(old), collect(modern)];
  for (const consumer of [old, modern]) {
    await consumer.subscribeAsync("from/gw-001/plain/+", { qos: 1 });
  }
  const oldDevice = await connectGateway(t, chain);
  await oldDevice.publishAsync("plain/old", "21.5", { qos: 1 });
  const device = await connectGateway(t, chain, FIVE);
  await publish(device, "plain/new", WHOLE);

  for (const name of ["old", "new"]) {
    const { qos, retain, properties } = await arrival(byOld, `from/gw-001/plain/${name}`);
    assert.deepEqual([qos, retain, properties], [1, false, {}]);
  }
  const message = await arrival(byModern, "from/gw-001/plain/old");
  assert.equal(message.payload, "21.5");
  assert.deepEqual(Object.keys(message.properties), ["userProperties"]);
  assert.deepEqual(withoutOrigin(message), {}, "nothing but where it comes from");
  assert.equal(originOf(message)["sluice-gateway"], "gw-001");
}

async function forged(t: TestContext, chain: Chain): Promise<void> {
  const consumer = await connectCloud(t, chain, FIVE);
  const all = collect(consumer);
  await consumer.subscribeAsync("from/gw-001/forged", { qos: 1 });
  const device = await connectGateway(t, chain, FIVE);
  const names = [...ORIGIN, "sluice-command"];
  const lies = Object.fromEntries(names.map((name) => [name, ["gw-666", "1"]]));
  const userProperties = { before: "1", ...lies, "sluice-gateways": "x", after: "2" };
  await publish(device, "forged", { userProperties });

  const message = await arrival(all, "from/gw-001/forged");
  assert.deepEqual(withoutOrigin(message), { before: "1", "sluice-gateways": "x", after: "2" });
  const { "sluice-gateway": gateway, "sluice-lane": lane, ...numbers } = originOf(message);
  assert.deepEqual([gateway, lane], ["gw-001", "default"]);
  for (const number of Object.values(numbers)) assert.match(String(number), /^[1-9]\d*$/);
}

async function request(t: TestContext, chain: Chain): Promise<void> {
  const device = await connectGateway(t, chain, FIVE);
  const requests = collect(device);
  await device.subscribeAsync("valve/set", { qos: 1 });
  device.on("message", (_topic, payload, { properties = {} }) => {
    const { responseTopic, correlationData } = properties;
    if (responseTopic === undefined || correlationData === undefined) return;
    const answer = { qos: 1, properties: { correlationData } } as const;
    device.publish(responseTopic, `${payload} done`, answer);
  });
  const client = await connectCloud(t, chain, FIVE);
  const answers = collect(client);
  await client.subscribeAsync("from/gw-001/answers/+", { qos: 1 });
  const asked = ["open", "close"];
  for (const [number, payload] of asked.entries()) {
    const properties = {
      responseTopic: `answers/${number}`,
      correlationData: Buffer.from([number, 0, 255]),
      contentType: "command",
      messageExpiryInterval: 600,
      userProperties: { by: "operator" },
    };
    await client.publishAsync("to/gw-001/valve/set", payload, { qos: 1, properties });
  }

  await waitFor("both answers", () => answers.length >= asked.length, ARRIVE_MS_MAX);
  assert.deepEqual(
    answers.map(({ topic, payload, properties }) => [topic, payload, properties.correlationData]),
    asked.map((it, number) => [
      `from/gw-001/answers/${number}`,
      `${it} done`,
      Buffer.from([number, 0, 255]),
    ]),
  );
  const [first] = requests;
  assert.equal(first?.properties.contentType, "command");
  const { "sluice-command": id, ...given } = { ...first?.properties.userProperties };
  assert.deepEqual(given, { by: "operator" });
  assert.match(String(id), /^\d+-\d+$/);
  const expiry = first?.properties.messageExpiryInterval ?? 0;
  assert.ok(expiry > 560 && expiry <= 600, `${expiry} s are left of 600`);
}

async function queue(t: TestContext, chain: Chain): Promise<void> {
  const away = await connectCloud(t, chain, { ...KEPT, clientId: "away", reconnectPeriod: 0 });
  await away.subscribeAsync("from/gw-001/queue/+", { qos: 1 });
  await away.endAsync();
  const watcher = await connectCloud(t, chain, FIVE);
  const seen = collect(watcher);
  await watcher.subscribeAsync("from/gw-001/queue/+", { qos: 1 });
  const device = await connectGateway(t, chain, FIVE);
  await publish(device, "queue/long", { ...WHOLE, messageExpiryInterval: 600 });
  await publish(device, "queue/short", { messageExpiryInterval: 2 });
  await publish(device, "queue/last");
  const { properties } = await arrival(seen, "from/gw-001/queue/long");
  await arrival(seen, "from/gw-001/queue/last");
  // The clock itself is what is waited for.
  await sleep(3_000);

  const all: Received[] = [];
  await connectCloud(t, chain, { ...KEPT, clientId: "away", received: all });
  const message = await arrival(all, "from/gw-001/queue/long");
  await arrival(all, "from/gw-001/queue/last");
  assert.deepEqual(
    all.map(({ topic }) => topic.split("/").at(-1)),
    ["long", "last"],
  );
  assert.deepEqual(withoutOrigin(message), WHOLE.userProperties);
  assert.deepEqual(message.properties.correlationData, WHOLE.correlationData);
  const left = message.properties.messageExpiryInterval ?? 0;
  const was = properties.messageExpiryInterval ?? 0;
  assert.ok(left <= was - 2 && left > was - 60, `${left} s are left of ${was}`);
}

async function outage(t: TestContext, chain: Chain): Promise<void> {
  const consumer = await connectCloud(t, chain, { ...KEPT, clientId: "outage" });
  const all = collect(consumer);
  await consumer.subscribeAsync("from/gw-001/outage/+", { qos: 1 });
  const device = await connectGateway(t, chain, FIVE);
  await chain.networkOff();
  await publish(device, "outage/short", { messageExpiryInterval: 2 });
  await publish(device, "outage/long", { messageExpiryInterval: 600 });
  await publish(device, "outage/last");
  // The clock itself is what is waited for.
  await sleep(4_000);
  await chain.networkOn();

  const long = await arrival(all, "from/gw-001/outage/long", RECOVERY_MS_MAX);
  await arrival(all, "from/gw-001/outage/last", RECOVERY_MS_MAX);
  assert.deepEqual(
    all.map(({ topic }) => topic.split("/").at(-1)),
    ["long", "last"],
  );
  const left = long.properties.messageExpiryInterval ?? 0;
  assert.ok(left <= 597 && left > 500, `${left} s are left of 600: the outbox counts, too`);
  assert.deepEqual(await landedPayloads(chain, "outage/short"), [], "the landing never had it");
}

/** The first message on `topic` that arrives. */
function arrival(
  all: readonly Received[],
  topic: string,
  mostMs = ARRIVE_MS_MAX,
): Promise<Received> {
  return waitFor(topic, () => all.find((it) => it.topic === topic), mostMs);
}

/** At QoS 1, the topic as payload; resolves when it is acknowledged. */
async function publish(
  device: MqttClient,
  topic: string,
  properties: Publishing = {},
  retain = false,
): Promise<void> {
  await device.publishAsync(topic, topic, { qos: 1, retain, properties });
}

function withoutOrigin({ properties }: Received): Record<string, string | string[]> {
  const names: readonly string[] = ORIGIN;
  const entries = Object.entries(properties.userProperties ?? {});
  return Object.fromEntries(entries.filter(([name]) => !names.includes(name)));
}

/** Of each user property that says where a message comes from, all that came. */
function originOf(message: Received | undefined): Record<string, string | string[] | undefined> {
  const given = message?.properties.userProperties ?? {};
  return Object.fromEntries(ORIGIN.map((name) => [name, given[name]]));
}

// cloned-card.test: a copy of a gateway's disk in a second box: one goes on, the other says so.
// Path: journeys → chain, a gateway beside it. Touches: what a chain touches, a folder, a process.

import assert from "node:assert/strict";
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync, type MqttClient } from "mqtt";
import { parse } from "smol-toml";
import type { StatusDocument, UplinkStatus } from "#contract/status";
import type { Chain } from "../../scripts/chain/chain.ts";
import { waitFor } from "../support/wait-for.ts";
import { freePlace, type Gateway, startGateway } from "./support/gateway.ts";
import {
  assertLandedOnce,
  collect,
  connectCloud,
  connectGateway,
  type Received,
  startChain,
} from "./support/journey.ts";

const ARRIVE_MS_MAX = 60_000;
const EACH = 300;

/** A box that speaks to the chain's cloud as gw-001. */
interface Box {
  readonly name: string;
  readonly client: MqttClient;
  uplink(): Promise<UplinkStatus | undefined>;
  /** Messages that wait for the cloud. */
  waiting(): Promise<number>;
  /** Everything that its PUBACKs promised. */
  readonly acknowledged: string[];
}

for (const order of ["original", "copy"] as const) {
  test(`a copied disk: the ${order} is started first`, { timeout: 180_000 }, async (t) => {
    const chain = await startChain(t, {
      deviceIntervalMs: 3_600_000,
      gatewaySettings: { uplink: { probe_seconds: 1 } },
    });
    const consumer = await connectCloud(t, chain, { clientId: "consumer", clean: false });
    const all = collect(consumer);
    await consumer.subscribeAsync("from/gw-001/said/#", { qos: 1 });
    const before = await original(t, chain, "before");
    await say(before, EACH);
    await waitFor("what it said", () => all.length >= EACH, ARRIVE_MS_MAX);

    const gateway = chain.part("gateway");
    await before.client.endAsync();
    await gateway.stop();
    const place = await freePlace(t);
    cpSync(chain.folder.dataOf("gateway"), join(place.folder, "data"), { recursive: true });

    const startOriginal = async () => {
      await gateway.start();
      return original(t, chain, "original");
    };
    const startCopy = () => copied(t, startGateway(t, place, uplinkOf(chain)), place.mqttPort);
    const first = await (order === "original" ? startOriginal() : startCopy());
    await waitFor("the first to be online", async () => (await first.uplink())?.state === "online");
    await say(first, EACH);
    await waitFor("what the first said", () => holds(all, first), ARRIVE_MS_MAX);
    // The other one has as many numbers as the cloud has by then, for other messages.
    await chain.networkOff();
    const other = await (order === "original" ? startCopy() : startOriginal());
    await say(other, 2 * EACH);
    await chain.networkOn();
    await Promise.all([say(first, EACH), say(other, EACH)]);
    const boxes = [first, other];
    const states = () => Promise.all(boxes.map(async (it) => (await it.uplink())?.state));
    await waitFor(
      "one of them to be fenced off",
      async () => (await states()).filter((it) => it === "fenced").length === 1,
      ARRIVE_MS_MAX,
    );
    const going = boxes[(await states()).indexOf("online")];
    const fenced = boxes[(await states()).indexOf("fenced")];
    assert(going && fenced, (await states()).join());
    await say(going, EACH);
    await waitFor("all that it said", () => holds(all, going), ARRIVE_MS_MAX);
    assert.match((await fenced.uplink())?.why ?? "", /another box .*another name/);
    assert.deepEqual(
      await states(),
      boxes.map((it) => (it === going ? "online" : "fenced")),
    );
    const arrived = new Set(all.map(({ payload }) => payload));
    const missing = fenced.acknowledged.filter((payload) => !arrived.has(payload));
    assert.ok((await fenced.waiting()) >= missing.length, "what the other could not hand on waits");
    await assertLandedOnce(chain);
    t.diagnostic(`${going.name} goes on, ${fenced.name} is fenced off`);
  });
}

async function original(t: TestContext, chain: Chain, name: string): Promise<Box> {
  const address = `http://127.0.0.1:${chain.ports.gatewayStatus}/status.json`;
  const status = async () => (await (await fetch(address)).json()) as StatusDocument;
  return boxOf(name, await connectGateway(t, chain), status);
}

async function copied(t: TestContext, gateway: Gateway, port: number): Promise<Box> {
  await waitFor("the copy", gateway.status, 15_000);
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { protocolVersion: 4 });
  t.after(() => client.endAsync(true));
  return boxOf("copy", client, gateway.status);
}

function boxOf(name: string, client: MqttClient, status: Gateway["status"]): Box {
  return {
    name,
    client,
    uplink: async () => (await status())?.uplink,
    waiting: async () => (await status())?.outbox?.[0]?.waitingMessages ?? 0,
    acknowledged: [],
  };
}

/** The way to the cloud that the chain's own gateway has. */
function uplinkOf(chain: Chain): Record<string, unknown> {
  const { uplink } = parse(readFileSync(chain.folder.settingsOf("gateway.toml"), "utf8"));
  return { uplink };
}

async function say({ name, client, acknowledged }: Box, count: number): Promise<void> {
  const from = acknowledged.length;
  await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const payload = `${name} ${from + index}`;
      await client.publishAsync(`said/${name}`, payload, { qos: 1 });
      acknowledged.push(payload);
    }),
  );
}

function holds(all: readonly Received[], { acknowledged }: Box): boolean {
  const arrived = new Set(all.map(({ payload }) => payload));
  return acknowledged.every((payload) => arrived.has(payload));
}

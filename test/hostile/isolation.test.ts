// isolation.test: who does not read, floods or does much at once costs nobody else their messages.
// Path: test → a gateway as a process. Touches: what that touches.
//
// Here it is liveness that is held, with bounds that a busy machine keeps; how long others wait in
// numbers is measured by scripts/bench.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ackPacket, pingreqPacket, publishPacket } from "../conformance/support/wire-build.ts";
import { waitFor } from "../support/wait-for.ts";
import { type Bystander, startBystander } from "./support/bystander.ts";
import { type Flood, flood, raw, readSlowly } from "./support/flood.ts";
import { MEMORY_BYTES_MAX, type Watched, watchedGateway } from "./support/watched-gateway.ts";

const MIB = 2 ** 20;
/** What an idle broker holds, as it ships; from its sources Node holds twice as much. */
const IDLE_BYTES = 64 * MIB;
/** What offenders, with all that their limits allow them, may add to the process. */
const GROWTH_BYTES_MAX = MEMORY_BYTES_MAX - IDLE_BYTES;
/** The promise is 100 ms; the garbage collector's helpers may have to wait for a processor. */
const STALL_MS_MAX = 250;
const ROUND_TRIPS = 150;
const ROUND_TRIPS_MS_MAX = 30_000;

const KEPT = { clean: false, properties: { sessionExpiryInterval: 600 } };
const PAYLOAD = "x".repeat(1_000);

interface Scene {
  readonly gateway: Watched;
  readonly bystander: Bystander;
  /** What the process held at the most beyond what it held idle, until it was ended. */
  grownBytes(): number;
}

async function scene(t: TestContext, limits: Record<string, number> = {}): Promise<Scene> {
  const gateway = await watchedGateway(t, { limits });
  const bystander = await startBystander(t, gateway);
  assert.ok(await bystander.passes(50, ROUND_TRIPS_MS_MAX));
  const { rss } = await gateway.memory();
  await bystander.waited();
  return { gateway, bystander, grownBytes: () => gateway.peakBytes() - rss };
}

/** Others are served meanwhile, and the process holds no more than it may. */
async function assertIsolated(t: TestContext, { gateway, bystander, grownBytes }: Scene) {
  const ended = gateway.exited.then(() => assert.fail(`it ended: ${gateway.output().slice(-500)}`));
  const turns = bystander.passes(ROUND_TRIPS, ROUND_TRIPS_MS_MAX);
  const isServed = await Promise.race([turns, ended]);
  const { count, worstMs, p99Ms, worstByClockMs } = await bystander.waited();
  const ms = [worstMs, p99Ms, worstByClockMs].map((it) => it.toFixed(1)).join(", ");
  t.diagnostic(`a bystander waited ${ms} ms (worst, p99, worst by the clock) in ${count} turns`);
  t.diagnostic(`the process grew by ${(grownBytes() / MIB).toFixed(1)} MiB`);
  assert.ok(isServed, `a bystander made ${count} round trips in ${ROUND_TRIPS_MS_MAX} ms`);
  assert.ok(worstMs < STALL_MS_MAX, `a bystander waited ${worstMs} ms`);
  assert.ok(grownBytes() < GROWTH_BYTES_MAX, `the process grew by ${grownBytes()} bytes`);
  assert.deepEqual(gateway.faults(), []);
}

/** Four publishers to "hot" at full speed. */
function publishers(t: TestContext, port: number, qos: 0 | 1): Promise<Flood[]> {
  // Acknowledgements come in their order, so that ids may come again long before they are free.
  const packets = Array.from({ length: 66 }, (_, index) =>
    publishPacket({ topic: "hot", payload: PAYLOAD, qos, packetId: index + 1 }),
  );
  const bytes = Buffer.concat(packets);
  const ids = ["p1", "p2", "p3", "p4"];
  return Promise.all(ids.map((clientId) => flood(t, port, { clientId, bytes, reads: true })));
}

for (const { title, qos, options } of [
  { title: "QoS 0 and a clean session", qos: 0, options: {} },
  { title: "QoS 1 and a clean session", qos: 1, options: {} },
  { title: "QoS 0 and a kept session", qos: 0, options: KEPT },
  { title: "QoS 1 and a kept session", qos: 1, options: KEPT },
] as const) {
  test(`a frozen subscriber and four publishers at full speed: ${title}`, async (t) => {
    const place = await scene(t, { queue_messages_max: 20_000 });
    const frozen = await place.gateway.connect({ version: 5, clientId: "frozen", ...options });
    await frozen.subscribe("hot", qos);
    frozen.pause();
    const floods = await publishers(t, place.gateway.port, qos);
    await assertIsolated(t, place);
    const sent = floods.reduce((sum, it) => sum + it.sentBytes(), 0);
    t.diagnostic(`the publishers sent ${(sent / MIB).toFixed(0)} MiB`);
    for (const it of floods) it.stop();
    assert.ok(sent > 4 * MIB, "at a speed that is worth the name");
  });
}

test("what a frozen kept session is owed comes whole and in order when it reads again", async (t) => {
  const { gateway, bystander } = await scene(t);
  const frozen = await gateway.connect({ version: 5, clientId: "frozen", ...KEPT });
  await frozen.subscribe("hot", 1);
  frozen.pause();
  const publisher = await gateway.connect({ version: 4 });
  const count = 6_000;
  for (let from = 0; from < count; from += 100) {
    const packets = Array.from({ length: 100 }, (_, index) => {
      const payload = `${from + index} ${PAYLOAD}`;
      return publishPacket({ topic: "hot", payload, qos: 1, packetId: index + 1 });
    });
    publisher.send(Buffer.concat(packets));
    for (let index = 0; index < 100; index += 1) await publisher.expect("puback");
  }
  assert.ok(await bystander.passes(20, ROUND_TRIPS_MS_MAX));
  frozen.resume();
  const numbers = (await frozen.take(count)).map(({ payload }) => Number.parseInt(payload, 10));
  assert.deepEqual(
    numbers,
    Array.from({ length: count }, (_, index) => index),
  );
});

for (const { title, bytes, reads } of [
  { title: "PINGREQ whose answers are read", bytes: pingreqPacket(), reads: true },
  { title: "PINGREQ whose answers are not read", bytes: pingreqPacket(), reads: false },
  { title: "PUBREL whose answers are not read", bytes: ackPacket("pubrel", {}), reads: false },
  {
    title: "PUBLISH of QoS 1 whose acknowledgements are not read",
    bytes: publishPacket({ topic: "cold", qos: 1 }),
    reads: false,
  },
]) {
  test(`a flood of ${title}`, async (t) => {
    const place = await scene(t);
    const all = Buffer.concat(Array.from({ length: 70_000 / bytes.length }, () => bytes));
    const { port } = place.gateway;
    const flooding = await flood(t, port, { clientId: "flood", bytes: all, reads });
    await assertIsolated(t, place);
    t.diagnostic(`it sent ${(flooding.sentBytes() / MIB).toFixed(1)} MiB`);
    flooding.stop();
  });
}

test("5,000 subscriptions of one client, and its end", async (t) => {
  const place = await scene(t, { subscriptions_per_client_max: 5_000 });
  const { gateway } = place;
  for (const options of [{}, KEPT]) {
    const client = await gateway.connect({ version: 5, clientId: "many", ...options });
    for (let from = 0; from < 5_000; from += 500) {
      const filters = Array.from({ length: 500 }, (_, index) => ({
        filter: `many/+/${from + index}/#`,
        qos: 1,
      }));
      await client.subscribe(filters);
    }
    client.cut();
    const isAway = async () => (await gateway.metric("sluice_connections")) === 2;
    await waitFor("its end", isAway);
    const again = await gateway.connect({ version: 5, clientId: "many" });
    await again.disconnect();
    assert.equal(await gateway.metric("sluice_subscriptions"), 1);
  }
  await assertIsolated(t, place);
});

test("one SUBSCRIBE that repeats a filter as often as a packet can", async (t) => {
  const place = await scene(t);
  const { gateway } = place;
  const publisher = await gateway.connect();
  for (let number = 0; number < 100; number += 1) {
    await publisher.publish(`kept/${number}`, "x", { qos: 1, retain: true });
  }
  const client = await gateway.connect({ version: 5 });
  const filters = Array.from({ length: 50_000 }, () => ({ filter: "#", qos: 0 }));
  const properties = { subscriptionIdentifier: [1] };
  client.sendSubscribe({ packetId: 1, filters, properties });
  const suback = await client.expect("suback", {}, 60_000);
  assert.equal(suback.codes.length, filters.length);
  const message = await client.expect("publish");
  assert.equal(message.retain, true);
  await assertIsolated(t, place);
});

test("who leaves a shared subscription repeats nothing to those who do not share it", async (t) => {
  const gateway = await watchedGateway(t);
  const [plain, kept] = [
    await gateway.connect({ version: 5 }),
    await gateway.connect({ version: 5, clientId: "kept", ...KEPT }),
  ];
  for (const client of [plain, kept]) await client.subscribe("job", 1);
  await kept.disconnect();
  const leaving = await gateway.connect({ version: 5 });
  const staying = await gateway.connect({ version: 5 });
  for (const member of [leaving, staying]) await member.subscribe("$share/g/job", 1);
  const publisher = await gateway.connect();
  for (const payload of ["1", "2"]) await publisher.publish("job", payload, { qos: 1 });
  // Each member has one; what the first one leaves without an acknowledgement is the other one's.
  await leaving.expect("publish");
  leaving.cut();
  await staying.take(2);
  assert.deepEqual(
    (await plain.take(2)).map(({ payload }) => payload),
    ["1", "2"],
  );
  await plain.nothing();
  const again = await gateway.connect({ version: 5, clientId: "kept", ...KEPT });
  assert.deepEqual(
    (await again.take(2)).map(({ payload }) => payload),
    ["1", "2"],
  );
  await again.nothing();
});

/** `a/a/…` of ten levels in all its spellings with `+`, and `/#` behind. */
function overlapping(number: number): string {
  const levels = Array.from({ length: 10 }, (_, level) => ((number >> level) & 1 ? "+" : "a"));
  return `${levels.join("/")}/#`;
}

test("a burst of messages on ever new topics to a thousand overlapping subscriptions", async (t) => {
  const place = await scene(t);
  const { gateway } = place;
  const subscriber = await gateway.connect({ version: 5 });
  for (let number = 0; number < 1_000; number += 1) {
    const properties = { subscriptionIdentifier: [number + 1] };
    const filters = [{ filter: overlapping(number) }];
    subscriber.sendSubscribe({ packetId: 1, filters, properties });
    await subscriber.expect("suback");
  }
  const publisher = await gateway.connect();
  const packets = Array.from({ length: 2_000 }, (_, index) =>
    publishPacket({ topic: `${"a/".repeat(10)}${index}`, payload: "x" }),
  );
  publisher.send(Buffer.concat(packets));
  publisher.sendPingreq();
  await publisher.expect("pingresp", {}, ROUND_TRIPS_MS_MAX);
  await assertIsolated(t, place);
});

test("a subscriber that reads byte by byte gets all that it is owed", async (t) => {
  const place = await scene(t);
  const { gateway } = place;
  const socket = await raw(t, gateway.port);
  // CONNECT of MQTT 3.1.1 with the client id "s", and SUBSCRIBE to "slow" at QoS 0.
  socket.write(Buffer.from("100d00044d5154540402000000017382090001", "hex"));
  socket.write(Buffer.from("0004736c6f7700", "hex"));
  await readSlowly(socket, 4 + 5);
  const publisher = await gateway.connect();
  const one = publishPacket({ topic: "slow", payload: "x".repeat(100) });
  for (let number = 0; number < 100; number += 1) publisher.send(one);
  await readSlowly(socket, 100 * one.length);
  await assertIsolated(t, place);
});

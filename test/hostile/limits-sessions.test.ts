// limits-sessions.test: how much the broker keeps for its clients: sessions, subscriptions, messages.
// Path: test → a gateway as a process. Touches: what that touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { publishPacket } from "../conformance/support/wire-build.ts";
import type { WireClient } from "../conformance/support/wire-client.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  assertClosedSilently,
  assertEnds,
  CODE,
  collect,
  type Limited,
  limitedGateway,
  messages,
} from "./support/limited-gateway.ts";

const KEPT = { clean: false, properties: { sessionExpiryInterval: 600 } };
const dropped = (reason: string) => `sluice_messages_dropped_total{reason="${reason}"}`;

/** A kept session that subscribes to "a", and whose client is away. */
async function absentee(gateway: Limited, clientId = "away"): Promise<void> {
  const client = await gateway.connect5({ clientId, ...KEPT });
  await client.subscribe("a", 1);
  await client.disconnect();
}

/** What an absentee finds in its queue. */
async function found(gateway: Limited, count: number, clientId = "away"): Promise<string[]> {
  const client = await gateway.connect5({ clientId, ...KEPT });
  const taken = await client.take(count);
  await client.nothing();
  return taken.map(({ payload }) => payload.slice(0, 4));
}

/** Publishes "0", "1", … to "a" in one write; resolves with the codes of the PUBACKs. */
async function publishMany(
  publisher: WireClient,
  count: number,
  options: { bytes?: number; retain?: boolean; topic?: (index: number) => string } = {},
): Promise<number[]> {
  const { bytes = 1, retain = false, topic = () => "a" } = options;
  const make = (index: number) => {
    const payload = String(index).padEnd(bytes);
    return { topic: topic(index), payload, qos: 1, retain };
  };
  publisher.send(messages(count, make, (it) => publishPacket(it, publisher.version)));
  return (await collect(publisher, "puback", count)).map(({ code }) => code);
}

test("sessions_max: a new session is refused with 0x97, a known one is not", async (t) => {
  const gateway = await limitedGateway(t, { sessions_max: 3 });
  await absentee(gateway, "known");
  const third = await gateway.connect();
  const modern = await gateway.open(5);
  modern.sendConnect({ clientId: "beyond" });
  await assertEnds(modern, "connack", CODE.quotaExceeded);
  const older = await gateway.open();
  older.sendConnect({ clientId: "beyond" });
  await assertEnds(older, "connack", 3);
  assert.equal(await gateway.metric("sluice_sessions"), 3);
  assert.equal(await gateway.metric("sluice_limit_sessions"), 3);
  const known = await gateway.connect5({ clientId: "known", ...KEPT });
  assert.equal(known.connack.sessionPresent, true);
  await third.ping();
  await gateway.assertOthersUnharmed();
});

test("sessions_max holds for those who connect at once", async (t) => {
  const gateway = await limitedGateway(t, { sessions_max: 4 });
  const clients = await Promise.all(Array.from({ length: 12 }, () => gateway.open(5)));
  for (const [index, client] of clients.entries()) {
    client.sendConnect({ clientId: `crowd-${index}`, ...KEPT });
  }
  const answers = await Promise.all(clients.map((client) => client.expect("connack")));
  assert.equal(answers.filter(({ code }) => code === 0).length, 3);
  assert.equal(answers.filter(({ code }) => code === CODE.quotaExceeded).length, 9);
  assert.equal(await gateway.metric("sluice_sessions"), 4);
});

test("subscriptions_per_client_max: one more is answered with 0x97, the others stay", async (t) => {
  const gateway = await limitedGateway(t, { subscriptions_per_client_max: 2 });
  const filters = ["a", "b", "a", "c"].map((filter) => ({ filter, qos: 1 }));
  const client = await gateway.connect5();
  const { codes } = await client.subscribe(filters);
  assert.deepEqual(codes, [1, 1, 1, CODE.quotaExceeded]);
  assert.deepEqual((await client.subscribe("c", 1)).codes, [CODE.quotaExceeded]);
  await client.unsubscribe("b");
  assert.deepEqual((await client.subscribe("c", 1)).codes, [1]);
  const older = await gateway.connect();
  assert.deepEqual((await older.subscribe(filters)).codes, [1, 1, 1, 0x80]);
  assert.equal(await gateway.metric("sluice_subscriptions"), 4);
  await gateway.assertOthersUnharmed();
});

/** Retains on "r/0", "r/1", … until one is refused; tells how many were not. */
async function fill(client: WireClient): Promise<number> {
  for (let count = 0; count < 100; count += 1) {
    const ack = await client.publish(`r/${count}`, "x", { qos: 1, retain: true });
    if (ack?.code === CODE.quotaExceeded) return count;
    assert.equal(ack?.code, 0);
  }
  return 100;
}

test("retained_messages_max: one on a new topic is refused with 0x97", async (t) => {
  const gateway = await limitedGateway(t, { retained_messages_max: 20 });
  const client = await gateway.connect5();
  const count = await fill(client);
  // Some are the broker's own.
  assert.ok(count > 0 && count <= 20, `${count}`);
  const retain = async (topic: string, payload: string) =>
    (await client.publish(topic, payload, { qos: 1, retain: true }))?.code;
  assert.equal(await retain("r/0", "newer"), 0);
  assert.equal(await retain("r/0", ""), 0);
  assert.equal(await retain("r/new", "x"), 0);
  client.sendPublish({ topic: "r/beyond", payload: "x", retain: true });
  await assertEnds(client, "disconnect", CODE.quotaExceeded);
  const older = await gateway.connect();
  older.sendPublish({ topic: "r/beyond", payload: "x", qos: 1, retain: true });
  await assertClosedSilently(older);
  const mine = "sluice_publishes_refused_total";
  assert.equal(await gateway.metric(`${mine}{reason="quotaExceeded"}`), 3);
  assert.ok((await gateway.metric("sluice_retained_messages")) <= 20);
  assert.equal(await gateway.metric("sluice_limit_retained_messages"), 20);
  await gateway.assertOthersUnharmed();
});

/** Retained messages without those of the broker's own statistics. */
async function retainedCount(gateway: Limited): Promise<number> {
  const client = await gateway.connect5();
  client.sendSubscribe({ packetId: 1, filters: [{ filter: "r/#", qos: 0 }] });
  await client.expect("suback");
  client.sendPingreq();
  let count = 0;
  while ((await client.next()).name === "publish") count += 1;
  return count;
}

test("retained_messages_max holds for those that come at once", async (t) => {
  const gateway = await limitedGateway(t, { retained_messages_max: 20 });
  const publisher = await gateway.connect5();
  const topic = (index: number) => `r/${index}`;
  const codes = await publishMany(publisher, 60, { retain: true, topic });
  const taken = codes.filter((code) => code === 0).length;
  assert.equal(taken, await retainedCount(gateway), "what is acknowledged is retained");
  assert.ok((await gateway.metric("sluice_retained_messages")) <= 20);
});

test("retained_messages_max holds for wills", async (t) => {
  const gateway = await limitedGateway(t, { retained_messages_max: 20 });
  for (let number = 0; number < 30; number += 1) {
    const will = { topic: `r/${number}`, payload: "gone", retain: true };
    const dying = await gateway.connect({ will });
    dying.cut();
  }
  await waitFor("their end", async () => (await gateway.metric("sluice_sessions")) === 1);
  assert.ok((await retainedCount(gateway)) > 0);
  assert.ok((await gateway.metric("sluice_retained_messages")) <= 20);
});

test("retained_bytes_max: one that does not fit is refused with 0x97", async (t) => {
  const gateway = await limitedGateway(t, { retained_bytes_max: 4_096 });
  const client = await gateway.connect5();
  const retain = (bytes: number) =>
    client.publish("a", "x".repeat(bytes), { qos: 1, retain: true });
  assert.equal((await retain(1_000))?.code, 0);
  assert.equal((await retain(5_000))?.code, CODE.quotaExceeded);
  assert.equal((await retain(2_000))?.code, 0);
  assert.ok((await gateway.metric("sluice_retained_bytes")) < 4_096);
  assert.equal(await gateway.metric("sluice_limit_retained_bytes"), 4_096);
  await gateway.assertOthersUnharmed();
});

test("queue_messages_max: what comes beyond is dropped for that session alone", async (t) => {
  const gateway = await limitedGateway(t, { queue_messages_max: 5 });
  await absentee(gateway);
  const listener = await gateway.connect5();
  await listener.subscribe("a", 1);
  assert.deepEqual(new Set(await publishMany(await gateway.connect5(), 8)), new Set([0]));
  assert.equal((await listener.take(8)).length, 8);
  assert.equal(await gateway.metric("sluice_queue_dropped_total"), 3);
  assert.deepEqual(
    (await found(gateway, 5)).map((it) => it.trim()),
    ["0", "1", "2", "3", "4"],
  );
  await gateway.assertOthersUnharmed();
});

test("queue_bytes_max: what does not fit is dropped for that session alone", async (t) => {
  const gateway = await limitedGateway(t, { queue_bytes_max: 3_500 });
  await absentee(gateway);
  const codes = await publishMany(await gateway.connect5(), 8, { bytes: 1_000 });
  assert.deepEqual(new Set(codes), new Set([0]));
  assert.equal(await gateway.metric("sluice_queue_dropped_total"), 5);
  assert.deepEqual(
    (await found(gateway, 3)).map((it) => it.trim()),
    ["0", "1", "2"],
  );
  await gateway.assertOthersUnharmed();
});

test("queue_seconds_max: what waited for longer is not delivered", async (t) => {
  const gateway = await limitedGateway(t, { queue_seconds_max: 1 });
  await absentee(gateway);
  await publishMany(await gateway.connect5(), 2);
  const endMs = performance.now() + 1_100;
  await waitFor("a second to pass", () => performance.now() > endMs);
  assert.deepEqual(await found(gateway, 0), []);
  assert.equal(await gateway.metric(dropped("too-old")), 2);
  await gateway.assertOthersUnharmed();
});

test("delivery_messages_max: 0x97 to who acknowledges nothing", async (t) => {
  const gateway = await limitedGateway(t, { delivery_messages_max: 20, inflight_messages_max: 5 });
  const [modern, older] = [await gateway.connect5(), await gateway.connect()];
  for (const subscriber of [modern, older]) await subscriber.subscribe("a", 1);
  const publisher = await gateway.connect5();
  await publishMany(publisher, 25);
  await collect(modern, "publish", 5);
  await modern.nothing();
  await collect(older, "publish", 5);
  await publishMany(publisher, 1);
  await assertEnds(modern, "disconnect", CODE.quotaExceeded);
  await assertClosedSilently(older);
  await gateway.assertOthersUnharmed();
});

test("delivery_bytes_max: 0x97 to who acknowledges nothing", async (t) => {
  const gateway = await limitedGateway(t, { delivery_bytes_max: 65_536, inflight_messages_max: 1 });
  const subscriber = await gateway.connect5();
  await subscriber.subscribe("a", 1);
  const publisher = await gateway.connect5();
  await publishMany(publisher, 7, { bytes: 10_000 });
  await subscriber.expect("publish");
  await subscriber.nothing();
  await publishMany(publisher, 2, { bytes: 10_000 });
  await assertEnds(subscriber, "disconnect", CODE.quotaExceeded);
  await gateway.assertOthersUnharmed();
});

/** More than the sockets' own buffers hold, of which nothing is in the broker's hand. */
const SOCKET_BYTES = 16 * 2 ** 20;
const MESSAGE_BYTES = 64 * 1_024;

test("delivery_messages_max: QoS 0 is dropped and counted for who does not read", async (t) => {
  const gateway = await limitedGateway(t, { delivery_messages_max: 10 });
  const frozen = await gateway.connect5();
  await frozen.subscribe("a", 0);
  frozen.pause();
  const publisher = await gateway.connect5();
  const count = SOCKET_BYTES / MESSAGE_BYTES;
  for (let done = 0; done < count; done += 16) {
    await publishMany(publisher, 16, { bytes: MESSAGE_BYTES });
  }
  const droppedCount = await gateway.metric(dropped("slow-reader"));
  assert.ok(droppedCount > 0);
  frozen.resume();
  frozen.sendPingreq();
  let delivered = 0;
  for (let it = await frozen.next(); it.name !== "pingresp"; it = await frozen.next()) {
    delivered += 1;
  }
  assert.equal(delivered + droppedCount, count);
  await gateway.assertOthersUnharmed();
});

test("delivery_messages_max: who reads again in time hears why it is over", async (t) => {
  const gateway = await limitedGateway(t, { delivery_messages_max: 10 });
  const frozen = await gateway.connect5();
  await frozen.subscribe("a", 1);
  frozen.pause();
  const publisher = await gateway.connect5();
  const isOver = async () => (await gateway.metric("sluice_sessions")) < 3;
  for (let done = 0; done < SOCKET_BYTES && !(await isOver()); done += 16 * MESSAGE_BYTES) {
    await publishMany(publisher, 16, { bytes: MESSAGE_BYTES });
  }
  frozen.resume();
  const last = (await frozen.closed()).at(-1);
  assert.deepEqual([last?.name, last?.code], ["disconnect", CODE.quotaExceeded]);
  await gateway.assertOthersUnharmed();
});

test("delivery_messages_max: a kept session that does not read goes on in its queue", async (t) => {
  const gateway = await limitedGateway(t, { delivery_messages_max: 10 });
  const frozen = await gateway.connect5({ clientId: "frozen", ...KEPT });
  await frozen.subscribe("a", 1);
  frozen.pause();
  const publisher = await gateway.connect5();
  const count = SOCKET_BYTES / MESSAGE_BYTES;
  for (let done = 0; done < count; done += 16) {
    await publishMany(publisher, 16, { bytes: MESSAGE_BYTES });
  }
  frozen.resume();
  assert.equal((await frozen.take(count)).length, count);
  assert.equal(await gateway.metric(dropped("slow-reader")), 0);
  await gateway.assertOthersUnharmed();
});

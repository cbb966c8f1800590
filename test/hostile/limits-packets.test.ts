// limits-packets.test: how large, how many and how fast the packets of one client may be.
// Path: test → a gateway as a process. Touches: what that touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type PublishOptions, publishPacket } from "../conformance/support/wire-build.ts";
import {
  assertClosedSilently,
  assertEnds,
  CODE,
  collect,
  limitedGateway,
  messages,
} from "./support/limited-gateway.ts";

const refused = (reason: string) => `sluice_publishes_refused_total{reason="${reason}"}`;
const encode = (version: 4 | 5) => (options: PublishOptions) => publishPacket(options, version);

test("packet_bytes_max: a packet of just so many bytes is read, a longer one ends", async (t) => {
  const gateway = await limitedGateway(t, { packet_bytes_max: 500 });
  const client = await gateway.connect5();
  assert.equal(client.connack.properties.maximumPacketSize, 500);
  // Fixed header 3, topic 2 + 1, packet id 2, properties 1.
  await client.publish("a", "x".repeat(491), { qos: 1 });
  client.sendPublish({ topic: "a", payload: "x".repeat(492), qos: 1 });
  await assertEnds(client, "disconnect", CODE.packetTooLarge);
  const older = await gateway.connect();
  older.sendPublish({ topic: "a", payload: "x".repeat(600), qos: 1 });
  await assertClosedSilently(older);
  // What a packet announces is enough.
  const liar = await gateway.connect5();
  liar.send("30 ff ff ff 7f");
  await assertEnds(liar, "disconnect", CODE.packetTooLarge);
  await gateway.assertOthersUnharmed();
});

test("receive_messages_max: 0x93 to who has more under way, a slower pace to 3.1.1", async (t) => {
  const gateway = await limitedGateway(t, { receive_messages_max: 4 });
  const client = await gateway.connect5();
  assert.equal(client.connack.properties.receiveMaximum, 4);
  const make = (index: number) => ({ topic: "a", payload: String(index), qos: 2 });
  client.send(messages(4, make, encode(5)));
  await collect(client, "pubrec", 4);
  client.sendPublish({ topic: "a", qos: 1, packetId: 5 });
  await assertEnds(client, "disconnect", CODE.receiveMaximumExceeded);
  const older = await gateway.connect();
  older.send(messages(200, (index) => ({ ...make(index), qos: 1 }), encode(4)));
  const acks = await collect(older, "puback", 200);
  assert.deepEqual(
    acks.map(({ packetId }) => packetId),
    Array.from({ length: 200 }, (_, index) => index + 1),
  );
  await gateway.assertOthersUnharmed();
});

test("receive_messages_max counts anew with each connection [MQTT 5.0 §4.9]", async (t) => {
  const gateway = await limitedGateway(t, { receive_messages_max: 2 });
  const properties = { sessionExpiryInterval: 60 };
  const session = { clientId: "resumed", clean: false, properties };
  const before = await gateway.connect5(session);
  before.send(messages(2, () => ({ topic: "a", qos: 2 }), encode(5)));
  await collect(before, "pubrec", 2);
  before.cut();
  const after = await gateway.connect5(session);
  assert.equal(after.connack.sessionPresent, true);
  after.sendPublish({ topic: "a", qos: 1, packetId: 9 });
  await after.expect("puback", { packetId: 9, code: 0 });
});

test("inflight_messages_max: so many go to a client that does not acknowledge", async (t) => {
  const gateway = await limitedGateway(t, { inflight_messages_max: 3 });
  const [subscriber, publisher] = [await gateway.connect5(), await gateway.connect5()];
  await subscriber.subscribe("a", 1);
  for (let number = 0; number < 6; number += 1) {
    await publisher.publish("a", String(number), { qos: 1 });
  }
  const first = await collect(subscriber, "publish", 3);
  assert.deepEqual(
    first.map(({ payload }) => payload),
    ["0", "1", "2"],
  );
  await subscriber.nothing();
  subscriber.sendPuback({ packetId: first[1]?.packetId ?? 0 });
  await subscriber.expect("publish", { payload: "3" });
  await subscriber.nothing();
  await gateway.assertOthersUnharmed();
});

test("topic_bytes_max: a longer topic is refused in the terms of each packet", async (t) => {
  const gateway = await limitedGateway(t, { topic_bytes_max: 12 });
  const client = await gateway.connect5();
  await client.publish("x".repeat(12), "", { qos: 1 });
  const [topic, wide] = ["x".repeat(13), "ü".repeat(7)];
  for (const long of [topic, wide]) {
    const ack = await client.publish(long, "", { qos: 1 });
    assert.equal(ack?.code, CODE.topicNameInvalid);
    assert.equal((await client.publish(long, "", { qos: 2 }))?.code, CODE.topicNameInvalid);
  }
  client.sendPublish({ topic });
  await assertEnds(client, "disconnect", CODE.topicNameInvalid);
  const older = await gateway.connect();
  older.sendPublish({ topic, qos: 1 });
  await assertClosedSilently(older);
  const dying = await gateway.open(5);
  dying.sendConnect({ clientId: "dying", will: { topic } });
  await assertEnds(dying, "connack", CODE.topicNameInvalid);
  assert.equal(await gateway.metric(refused("topicNameInvalid")), 6);
  await gateway.assertOthersUnharmed();
});

test("topic_bytes_max: a longer filter is not granted", async (t) => {
  const gateway = await limitedGateway(t, { topic_bytes_max: 12 });
  const [filter, shared] = ["x/".repeat(7), "$share/g/x"];
  const client = await gateway.connect5();
  const suback = await client.subscribe([{ filter: "x/#" }, { filter }, { filter: shared }]);
  // Of a shared subscription it is the filter that is measured, not the name of the group.
  assert.deepEqual(suback.codes, [0, CODE.topicFilterInvalid, 0]);
  const older = await gateway.connect();
  assert.deepEqual((await older.subscribe([{ filter }])).codes, [0x80]);
});

test("topic_levels_max: a deeper topic or filter is refused in the terms of each packet", async (t) => {
  const gateway = await limitedGateway(t, { topic_levels_max: 3 });
  const client = await gateway.connect5();
  const suback = await client.subscribe([{ filter: "a/+/#" }, { filter: "a/b/c/d" }]);
  assert.deepEqual(suback.codes, [0, CODE.topicFilterInvalid]);
  assert.equal((await client.publish("b/b/b", "", { qos: 1 }))?.code, 0x00);
  assert.equal((await client.publish("b/b/b/b", "", { qos: 1 }))?.code, CODE.topicNameInvalid);
  client.sendPublish({ topic: "b///" });
  await assertEnds(client, "disconnect", CODE.topicNameInvalid);
  const older = await gateway.connect();
  assert.deepEqual((await older.subscribe("a/b/c/d")).codes, [0x80]);
  older.sendPublish({ topic: "b/b/b/b", qos: 1 });
  await assertClosedSilently(older);
  assert.equal(await gateway.metric(refused("topicNameInvalid")), 3);
  await gateway.assertOthersUnharmed();
});

test("publishes_per_second_max: 0x96 to who publishes faster", async (t) => {
  const gateway = await limitedGateway(t, { publishes_per_second_max: 50 });
  for (const qos of [0, 1]) {
    const client = await gateway.connect5();
    client.send(messages(150, () => ({ topic: "a", qos }), encode(5)));
    const last = (await client.closed()).at(-1);
    assert.deepEqual([last?.name, last?.code], ["disconnect", CODE.messageRateTooHigh]);
  }
  const older = await gateway.connect();
  older.send(messages(150, () => ({ topic: "a" }), encode(4)));
  await assertClosedSilently(older);
  assert.ok((await gateway.metric(refused("messageRateTooHigh"))) >= 3);
  const slower = await gateway.connect();
  slower.send(messages(50, () => ({ topic: "a" }), encode(4)));
  await slower.ping();
  await gateway.assertOthersUnharmed();
});

test("topic_aliases_max: 0x94 to who names one beyond", async (t) => {
  const gateway = await limitedGateway(t, { topic_aliases_max: 2 });
  const client = await gateway.connect5();
  assert.equal(client.connack.properties.topicAliasMaximum, 2);
  await client.publish("a", "", { qos: 1, properties: { topicAlias: 2 } });
  client.sendPublish({ topic: "a", properties: { topicAlias: 3 } });
  await assertEnds(client, "disconnect", CODE.topicAliasInvalid);
  await gateway.assertOthersUnharmed();
});

test("each limit that ends a connection or refuses a filter is counted by its reason", async (t) => {
  const limits = { packet_bytes_max: 500, receive_messages_max: 2, topic_aliases_max: 1 };
  const more = { subscriptions_per_client_max: 1, keepalive_seconds_max: 1 };
  const gateway = await limitedGateway(t, { ...limits, ...more, connect_seconds_max: 1 });
  const silent = await gateway.open();
  const [large, many, alias, idle] = await Promise.all([0, 1, 2, 3].map(() => gateway.connect5()));
  large?.send("30 ff ff ff 7f");
  many?.send(messages(3, () => ({ topic: "a", qos: 2 }), encode(5)));
  alias?.sendPublish({ topic: "a", properties: { topicAlias: 2 } });
  const chatty = await gateway.connect();
  await chatty.subscribe([{ filter: "a" }, { filter: "b" }]);
  for (const client of [large, many, alias, idle, silent]) await client?.closed();
  const ended = (reason: string) =>
    gateway.metric(`sluice_connections_ended_total{reason="${reason}"}`);
  const counts = {
    packetTooLarge: await ended("packetTooLarge"),
    receiveMaximumExceeded: await ended("receiveMaximumExceeded"),
    topicAliasInvalid: await ended("topicAliasInvalid"),
    keepAliveTimeout: await ended("keepAliveTimeout"),
    maximumConnectTime: await ended("maximumConnectTime"),
    filters: await gateway.metric('sluice_subscriptions_refused_total{reason="quotaExceeded"}'),
  };
  const once = { packetTooLarge: 1, receiveMaximumExceeded: 1, topicAliasInvalid: 1 };
  // The client that was there before is as silent as the one that is to be.
  assert.deepEqual(counts, { ...once, keepAliveTimeout: 2, maximumConnectTime: 1, filters: 1 });
});

// packet-size.test: Maximum Packet Size (MQTT 5.0 §3.1.2.11.4, §3.2.2.3.6), towards a client and from one.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { hex, packet, publishPacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";
import { variable } from "../support/wire-properties.ts";
import { CODE, ended, kept, mqtt5, nothingFrom, refused } from "./clients.ts";

const { connect } = mqtt5(conformanceBroker());
const BYTES_MAX = 1_024;
const narrow = mqtt5(
  conformanceBroker({
    limits: { packet_bytes_max: BYTES_MAX, packet_before_connect_bytes_max: 256 },
  }),
);

const atMost = (maximumPacketSize: number) => ({ properties: { maximumPacketSize } });
const LARGE = "x".repeat(300);

for (const qos of [0, 1, 2] as const) {
  test(`[MQTT-3.1.2-24] [MQTT-3.1.2-25] a message of QoS ${qos} that is too large for one client passes that client by alone`, async (t) => {
    const [publisher, other] = [await connect(t), await connect(t)];
    const subscriber = await connect(t, atMost(128));
    const topic = fresh("t");
    for (const client of [subscriber, other]) await client.subscribe(topic, qos);
    for (const payload of ["1", LARGE, "2"]) await publisher.publish(topic, payload, { qos });
    const payloads = (messages: readonly { payload: string }[]) =>
      messages.map(({ payload }) => payload);
    assert.deepEqual(payloads(await other.take(3)), ["1", LARGE, "2"]);
    assert.deepEqual(payloads(await subscriber.take(2)), ["1", "2"]);
    await nothingFrom(publisher, subscriber);
  });
}

test("[MQTT-3.1.2-24] a packet of exactly the Maximum Packet Size is sent, one byte more is not", async (t) => {
  const [publisher, measure] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  const properties = { userProperty: [["k", "v"]] as const };
  await measure.subscribe(topic, 1);
  await publisher.publish(topic, "12345", { qos: 1, properties });
  const size = (await measure.expect("publish")).bytes.length;
  const exact = await connect(t, atMost(size));
  const less = await connect(t, atMost(size - 1));
  for (const client of [exact, less]) await client.subscribe(topic, 1);
  await publisher.publish(topic, "12345", { qos: 1, properties });
  await publisher.publish(topic, "1234", { qos: 1, properties });
  await exact.expect("publish", { payload: "12345" });
  await less.expect("publish", { payload: "1234" });
});

test("[MQTT-3.1.2-25] what is too large takes nothing of the Receive Maximum", async (t) => {
  const options = { properties: { maximumPacketSize: 128, receiveMaximum: 1 } };
  const [publisher, subscriber] = [await connect(t), await connect(t, options)];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  for (const qos of [1, 2]) await publisher.publish(topic, LARGE, { qos });
  await publisher.publish(topic, "1", { qos: 1 });
  await subscriber.expect("publish", { payload: "1" });
});

test("[MQTT-3.1.2-25] what is too large when it is taken from the session's queue is gone", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 2);
  await first.disconnect();
  for (const payload of [LARGE, "1", LARGE, "2"])
    await publisher.publish(topic, payload, { qos: 1 });
  const second = await connect(t, kept(clientId, 100, { maximumPacketSize: 128 }));
  const payloads = (await second.take(2)).map(({ payload }) => payload);
  assert.deepEqual(payloads, ["1", "2"]);
  await second.disconnect();
  const third = await connect(t, kept(clientId));
  await nothingFrom(publisher, third);
});

test("[MQTT-3.1.2-24] a retained message that is too large is not sent", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, atMost(128))];
  const level = fresh("t");
  await publisher.publish(`${level}/a`, LARGE, { qos: 1, retain: true });
  await publisher.publish(`${level}/b`, "1", { qos: 1, retain: true });
  await subscriber.subscribe(`${level}/+`);
  await subscriber.expect("publish", { topic: `${level}/b` });
  await nothingFrom(publisher, subscriber);
});

test("[MQTT-3.1.2-24] properties count: a message whose properties are too large is not sent", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, atMost(128))];
  const topic = fresh("t");
  await subscriber.subscribe(topic);
  await publisher.publish(topic, "1", { properties: { userProperty: [["k", LARGE]] } });
  await publisher.publish(topic, "2");
  await subscriber.expect("publish", { payload: "2" });
});

test("[MQTT-3.1.2-24] [MQTT-3.14.2-3] [MQTT-3.14.2-4] a DISCONNECT fits the smallest Maximum Packet Size", async (t) => {
  const client = await connect(t, atMost(100));
  client.sendPublish({ topic: "", properties: { userProperty: [["k", LARGE]] } });
  const [disconnect] = await client.closed();
  assert.ok(disconnect && disconnect.bytes.length <= 100);
});

test("[MQTT-3.2.2-19] [MQTT-3.2.2-20] a CONNACK that refuses is no larger than what the client takes", async (t) => {
  const client = await narrow.tryConnect(t, {
    properties: { maximumPacketSize: 10, authenticationMethod: "unknown" },
  });
  const packets = await client.closed();
  for (const { bytes, code } of packets) {
    assert.equal(code, CODE.badAuthenticationMethod);
    assert.ok(bytes.length <= 10, `${bytes.length} bytes`);
  }
});

test("[MQTT-3.1.2-24] a CONNACK that accepts is no larger than what the client takes", async (t) => {
  for (const maximumPacketSize of [64, 16, 6]) {
    const client = await connect(t).then(() =>
      narrow.tryConnect(t, { properties: { maximumPacketSize } }),
    );
    const came = await Promise.race([client.next().catch(() => undefined), client.closed()]);
    const first = Array.isArray(came) ? came[0] : came;
    assert.ok(!first || first.bytes.length <= maximumPacketSize, `${first?.bytes.length} bytes`);
  }
});

test("[MQTT-3.1.2-24] no SUBACK or UNSUBACK is larger than what the client takes", async (t) => {
  for (const send of ["sendSubscribe", "sendUnsubscribe"] as const) {
    const client = await connect(t, atMost(30));
    const filters = Array.from({ length: 50 }, (_, at) => `a/${at}`);
    if (send === "sendSubscribe")
      client.sendSubscribe({ filters: filters.map((filter) => ({ filter })) });
    else client.sendUnsubscribe({ filters });
    client.sendPingreq();
    const came = await client.next();
    assert.ok(came.bytes.length <= 30, `${came.name} of ${came.bytes.length} bytes`);
  }
});

test("[MQTT-3.2.2-15] the broker announces what it takes, takes a packet of that size, and ends who sends more with 0x95", async (t) => {
  const client = await narrow.connect(t);
  assert.equal(client.connack.properties.maximumPacketSize, BYTES_MAX);
  const topic = fresh("t");
  const overhead = publishPacket({ topic, payload: "x".repeat(900), qos: 1 }, 5).length - 900;
  const payload = "x".repeat(BYTES_MAX - overhead);
  await client.publish(topic, payload, { qos: 1 });
  client.sendPublish({ topic, payload: `${payload}x`, qos: 1 });
  await ended(client, CODE.packetTooLarge);
});

test("[MQTT-3.2.2-15] a Remaining Length that is too large ends the connection before the packet is there", async (t) => {
  const client = await narrow.connect(t);
  client.send(Buffer.from([0x30]), variable(268_435_455));
  await ended(client, CODE.packetTooLarge);
});

test("[MQTT-3.1.4-1] a CONNECT that is too large is refused before it is there", async (t) => {
  const client = await narrow.open(t);
  client.send(Buffer.from([0x10]), variable(268_435_455), hex("0004 4d515454 05"));
  await refused(client, CODE.packetTooLarge, CODE.malformedPacket, CODE.quotaExceeded);
});

test("[MQTT-3.2.2-15] packets that are small one by one are taken however many come at once", async (t) => {
  const client = await narrow.connect(t);
  client.send(...Array.from({ length: 2_000 }, () => packet(12, 0, Buffer.alloc(0))));
  for (let at = 0; at < 2_000; at += 1) await client.expect("pingresp");
});

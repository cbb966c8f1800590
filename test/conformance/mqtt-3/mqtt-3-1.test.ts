// mqtt-3-1.test: clients of MQTT 3.1, where they differ from those of 3.1.1.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { publishOnce, subscriber } from "../support/exchanges.ts";
import { ackPacket, connectPacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();
const version = 3;

for (const qos of [0, 1, 2] as const) {
  test(`MQTT 3.1 §3: a QoS ${qos} message goes from 3.1 to 3.1, and between 3.1 and 3.1.1`, async (t) => {
    const topic = fresh("t");
    const old = await subscriber(t, broker, topic, qos, { version });
    const modern = await subscriber(t, broker, topic, qos);
    const publishers = [await broker.connect(t, { version }), await broker.connect(t)];
    for (const publisher of publishers) {
      await publisher.publish(topic, "1", { qos });
      for (const client of [old, modern]) {
        const [message] = await client.take(1);
        assert.deepEqual([message?.payload, message?.qos], ["1", qos]);
      }
    }
  });
}

test("MQTT 3.1 §3.2: CONNACK has no Session Present, though the session is kept", async (t) => {
  const topic = fresh("t");
  const kept = { version, clientId: fresh(), clean: false } as const;
  const client = await subscriber(t, broker, topic, 1, kept);
  await client.disconnect();
  await publishOnce(t, broker, topic, "1", { qos: 1 });
  const again = await broker.connect(t, kept);
  assert.equal(again.connack.bytes.toString("hex"), "20020000");
  await again.expect("publish", { payload: "1", qos: 1 });
});

test("MQTT 3.1 §3.1: a session goes on in 3.1.1, and back", async (t) => {
  const topic = fresh("t");
  const kept = { clientId: fresh(), clean: false };
  const client = await subscriber(t, broker, topic, 1, { ...kept, version });
  await client.disconnect();
  await publishOnce(t, broker, topic, "1", { qos: 1 });
  const modern = await broker.connect(t, kept);
  assert.equal(modern.connack.sessionPresent, true);
  const { packetId } = await modern.expect("publish", { payload: "1", dup: false });
  modern.cut();
  const old = await broker.connect(t, { ...kept, version });
  await old.expect("publish", { payload: "1", dup: true, packetId });
});

test("MQTT 3.1 §3.1: an empty client id is rejected with 0x02", async (t) => {
  for (const clean of [true, false]) {
    const client = await broker.open(t, version);
    client.sendConnect({ clientId: "", clean });
    await client.expect("connack", { code: 2 });
    assert.deepEqual(await client.closed(), []);
  }
});

test("MQTT 3.1 §3.1: a user name or password whose flag is set may be missing", async (t) => {
  for (const connectFlags of [0x82, 0xc2]) {
    const client = await broker.open(t, version);
    client.sendConnect({ clientId: fresh(), connectFlags });
    await client.expect("connack");
  }
});

test("MQTT 3.1 §3.1: the level goes with the name", async (t) => {
  for (const [protocolName, protocolLevel] of [
    ["MQIsdp", 4],
    ["MQTT", 3],
  ] as const) {
    const client = await broker.open(t);
    client.send(connectPacket({ clientId: fresh(), protocolName, protocolLevel }));
    const packets = await client.closed();
    assert.ok(!packets.some(({ code }) => code === 0), `${protocolName} ${protocolLevel}`);
  }
});

test("MQTT 3.1 §2.1: DUP may be set in PUBREL, SUBSCRIBE and UNSUBSCRIBE that come again", async (t) => {
  const client = await broker.connect(t, { version });
  const topic = fresh("t");
  client.sendSubscribe({ packetId: 1, filters: [{ filter: topic }], flags: 0x0a });
  await client.expect("suback", { packetId: 1 });
  client.sendUnsubscribe({ packetId: 2, filters: [topic], flags: 0x0a });
  await client.expect("unsuback", { packetId: 2 });
  client.sendPublish({ topic, qos: 2, packetId: 3 });
  await client.expect("pubrec", { packetId: 3 });
  client.send(ackPacket("pubrel", { packetId: 3, flags: 0x0a }));
  await client.expect("pubcomp", { packetId: 3 });
});

test("MQTT 3.1 §3.1: a will is published, retained if it says so", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic, 1);
  const will = { topic, payload: "will", qos: 1, retain: true };
  const client = await broker.connect(t, { version, will });
  client.cut();
  await observer.expect("publish", { payload: "will", qos: 1, retain: false });
  const late = await subscriber(t, broker, topic, 1, { version });
  await late.expect("publish", { payload: "will", qos: 1, retain: true });
});

test("MQTT 3.1 Appendix A: an ill-formed topic ends the connection as in 3.1.1", async (t) => {
  for (const topic of ["", "a/#", "+", Buffer.from("ff", "hex"), "a\0"]) {
    const client = await broker.connect(t, { version });
    client.sendPublish({ topic });
    assert.deepEqual(await client.closed(), []);
  }
});

// publish.test: PUBLISH, but for acknowledgements and retained messages (MQTT 3.1.1 §3.3, §4.3.1).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { assertCloses, subscriber } from "../support/exchanges.ts";
import { packet, publishPacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

test("[MQTT-3.3.1-2] a client that sets DUP with QoS 0 is disconnected", async (t) => {
  await assertCloses(t, broker, publishPacket({ topic: "a", dup: true }));
});

test("[MQTT-3.3.1-2] [MQTT-4.3.1-1] sends QoS 0 without DUP", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 2);
  await client.publish(topic, "1");
  await client.expect("publish", { qos: 0, dup: false, payload: "1" });
});

for (const qos of [1, 2] as const) {
  test(`[MQTT-3.3.1-3] DUP of an incoming QoS ${qos} message is not passed on`, async (t) => {
    const topic = fresh("t");
    const client = await subscriber(t, broker, topic, qos);
    const publisher = await broker.connect(t);
    await publisher.publish(topic, "1", { qos, dup: true });
    await client.expect("publish", { qos, dup: false, payload: "1" });
  });
}

test("[MQTT-3.3.1-4] a client that sends QoS 3 is disconnected", async (t) => {
  await assertCloses(t, broker, publishPacket({ topic: "a", qos: 3 }));
  await assertCloses(t, broker, publishPacket({ topic: "a", qos: 3, dup: true, retain: true }));
});

test("[MQTT-3.3.2-1] a PUBLISH without room for its topic ends the connection", async (t) => {
  for (const body of ["", "00", "0001", "000561"]) {
    await assertCloses(t, broker, packet(3, 0, Buffer.from(body, "hex")));
  }
});

for (const topic of ["#", "+", "a/#", "a/+/b", "a+", "a#b"]) {
  test(`[MQTT-3.3.2-2] [MQTT-4.7.1-1] a PUBLISH to ${topic} ends the connection and goes nowhere`, async (t) => {
    const root = fresh("t");
    const observer = await subscriber(t, broker, `${root}/#`);
    await assertCloses(t, broker, publishPacket({ topic: `${root}/${topic}`, qos: 1 }));
    const publisher = await broker.connect(t);
    await publisher.publish(`${root}/marker`, "");
    await observer.expect("publish", { topic: `${root}/marker` });
  });
}

test("[MQTT-3.3.2-3] what is delivered carries the topic that it was published to", async (t) => {
  const root = fresh("t");
  const client = await subscriber(t, broker, `${root}/+/b`);
  await client.publish(`${root}/a/c`, "other");
  await client.publish(`${root}/a/b`, "1");
  await client.expect("publish", { topic: `${root}/a/b`, payload: "1" });
});

test("[MQTT-3.3.4-1] answers each QoS as it demands, with the packet's own id", async (t) => {
  const client = await broker.connect(t);
  client.sendPublish({ topic: "a" });
  client.sendPublish({ topic: "a", qos: 1, packetId: 65_535 });
  await client.expect("puback", { packetId: 65_535 });
  client.sendPublish({ topic: "a", qos: 2, packetId: 256 });
  await client.expect("pubrec", { packetId: 256 });
  client.sendPubrel({ packetId: 256 });
  await client.expect("pubcomp", { packetId: 256 });
  await client.nothing();
});

test("[MQTT-2.3.1-5] delivers at QoS 0 without a packet id, the payload as it was", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic);
  const publisher = await broker.connect(t);
  const payload = Buffer.from([0, 1, 2, 255, 0xc3, 0x28]);
  for (const qos of [0, 1, 2]) {
    await publisher.publish(topic, payload, { qos });
    const { payloadBytes } = await client.expect("publish", { qos: 0, packetId: 0 });
    assert.deepEqual(payloadBytes, payload);
  }
});

for (const [name, length] of [
  ["no payload", 0],
  ["a payload whose length takes one more byte", 128],
  ["a payload of 200 KiB", 200 * 1024],
] as const) {
  test(`[MQTT-3.3.4-1] delivers ${name} whole, at every QoS`, async (t) => {
    const topic = fresh("t");
    const client = await subscriber(t, broker, topic, 2);
    const publisher = await broker.connect(t);
    const payload = Buffer.alloc(length, "abcdefg");
    for (const qos of [0, 1, 2] as const) {
      await publisher.publish(topic, payload, { qos });
      const [message] = await client.take(1);
      assert.equal(message?.qos, qos);
      assert.deepEqual(message.payloadBytes, payload);
    }
  });
}

for (const published of [0, 1, 2] as const) {
  for (const granted of [0, 1, 2] as const) {
    const least = Math.min(published, granted) as 0 | 1 | 2;
    test(`[MQTT-3.8.4-6] QoS ${published} reaches a QoS ${granted} subscription at QoS ${least}, by topic and wildcard`, async (t) => {
      const topic = fresh("t");
      const byTopic = await subscriber(t, broker, topic, granted);
      const byPlus = await subscriber(t, broker, `${topic}/+`, granted);
      const byHash = await subscriber(t, broker, `${topic}/#`, granted);
      const publisher = await broker.connect(t);
      await publisher.publish(topic, "1", { qos: published });
      await publisher.publish(`${topic}/a`, "2", { qos: published });
      await byTopic.expect("publish", { qos: least, payload: "1" });
      await byPlus.expect("publish", { qos: least, payload: "2" });
      const [first, second] = await byHash.take(2);
      assert.deepEqual([first?.qos, second?.qos], [least, least]);
    });
  }
}

test("[MQTT-3.3.5-1] overlapping subscriptions bring a message once, at the highest QoS", async (t) => {
  const root = fresh("t");
  const client = await broker.connect(t);
  const filters = [
    [`${root}/#`, 0],
    [`${root}/+`, 2],
    [`${root}/a`, 1],
    [`+/a`, 0],
  ] as const;
  await client.subscribe(filters.map(([filter, qos]) => ({ filter, qos })));
  const publisher = await broker.connect(t);
  for (const qos of [2, 1, 0] as const) {
    await publisher.publish(`${root}/a`, `${qos}`, { qos });
    const [message] = await client.take(1);
    assert.deepEqual([message?.qos, message?.payload], [qos, `${qos}`]);
  }
  await client.nothing();
});

test("[MQTT-3.3.5-1] overlapping subscriptions of a kept session bring a message once from the queue", async (t) => {
  const root = fresh("t");
  const clientId = fresh();
  const client = await broker.connect(t, { clientId, clean: false });
  const filters = [
    { filter: `${root}/#`, qos: 1 },
    { filter: `${root}/a`, qos: 2 },
    { filter: `${root}/+`, qos: 0 },
  ];
  await client.subscribe(filters);
  await client.disconnect();
  const publisher = await broker.connect(t);
  await publisher.publish(`${root}/a`, "1", { qos: 2 });
  await publisher.publish(`${root}/b`, "2", { qos: 2 });
  const again = await broker.connect(t, { clientId, clean: false });
  const messages = await again.take(2);
  assert.deepEqual(
    messages.map(({ qos, payload }) => [qos, payload]),
    [
      [2, "1"],
      [1, "2"],
    ],
  );
  await again.nothing();
});

test("[MQTT-4.5.0-1] a message reaches each client with a matching subscription, its publisher too", async (t) => {
  const topic = fresh("t");
  const clients = [];
  for (const qos of [0, 1, 2]) clients.push(await subscriber(t, broker, topic, qos));
  const publisher = await subscriber(t, broker, topic, 0);
  publisher.sendPublish({ topic, payload: "1" });
  for (const client of [...clients, publisher]) {
    await client.expect("publish", { topic, payload: "1", retain: false });
    await client.nothing();
  }
});

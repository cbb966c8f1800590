// unsubscribe.test: UNSUBSCRIBE and UNSUBACK (MQTT 3.1.1 §3.10, §3.11).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { absentee, assertCloses, publishOnce, resume, subscriber } from "../support/exchanges.ts";
import { hex, packet, unsubscribePacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

for (const flags of [0, 1, 3, 4, 6, 10, 15]) {
  test(`[MQTT-3.10.1-1] UNSUBSCRIBE with the flags ${flags} ends the connection`, async (t) => {
    await assertCloses(t, broker, unsubscribePacket({ filters: ["a"], flags }));
  });
}

test("[MQTT-3.10.3-2] UNSUBSCRIBE without a filter ends the connection", async (t) => {
  await assertCloses(t, broker, unsubscribePacket({ filters: [] }));
});

test("[MQTT-3.10.3-2] a filter that is cut short ends the connection", async (t) => {
  for (const body of ["0001 00", "0001 0002 61", "0001 0001 61 00"]) {
    await assertCloses(t, broker, packet(10, 2, hex(body)));
  }
});

test("[MQTT-3.10.4-4] [MQTT-2.3.1-7] UNSUBACK has the packet id of its UNSUBSCRIBE", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic);
  for (const packetId of [2, 256, 65_535]) {
    client.sendUnsubscribe({ packetId, filters: [topic] });
    await client.expect("unsuback", { packetId });
  }
});

test("[MQTT-3.10.4-5] a filter that is not subscribed to is acknowledged", async (t) => {
  const client = await broker.connect(t);
  await client.unsubscribe(fresh("t"));
  await client.unsubscribe("+", "#", "a/+/#");
});

test("[MQTT-3.10.4-1] only a filter equal in every character is taken away", async (t) => {
  const root = fresh("t");
  const client = await subscriber(t, broker, `${root}/+`);
  for (const other of ["#", "a", "+/", "", "A"]) await client.unsubscribe(`${root}/${other}`);
  await client.publish(`${root}/a`, "still");
  await client.expect("publish", { payload: "still" });
  await client.unsubscribe(`${root}/+`);
  await client.publish(`${root}/a`, "no more");
  await client.nothing();
});

test("[MQTT-3.10.4-1] what overlaps with the filter that goes stays, by topic and wildcard", async (t) => {
  const root = fresh("t");
  const client = await broker.connect(t);
  await client.subscribe([
    { filter: `${root}/#`, qos: 1 },
    { filter: `${root}/a`, qos: 1 },
  ]);
  const publisher = await broker.connect(t);
  await client.unsubscribe(`${root}/#`);
  await publisher.publish(`${root}/b`, "none", { qos: 1 });
  await publisher.publish(`${root}/a`, "1", { qos: 1 });
  await client.expect("publish", { payload: "1" });
  await client.subscribe(`${root}/#`, 1);
  await client.unsubscribe(`${root}/a`);
  await publisher.publish(`${root}/a`, "2", { qos: 1 });
  await client.expect("publish", { payload: "2" });
});

test("[MQTT-3.10.4-2] nothing new comes after UNSUBACK", async (t) => {
  const root = fresh("t");
  const client = await subscriber(t, broker, `${root}/a`, 1);
  await client.subscribe(`${root}/marker`);
  await client.unsubscribe(`${root}/a`);
  const publisher = await broker.connect(t);
  for (const qos of [0, 1, 2]) await publisher.publish(`${root}/a`, "late", { qos });
  await publisher.publish(`${root}/marker`, "marker");
  await client.expect("publish", { payload: "marker" });
});

for (const qos of [1, 2] as const) {
  test(`[MQTT-3.10.4-3] a QoS ${qos} message under way is delivered to the end`, async (t) => {
    const topic = fresh("t");
    const clientId = fresh();
    const client = await subscriber(t, broker, topic, qos, { clientId, clean: false });
    const publisher = await broker.connect(t);
    await publisher.publish(topic, "1", { qos });
    const { packetId } = await client.expect("publish", { qos, payload: "1" });
    await client.unsubscribe(topic);
    client.cut();
    const again = await resume(t, broker, clientId);
    await again.expect("publish", { qos, payload: "1", dup: true, packetId });
    if (qos === 1) again.sendPuback({ packetId });
    else {
      again.sendPubrec({ packetId });
      await again.expect("pubrel", { packetId });
      again.sendPubcomp({ packetId });
    }
    await again.nothing();
  });
}

test("[MQTT-3.10.4-6] many filters in one packet are taken away, each of them", async (t) => {
  const root = fresh("t");
  const client = await broker.connect(t);
  const topics = ["a", "b", "c", "d"].map((level) => `${root}/${level}`);
  await client.subscribe(topics.map((filter) => ({ filter })));
  await client.unsubscribe(...topics.slice(0, 3), `${root}/none`, topics[0] ?? "");
  for (const topic of topics) await client.publish(topic, "1");
  await client.expect("publish", { topic: topics[3] ?? "" });
  await client.nothing();
});

test("[MQTT-3.10.4-2] a kept session queues nothing for a filter that it has left", async (t) => {
  const topic = fresh("t");
  const clientId = await absentee(t, broker, topic, 1);
  const client = await resume(t, broker, clientId);
  await client.unsubscribe(topic);
  await client.disconnect();
  await publishOnce(t, broker, topic, "late", { qos: 1 });
  const again = await resume(t, broker, clientId);
  await again.nothing();
  await again.subscribe(topic, 1);
  await publishOnce(t, broker, topic, "1", { qos: 1 });
  const [message] = await again.take(1);
  assert.equal(message?.payload, "1");
});

// retained.test: retained messages (MQTT 3.1.1 §3.3.1.3).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { payloads, publishOnce, resume, retainedOf, subscriber } from "../support/exchanges.ts";
import { publishPacket, subscribePacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

for (const published of [0, 1, 2] as const) {
  for (const granted of [0, 1, 2] as const) {
    const qos = Math.min(published, granted) as 0 | 1 | 2;
    test(`[MQTT-3.3.1-5] [MQTT-3.8.4-6] retained at QoS ${published}, subscribed to at ${granted}: comes at ${qos}`, async (t) => {
      const root = fresh("t");
      await publishOnce(t, broker, `${root}/a`, "kept", { qos: published, retain: true });
      for (const filter of [`${root}/a`, `${root}/+`, `${root}/#`]) {
        const client = await subscriber(t, broker, filter, granted);
        await client.expect("publish", { topic: `${root}/a`, payload: "kept", qos, retain: true });
      }
    });
  }
}

test("[MQTT-3.3.1-6] a new subscription brings the last retained message of each topic", async (t) => {
  const root = fresh("t");
  const publisher = await broker.connect(t);
  for (const round of ["old", "new"]) {
    for (const level of ["a", "b", "c/d"]) {
      await publisher.publish(`${root}/${level}`, `${round} ${level}`, { qos: 1, retain: true });
    }
  }
  const client = await subscriber(t, broker, `${root}/#`, 1);
  const messages = await client.take(3);
  assert.deepEqual(payloads(messages).sort(), ["new a", "new b", "new c/d"]);
  assert.ok(messages.every(({ retain, dup }) => retain && !dup));
  await client.nothing();
});

test("[MQTT-3.3.1-7] a retained QoS 0 message takes the place of one of a higher QoS", async (t) => {
  const topic = fresh("t");
  await publishOnce(t, broker, topic, "old", { qos: 2, retain: true });
  await publishOnce(t, broker, topic, "new", { qos: 0, retain: true });
  const message = await retainedOf(t, broker, topic);
  assert.deepEqual([message?.payload, message?.qos], ["new", 0]);
});

test("[MQTT-3.3.1-8] [MQTT-3.3.1-9] RETAIN is set for a new subscription, not for one that is there", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 2);
  const publisher = await broker.connect(t);
  for (const qos of [0, 1, 2] as const) {
    await publisher.publish(topic, `${qos}`, { qos, retain: true });
    const [message] = await client.take(1);
    assert.deepEqual([message?.payload, message?.qos, message?.retain], [`${qos}`, qos, false]);
    assert.equal((await retainedOf(t, broker, topic))?.retain, true);
  }
});

test("[MQTT-3.3.1-9] RETAIN is not set for what waited in a kept session", async (t) => {
  const topic = fresh("t");
  const kept = { clientId: fresh(), clean: false };
  const client = await subscriber(t, broker, topic, 1, kept);
  await client.disconnect();
  await publishOnce(t, broker, topic, "1", { qos: 1, retain: true });
  const again = await resume(t, broker, kept.clientId);
  await again.expect("publish", { payload: "1", retain: false });
});

test("[MQTT-3.3.1-6] a session that goes on gets no retained messages without a SUBSCRIBE", async (t) => {
  const topic = fresh("t");
  const kept = { clientId: fresh(), clean: false };
  await publishOnce(t, broker, topic, "kept", { qos: 0, retain: true });
  const client = await subscriber(t, broker, topic, 1, kept);
  await client.take(1);
  await client.disconnect();
  const again = await resume(t, broker, kept.clientId);
  await again.nothing();
});

for (const qos of [0, 1, 2] as const) {
  test(`[MQTT-3.3.1-10] [MQTT-3.3.1-11] an empty retained QoS ${qos} message clears, and is passed on as any other`, async (t) => {
    const topic = fresh("t");
    await publishOnce(t, broker, topic, "kept", { qos: 1, retain: true });
    const client = await subscriber(t, broker, topic, 2);
    await client.take(1);
    await publishOnce(t, broker, topic, "", { qos, retain: true });
    const [message] = await client.take(1);
    assert.deepEqual([message?.payload, message?.qos, message?.retain], ["", qos, false]);
    assert.equal(await retainedOf(t, broker, topic), undefined);
  });
}

test("[MQTT-3.3.1-11] clearing a topic that has nothing retained stores nothing", async (t) => {
  const topic = fresh("t");
  await publishOnce(t, broker, topic, "", { qos: 1, retain: true });
  assert.equal(await retainedOf(t, broker, topic), undefined);
});

test("[MQTT-3.3.1-12] a message without RETAIN is not kept, and what is kept stays", async (t) => {
  const topic = fresh("t");
  await publishOnce(t, broker, topic, "plain", { qos: 1 });
  assert.equal(await retainedOf(t, broker, topic), undefined);
  await publishOnce(t, broker, topic, "kept", { qos: 1, retain: true });
  await publishOnce(t, broker, topic, "plain", { qos: 1 });
  await publishOnce(t, broker, topic, "", { qos: 1 });
  assert.equal((await retainedOf(t, broker, topic))?.payload, "kept");
});

test("[MQTT-3.1.2-7] a retained message outlives the session of its publisher", async (t) => {
  const topic = fresh("t");
  const clientId = fresh();
  const publisher = await broker.connect(t, { clientId, clean: false });
  await publisher.publish(topic, "kept", { qos: 1, retain: true });
  await publisher.disconnect();
  const again = await broker.connect(t, { clientId });
  await again.disconnect();
  assert.equal((await retainedOf(t, broker, topic))?.payload, "kept");
});

test("[MQTT-3.3.1-6] [MQTT-3.3.1-8] retained, then subscribed to, in one write: comes once, RETAIN set", async (t) => {
  for (const qos of [0, 1]) {
    const topic = fresh("t");
    const client = await broker.connect(t);
    client.send(
      publishPacket({ topic, payload: "kept", qos, packetId: 9, retain: true }),
      subscribePacket({ packetId: 2, filters: [{ filter: topic }] }),
    );
    const packets = [await client.next(), await client.next()];
    if (qos > 0) packets.push(await client.next());
    const messages = packets.filter(({ name }) => name === "publish");
    assert.deepEqual(
      messages.map(({ payload, retain }) => [payload, retain]),
      [["kept", true]],
    );
    await client.nothing();
  }
});

test("[MQTT-3.3.1-9] subscribed to, then retained, in one write: comes once, RETAIN not set", async (t) => {
  const topic = fresh("t");
  const client = await broker.connect(t);
  client.send(
    subscribePacket({ packetId: 2, filters: [{ filter: topic }] }),
    publishPacket({ topic, payload: "live", retain: true }),
  );
  await client.expect("suback", { packetId: 2 });
  await client.expect("publish", { payload: "live", retain: false });
  await client.nothing();
});

test("[MQTT-3.3.1-6] two thousand retained messages reach one new subscriber, each once", async (t) => {
  const root = fresh("t");
  const publisher = await broker.connect(t);
  for (let index = 0; index < 2_000; index++) {
    publisher.sendPublish({
      topic: `${root}/${index % 7}/${index}`,
      payload: `${index}`,
      retain: true,
    });
  }
  await publisher.ping();
  const client = await subscriber(t, broker, `${root}/#`, 1);
  const messages = await client.take(2_000);
  assert.equal(new Set(payloads(messages)).size, 2_000);
  await client.nothing();
});

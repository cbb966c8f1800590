// sessions.test: what is kept of a session, and for how long (MQTT 3.1.1 §3.1.2.4, §4.1).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import {
  absentee,
  numbers,
  payloads,
  publishOnce,
  resume,
  subscriber,
} from "../support/exchanges.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

test("[MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] Session Present tells whether there was one", async (t) => {
  const clientId = fresh();
  // Clean Session of each connection, and the Session Present that it must see.
  for (const [clean, sessionPresent] of [
    [false, false],
    [false, true],
    [false, true],
    [true, false],
    [false, false],
    [false, true],
    [true, false],
    [true, false],
  ] as const) {
    const client = await broker.connect(t, { clientId, clean });
    assert.equal(client.connack.sessionPresent, sessionPresent);
    await client.disconnect();
  }
});

test("[MQTT-3.2.2-2] Session Present is set for a session without any subscription", async (t) => {
  const clientId = fresh();
  const client = await broker.connect(t, { clientId, clean: false });
  client.cut();
  await resume(t, broker, clientId);
});

test("[MQTT-3.2.2-1] [MQTT-3.2.2-2] Session Present is right when it takes over", async (t) => {
  const clientId = fresh();
  await broker.connect(t, { clientId, clean: false });
  await resume(t, broker, clientId);
  const clean = await broker.connect(t, { clientId, clean: true });
  assert.equal(clean.connack.sessionPresent, false);
  const after = await broker.connect(t, { clientId, clean: false });
  assert.equal(after.connack.sessionPresent, false, "a session that ends with its connection");
});

test("[MQTT-3.1.2-4] [MQTT-4.1.0-1] subscriptions and their QoS outlive the connection", async (t) => {
  const root = fresh("t");
  const clientId = fresh();
  const client = await broker.connect(t, { clientId, clean: false });
  const filters = [0, 1, 2].map((qos) => ({ filter: `${root}/${qos}/+`, qos }));
  await client.subscribe(filters);
  await client.disconnect();
  const again = await resume(t, broker, clientId);
  const publisher = await broker.connect(t);
  for (const qos of [0, 1, 2] as const) {
    await publisher.publish(`${root}/${qos}/a`, `${qos}`, { qos: 2 });
    const [message] = await again.take(1);
    assert.deepEqual([message?.payload, message?.qos], [`${qos}`, qos]);
  }
});

for (const end of ["disconnect", "cut"] as const) {
  test(`[MQTT-3.1.2-5] QoS 1 and 2 messages wait for a session that was left by ${end}`, async (t) => {
    const topic = fresh("t");
    const clientId = fresh();
    const client = await subscriber(t, broker, topic, 2, { clientId, clean: false });
    if (end === "disconnect") await client.disconnect();
    else client.cut();
    const publisher = await broker.connect(t);
    for (const payload of numbers(6)) {
      await publisher.publish(topic, payload, { qos: 1 + (Number(payload) % 2) });
    }
    const again = await resume(t, broker, clientId);
    const messages = await again.take(6);
    assert.deepEqual(payloads(messages), numbers(6));
    assert.deepEqual(
      messages.map(({ qos }) => qos),
      [1, 2, 1, 2, 1, 2],
    );
    await again.nothing();
  });
}

test("[MQTT-3.8.4-6] what waits for a session comes at the lesser QoS", async (t) => {
  const root = fresh("t");
  const clientId = fresh();
  const client = await broker.connect(t, { clientId, clean: false });
  await client.subscribe([
    { filter: `${root}/a/#`, qos: 1 },
    { filter: `${root}/b`, qos: 2 },
  ]);
  await client.disconnect();
  const publisher = await broker.connect(t);
  await publisher.publish(`${root}/a/b`, "1", { qos: 2 });
  await publisher.publish(`${root}/b`, "2", { qos: 1 });
  const messages = await (await resume(t, broker, clientId)).take(2);
  assert.deepEqual(
    messages.map(({ payload, qos }) => [payload, qos]),
    [
      ["1", 1],
      ["2", 1],
    ],
  );
});

test("[MQTT-3.1.2-5] what was acknowledged does not come again, what was not does", async (t) => {
  const topic = fresh("t");
  const clientId = await absentee(t, broker, topic, 1);
  const publisher = await broker.connect(t);
  for (const payload of numbers(10)) await publisher.publish(topic, payload, { qos: 1 });
  const first = await resume(t, broker, clientId);
  await first.take(4);
  // The answer tells that the acknowledgements were read; what else came is not acknowledged.
  first.sendPingreq();
  for (let { name } = await first.next(); name !== "pingresp"; { name } = await first.next());
  first.cut();
  const second = await resume(t, broker, clientId);
  assert.deepEqual(payloads(await second.take(6)), numbers(10).slice(4));
  await second.nothing();
});

test("[MQTT-3.1.2-6] [MQTT-3.1.4-3] Clean Session throws subscriptions and queue away", async (t) => {
  const topic = fresh("t");
  const clientId = await absentee(t, broker, topic, 1);
  await publishOnce(t, broker, topic, "queued", { qos: 1 });
  const clean = await broker.connect(t, { clientId, clean: true });
  await publishOnce(t, broker, topic, "live", { qos: 1 });
  await clean.nothing();
  await clean.disconnect();
  const kept = await broker.connect(t, { clientId, clean: false });
  assert.equal(kept.connack.sessionPresent, false);
  await publishOnce(t, broker, topic, "later", { qos: 1 });
  await kept.nothing();
});

test("[MQTT-3.1.2-6] nothing of a clean session is there for the next connection", async (t) => {
  const topic = fresh("t");
  const clientId = fresh();
  const clean = await subscriber(t, broker, topic, 1, { clientId, clean: true });
  await publishOnce(t, broker, topic, "unacknowledged", { qos: 1 });
  await clean.expect("publish");
  clean.cut();
  const kept = await broker.connect(t, { clientId, clean: false });
  assert.equal(kept.connack.sessionPresent, false);
  await publishOnce(t, broker, topic, "later", { qos: 1 });
  await kept.nothing();
});

test("[MQTT-4.1.0-2] a clean session lasts as long as its connection", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 1);
  for (const payload of numbers(3)) {
    await publishOnce(t, broker, topic, payload, { qos: 1 });
    assert.deepEqual(payloads(await client.take(1)), [payload]);
  }
});

test("[MQTT-4.5.0-1] sessions queue each for itself", async (t) => {
  const topic = fresh("t");
  const ids = [];
  for (const qos of [1, 2, 1] as const) ids.push(await absentee(t, broker, topic, qos));
  const publisher = await broker.connect(t);
  for (const payload of numbers(3)) await publisher.publish(topic, payload, { qos: 2 });
  for (const clientId of ids) {
    const client = await resume(t, broker, clientId);
    assert.deepEqual(payloads(await client.take(3)), numbers(3));
    await client.nothing();
  }
});

test("[MQTT-3.1.2-5] five thousand messages wait, and come in their order", async (t) => {
  const topic = fresh("t");
  const clientId = await absentee(t, broker, topic, 1);
  const publisher = await broker.connect(t);
  const all = numbers(5_000);
  for (const payload of all) {
    publisher.sendPublish({ topic, payload, qos: 1, packetId: (Number(payload) % 500) + 1 });
    // A window of 500 at most.
    if (Number(payload) % 500 === 499)
      for (let n = 0; n < 500; n++) await publisher.expect("puback");
  }
  const client = await resume(t, broker, clientId);
  assert.deepEqual(payloads(await client.take(5_000)), all);
  await client.nothing();
});

// wills.test: the will in all its cases (MQTT 3.1.1 §3.1.2.5 to §3.1.2.7, §3.1.3.2, §3.1.3.3).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import {
  absentee,
  assertRefuses,
  publishOnce,
  resume,
  retainedOf,
  subscriber,
} from "../support/exchanges.ts";
import { connectPacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

test("[MQTT-3.1.2-8] a connection that breaks publishes the will, once", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic, 1);
  const client = await broker.connect(t, { will: { topic, payload: "will", qos: 1 } });
  client.cut();
  const [will] = await observer.take(1);
  assert.deepEqual([will?.payload, will?.qos, will?.dup], ["will", 1, false]);
  await publishOnce(t, broker, topic, "marker", { qos: 1 });
  assert.equal((await observer.take(1))[0]?.payload, "marker");
});

test("[MQTT-3.1.2-8] a protocol error publishes the will", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  for (const bytes of ["30", "00 00", "f0 00", "82 02 00 00", "20 02 00 00", "30 ff ff ff ff 01"]) {
    const client = await broker.connect(t, { will: { topic, payload: bytes } });
    client.send(bytes);
    // One byte alone is no error: it is the end that makes it one.
    if (bytes === "30") client.cut();
    await observer.expect("publish", { payload: bytes });
  }
});

test("[MQTT-3.1.2-8] [MQTT-3.1.4-2] a take-over publishes the will of the connection that goes", async (t) => {
  for (const clean of [true, false]) {
    const topic = fresh("t");
    const clientId = fresh();
    const observer = await subscriber(t, broker, topic);
    await broker.connect(t, { clientId, clean, will: { topic, payload: "first" } });
    await broker.connect(t, { clientId, clean, will: { topic, payload: "second" } });
    await observer.expect("publish", { payload: "first" });
    await publishOnce(t, broker, topic, "marker");
    await observer.expect("publish", { payload: "marker" });
  }
});

test("[MQTT-3.1.2-10] DISCONNECT removes the will from a kept session, too", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  const kept = { clientId: fresh(), clean: false };
  const first = await broker.connect(t, { ...kept, will: { topic, payload: "will" } });
  await first.disconnect();
  const second = await resume(t, broker, kept.clientId);
  second.cut();
  await publishOnce(t, broker, topic, "marker");
  await observer.expect("publish", { payload: "marker" });
});

test("[MQTT-3.1.2-10] [MQTT-3.1.2-12] a will that was published is gone: the next connection has none", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  const kept = { clientId: fresh(), clean: false };
  const first = await broker.connect(t, { ...kept, will: { topic, payload: "will" } });
  first.cut();
  await observer.expect("publish", { payload: "will" });
  const second = await resume(t, broker, kept.clientId);
  second.cut();
  const third = await resume(t, broker, kept.clientId);
  await third.ping();
  await publishOnce(t, broker, topic, "marker");
  await observer.expect("publish", { payload: "marker" });
});

for (const qos of [0, 1, 2] as const) {
  test(`[MQTT-3.1.2-14] [MQTT-3.1.2-16] a QoS ${qos} will is published at its QoS, and not retained`, async (t) => {
    const topic = fresh("t");
    const observer = await subscriber(t, broker, topic, 2);
    const client = await broker.connect(t, { will: { topic, payload: "will", qos } });
    client.cut();
    const [will] = await observer.take(1);
    assert.deepEqual([will?.payload, will?.qos, will?.retain], ["will", qos, false]);
    assert.equal(await retainedOf(t, broker, topic), undefined);
  });

  test(`[MQTT-3.1.2-17] a retained QoS ${qos} will is kept, and reaches who is there without RETAIN`, async (t) => {
    const topic = fresh("t");
    const observer = await subscriber(t, broker, topic, 2);
    const will = { topic, payload: "will", qos, retain: true };
    const client = await broker.connect(t, { will });
    client.cut();
    const [live] = await observer.take(1);
    assert.deepEqual([live?.payload, live?.qos, live?.retain], ["will", qos, false]);
    const kept = await retainedOf(t, broker, topic);
    assert.deepEqual([kept?.payload, kept?.qos, kept?.retain], ["will", qos, true]);
  });
}

test("[MQTT-3.1.2-17] [MQTT-3.3.1-10] an empty retained will clears what is retained", async (t) => {
  const topic = fresh("t");
  await publishOnce(t, broker, topic, "kept", { qos: 1, retain: true });
  const observer = await subscriber(t, broker, topic);
  await observer.take(1);
  const client = await broker.connect(t, { will: { topic, payload: "", retain: true } });
  client.cut();
  await observer.expect("publish", { payload: "" });
  assert.equal(await retainedOf(t, broker, topic), undefined);
});

test("[MQTT-3.1.2-8] a will waits for a session that is away", async (t) => {
  const topic = fresh("t");
  const clientId = await absentee(t, broker, topic, 1);
  const client = await broker.connect(t, { will: { topic, payload: "will", qos: 2 } });
  client.cut();
  const observer = await resume(t, broker, clientId);
  const [will] = await observer.take(1);
  assert.deepEqual([will?.payload, will?.qos], ["will", 1]);
});

test("[MQTT-3.1.2-8] a will of any bytes comes as it was", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  const payload = Buffer.from([0, 255, 0xc3, 0x28, 0, 1]);
  const client = await broker.connect(t, { will: { topic, payload } });
  client.cut();
  assert.deepEqual((await observer.expect("publish")).payloadBytes, payload);
});

for (const topic of ["", "#", "a/#", "+", "a/+/b", "a\0b"]) {
  test(`[MQTT-3.1.3-10] [MQTT-4.7.1-1] [MQTT-4.7.3-1] refuses the will topic ${JSON.stringify(topic)}`, async (t) => {
    await assertRefuses(t, broker, connectPacket({ clientId: fresh(), will: { topic } }));
  });
}

test("[MQTT-3.1.2-8] a will reaches its own client's kept session", async (t) => {
  const topic = fresh("t");
  const kept = { clientId: fresh(), clean: false };
  const will = { topic, payload: "will", qos: 1 };
  const client = await subscriber(t, broker, topic, 1, { ...kept, will });
  client.cut();
  const again = await resume(t, broker, kept.clientId);
  const [message] = await again.take(1);
  assert.equal(message?.payload, "will");
});

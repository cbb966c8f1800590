// rights.test: what a client has no right to (MQTT 3.1.1 §3.3.5, §3.9.3).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker({
  access: { rights: [{ publish: ["open/#"], subscribe: ["open/#"] }] },
});

for (const qos of [0, 1, 2] as const) {
  test(`[MQTT-3.3.5-2] a QoS ${qos} PUBLISH without a right goes nowhere: acknowledged, or the connection ended`, async (t) => {
    const publisher = await broker.connect(t);
    publisher.sendPublish({ topic: "closed/a", payload: "1", qos, packetId: 3, retain: true });
    publisher.sendPingreq();
    const answer = await publisher.next().catch(() => undefined);
    const names = [undefined, "pingresp", "puback", "pubrec"];
    assert.ok(names.includes(answer?.name), `answered with ${answer?.name}`);
    if (!answer) assert.equal(publisher.isClosed, true);
  });
}

test("[MQTT-3.9.3-1] [MQTT-3.8.4-5] a filter without a right gets 0x80 in its place, the others theirs", async (t) => {
  const client = await broker.connect(t);
  const topic = `open/${fresh("t")}`;
  const filters = ["closed/a", topic, "#", "+/a"].map((filter) => ({ filter, qos: 1 }));
  assert.deepEqual((await client.subscribe(filters)).codes, [0x80, 1, 0x80, 0x80]);
  const publisher = await broker.connect(t);
  await publisher.publish(topic, "1", { qos: 1 });
  await client.expect("publish", { topic, payload: "1" });
});

test("[MQTT-3.8.4-5] a filter that was refused is not there when the session goes on", async (t) => {
  const kept = { clientId: fresh(), clean: false };
  const client = await broker.connect(t, kept);
  const topic = `open/${fresh("t")}`;
  const { codes } = await client.subscribe([
    { filter: topic, qos: 1 },
    { filter: "#", qos: 1 },
  ]);
  assert.deepEqual(codes, [1, 0x80]);
  await client.disconnect();
  const publisher = await broker.connect(t);
  await publisher.publish(`open/${fresh("other")}`, "not for it", { qos: 1 });
  await publisher.publish(topic, "1", { qos: 1 });
  const again = await broker.connect(t, kept);
  const [message] = await again.take(1);
  assert.equal(message?.payload, "1");
  await again.nothing();
});

test("[MQTT-3.1.2-8] [MQTT-3.3.5-2] a will without a right goes nowhere", async (t) => {
  const observer = await broker.connect(t);
  await observer.subscribe("open/#");
  const client = await broker.open(t);
  client.sendConnect({ clientId: fresh(), will: { topic: "closed/will", payload: "will" } });
  await client.next();
  client.cut();
  await observer.nothing();
});

// interwork.test: clients of MQTT 5.0, 3.1.1 and 3.1 at one broker, and one session in two versions.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conformanceBroker } from "../support/broker.ts";
import type { Version } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5, nothingFrom } from "./clients.ts";

const broker = conformanceBroker();
const { connect } = mqtt5(broker);

const PROPERTIES = {
  payloadFormatIndicator: 1,
  contentType: "text/plain",
  userProperty: [["k", "v"]] as const,
};

const VERSIONS: readonly Version[] = [3, 4, 5];

for (const from of VERSIONS) {
  for (const to of VERSIONS) {
    test(`from version ${from} to ${to}: every QoS, live, retained and from the queue`, async (t) => {
      const topic = fresh("t");
      const options = to === 5 ? kept(fresh()) : { clientId: fresh(), clean: false };
      const publisher = await broker.connect(t, { version: from });
      const first = await broker.connect(t, { version: to, ...options });
      await first.subscribe(topic, 2);
      const properties = from === 5 ? PROPERTIES : {};
      const send = async () => {
        for (const qos of [0, 1, 2]) {
          await publisher.publish(topic, `${qos}`, { qos, retain: true, properties });
        }
      };
      await send();
      const live = await first.take(3);
      await first.disconnect();
      await send();
      const later = await broker.connect(t, { version: to });
      await later.subscribe(topic, 2);
      const retained = await later.take(1);
      const second = await broker.connect(t, { version: to, ...options });
      const queued = (await second.take(2)).filter(({ qos }) => qos > 0);
      const seen = [...live, ...retained, ...queued];
      assert.deepEqual(
        seen.map(({ payload, qos }) => [payload, qos]),
        ["0", "1", "2", "2", "1", "2"].map((it) => [it, Number(it)]),
      );
      const expected = to === 5 ? properties : {};
      for (const message of seen) assert.deepEqual(message.properties, expected);
    });
  }
}

test("a topic alias of a 5.0 publisher is the topic for a 3.1.1 subscriber", async (t) => {
  const [publisher, subscriber] = [await connect(t), await broker.connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic);
  for (const name of [topic, ""]) {
    publisher.sendPublish({ topic: name, properties: { topicAlias: 1 } });
    await subscriber.expect("publish", { topic });
  }
});

test("[MQTT-3.3.2-5] what has expired is not delivered to a 3.1.1 session either", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [
    await connect(t),
    await broker.connect(t, { clientId, clean: false }),
  ];
  await first.subscribe(topic, 1);
  await first.disconnect();
  const properties = { messageExpiryInterval: 1 };
  await publisher.publish(topic, "1", { qos: 1, properties });
  await publisher.publish(topic, "2", { qos: 1 });
  await sleep(1_500);
  const second = await broker.connect(t, { clientId, clean: false });
  await second.expect("publish", { payload: "2" });
});

test("a will of a 5.0 client reaches a 3.1.1 subscriber, and the other way round", async (t) => {
  const [old, current] = [await broker.connect(t), await connect(t)];
  const topic = fresh("w");
  await old.subscribe(topic);
  await current.subscribe(topic);
  const will = { topic, payload: "gone", properties: PROPERTIES };
  const clients = [await connect(t, { will }), await broker.connect(t, { will })];
  for (const [at, client] of clients.entries()) {
    client.cut();
    await old.expect("publish", { topic, payload: "gone" });
    const { properties } = await current.expect("publish", { topic, payload: "gone" });
    assert.deepEqual(properties, at === 0 ? PROPERTIES : {});
  }
});

test("[MQTT-3.1.2-5] a session of 3.1.1 is resumed by 5.0, and back", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const publisher = await connect(t);
  const first = await broker.connect(t, { clientId, clean: false });
  await first.subscribe(topic, 1);
  await publisher.publish(topic, "1", { qos: 1, properties: PROPERTIES });
  const { packetId } = await first.expect("publish", { payload: "1" });
  first.cut();
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  await second.expect("publish", { packetId, payload: "1", dup: true, properties: PROPERTIES });
  await second.disconnect();
  const third = await broker.connect(t, { clientId, clean: false });
  assert.equal(third.connack.sessionPresent, true);
  await third.expect("publish", { packetId, payload: "1", dup: true });
});

test("[MQTT-4.1.0-2] a session of 3.1.1 that 5.0 resumes without expiry ends with it", async (t) => {
  const clientId = fresh();
  await (await broker.connect(t, { clientId, clean: false })).disconnect();
  const second = await connect(t, { clientId, clean: false });
  assert.equal(second.connack.sessionPresent, true);
  await second.disconnect();
  const third = await broker.connect(t, { clientId, clean: false });
  assert.equal(third.connack.sessionPresent, false);
});

test("[MQTT-3.1.4-3] a take-over between versions: 5.0 is told, 3.1.1 is closed", async (t) => {
  const clientId = fresh();
  const first = await connect(t, { clientId });
  const second = await broker.connect(t, { clientId });
  await ended(first, CODE.sessionTakenOver);
  await connect(t, { clientId });
  assert.deepEqual(await second.closed(), []);
});

test("subscription identifiers, No Local and Retain As Published count for what 3.1.1 clients publish", async (t) => {
  const [publisher, subscriber] = [await broker.connect(t), await connect(t)];
  const topic = fresh("t");
  const properties = { subscriptionIdentifier: [3] };
  const filters = [{ filter: topic, retainAsPublished: true, noLocal: true }];
  await subscriber.subscribe(filters, 0, { properties });
  await publisher.publish(topic, "1", { retain: true, qos: 1 });
  await subscriber.expect("publish", { payload: "1", retain: true, properties });
});

test("a 3.1.1 client in a shared subscription takes its part, or is refused", async (t) => {
  const topic = fresh("t");
  const [publisher, old] = [await connect(t), await broker.connect(t)];
  const { codes } = await old.subscribe(`$share/g/${topic}`, 1);
  if (codes[0] === 0x80) return;
  assert.deepEqual(codes, [1]);
  await publisher.publish(topic, "1", { qos: 1 });
  await old.expect("publish", { topic, payload: "1" });
});

test("[MQTT-3.8.3-3] No Local knows its client over versions of its session", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const first = await connect(t, kept(clientId));
  await first.subscribe([{ filter: topic, qos: 1, noLocal: true }]);
  await first.disconnect();
  const second = await broker.connect(t, { clientId, clean: false });
  await second.publish(topic, "own", { qos: 1 });
  await nothingFrom(second, second);
});

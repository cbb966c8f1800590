// flow-control.test: Receive Maximum (MQTT 5.0 §4.9), towards a client and from one.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5 } from "./clients.ts";

const { connect } = mqtt5(conformanceBroker());
const narrow = mqtt5(conformanceBroker({ limits: { receive_messages_max: 3 } }));

const receive = (receiveMaximum: number) => ({ properties: { receiveMaximum } });

/** Publishes the numbers from 1 on, with the QoS that the list names. */
async function publishAll(
  publisher: WireClient,
  topic: string,
  ...qos: readonly number[]
): Promise<void> {
  for (const [at, it] of qos.entries()) await publisher.publish(topic, `${at + 1}`, { qos: it });
}

test("[MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] a client is sent its Receive Maximum of QoS 1, and one more for each PUBACK", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, receive(3))];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 1);
  await publishAll(publisher, topic, 1, 1, 1, 1, 1, 1, 1);
  const ids: number[] = [];
  for (const payload of ["1", "2", "3"]) {
    ids.push((await subscriber.expect("publish", { payload })).packetId);
  }
  await subscriber.nothing();
  for (const payload of ["4", "5", "6", "7"]) {
    subscriber.sendPuback({ packetId: Number(ids.shift()) });
    ids.push((await subscriber.expect("publish", { payload })).packetId);
    await subscriber.nothing();
  }
});

test("[MQTT-4.9.0-2] PUBCOMP gives back what QoS 2 took of the Receive Maximum, PUBREC does not", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, receive(1))];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  await publishAll(publisher, topic, 2, 2);
  const { packetId } = await subscriber.expect("publish", { payload: "1", qos: 2 });
  await subscriber.nothing();
  subscriber.sendPubrec({ packetId });
  await subscriber.expect("pubrel", { packetId });
  await subscriber.nothing();
  subscriber.sendPubcomp({ packetId });
  await subscriber.expect("publish", { payload: "2", qos: 2 });
});

test("[MQTT-4.9.0-2] PUBREC with a failure gives back what QoS 2 took, and no PUBREL follows", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, receive(1))];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  await publishAll(publisher, topic, 2, 2);
  const { packetId } = await subscriber.expect("publish", { payload: "1", qos: 2 });
  subscriber.sendPubrec({ packetId, code: CODE.unspecified });
  await subscriber.expect("publish", { payload: "2", qos: 2 });
});

test("[MQTT-4.9.0-2] PUBACK with a failure gives back what QoS 1 took", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, receive(1))];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 1);
  await publishAll(publisher, topic, 1, 1);
  const { packetId } = await subscriber.expect("publish", { payload: "1" });
  subscriber.sendPuback({ packetId, code: CODE.unspecified });
  await subscriber.expect("publish", { payload: "2" });
});

test("[MQTT-3.3.4-9] QoS 1 and QoS 2 share the Receive Maximum", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, receive(2))];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  await publishAll(publisher, topic, 2, 1, 2, 1);
  const first = await subscriber.expect("publish", { payload: "1", qos: 2 });
  const second = await subscriber.expect("publish", { payload: "2", qos: 1 });
  await subscriber.nothing();
  subscriber.sendPuback(second);
  await subscriber.expect("publish", { payload: "3", qos: 2 });
  await subscriber.nothing();
  subscriber.sendPubrec(first);
  await subscriber.expect("pubrel", { packetId: first.packetId });
  subscriber.sendPubcomp(first);
  await subscriber.expect("publish", { payload: "4", qos: 1 });
});

test("[MQTT-3.3.4-10] [MQTT-4.9.0-3] a client whose quota is used up gets every other answer", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, receive(1))];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  await publishAll(publisher, topic, 1, 1);
  await subscriber.expect("publish", { payload: "1" });
  await subscriber.ping();
  await subscriber.publish(fresh("t"), "own", { qos: 1 });
  await subscriber.publish(fresh("t"), "own", { qos: 2 });
  await subscriber.subscribe(fresh("t"));
  await subscriber.unsubscribe(topic);
});

test("[MQTT-3.3.4-9] the quota begins anew with a connection, and what is sent again counts", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 2);
  await publishAll(publisher, topic, 1, 2, 1, 2, 1);
  for (const payload of ["1", "2", "3", "4", "5"]) await first.expect("publish", { payload });
  first.cut();
  const second = await connect(t, kept(clientId, 100, { receiveMaximum: 2 }));
  const resent = await second.expect("publish", { payload: "1", dup: true });
  await second.expect("publish", { payload: "2", dup: true });
  await second.nothing();
  second.sendPuback(resent);
  await second.expect("publish", { payload: "3" });
  await second.nothing();
});

test("[MQTT-3.3.4-9] a PUBREL that is sent again is not held back, and holds its place in the quota", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 2);
  await publishAll(publisher, topic, 2, 2, 1);
  const released = [await first.expect("publish"), await first.expect("publish")];
  for (const message of released) {
    first.sendPubrec(message);
  }
  await first.expect("publish");
  for (const { packetId } of released) await first.expect("pubrel", { packetId });
  first.cut();
  const second = await connect(t, kept(clientId, 100, { receiveMaximum: 3 }));
  const came = [await second.next(), await second.next(), await second.next()];
  assert.deepEqual(
    came.map(({ name }) => name),
    ["pubrel", "pubrel", "publish"],
  );
  for (const { packetId } of released) second.sendPubcomp({ packetId });
  await second.nothing();
});

test("[MQTT-3.3.4-9] retained messages keep to the Receive Maximum, too", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, receive(2))];
  const level = fresh("t");
  for (let at = 0; at < 6; at += 1) {
    await publisher.publish(`${level}/${at}`, "1", { qos: (at % 2) + 1, retain: true });
  }
  await subscriber.subscribe(`${level}/+`, 1);
  const came = [await subscriber.expect("publish"), await subscriber.expect("publish")];
  await subscriber.nothing();
  for (const { packetId } of came) subscriber.sendPuback({ packetId });
  assert.equal((await subscriber.take(4)).length, 4);
});

test("[MQTT-3.3.4-9] a client without Receive Maximum is sent more than a few", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 1);
  for (let packetId = 1; packetId <= 50; packetId += 1) {
    publisher.sendPublish({ topic, payload: `${packetId}`, qos: 1, packetId });
  }
  // Unacknowledged: a sender may be satisfied with less than what is allowed, but not with nothing.
  for (let at = 1; at <= 10; at += 1) await subscriber.expect("publish", { payload: `${at}` });
});

test("[MQTT-3.3.4-7] a client that has more QoS 2 under way than the announced Receive Maximum is ended with 0x93", async (t) => {
  const client = await narrow.connect(t);
  assert.equal(client.connack.properties.receiveMaximum, 3);
  const topic = fresh("t");
  for (const packetId of [1, 2, 3]) {
    client.sendPublish({ topic, qos: 2, packetId });
    await client.expect("pubrec", { packetId, code: 0 });
  }
  client.sendPublish({ topic, qos: 2, packetId: 4 });
  await ended(client, CODE.receiveMaximumExceeded);
});

test("[MQTT-3.3.4-7] a client may use the announced Receive Maximum over and over", async (t) => {
  const client = await narrow.connect(t);
  const topic = fresh("t");
  for (let round = 0; round < 5; round += 1) {
    for (const packetId of [1, 2, 3]) {
      client.sendPublish({ topic, qos: 2, packetId });
      await client.expect("pubrec", { packetId, code: 0 });
    }
    for (const packetId of [1, 2, 3]) {
      client.sendPubrel({ packetId });
      await client.expect("pubcomp", { packetId, code: 0 });
    }
    for (const packetId of [1, 2, 3]) client.sendPublish({ topic, qos: 1, packetId });
    for (const packetId of [1, 2, 3]) await client.expect("puback", { packetId });
  }
});

test("[MQTT-3.3.4-7] QoS 0 and a QoS 2 PUBLISH that is sent again take nothing of the Receive Maximum", async (t) => {
  const client = await narrow.connect(t);
  const topic = fresh("t");
  for (const packetId of [1, 2, 3]) client.sendPublish({ topic, qos: 2, packetId });
  for (const packetId of [1, 2, 3]) await client.expect("pubrec", { packetId });
  for (let at = 0; at < 10; at += 1) client.sendPublish({ topic });
  client.sendPublish({ topic, qos: 2, packetId: 2, dup: true });
  await client.expect("pubrec", { packetId: 2 });
  await client.ping();
});

test("[MQTT-4.9.0-1] the quota of a client begins anew with its connection: what it released or has yet to release takes nothing of it", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const first = await narrow.connect(t, kept(clientId));
  for (const packetId of [1, 2, 3]) {
    first.sendPublish({ topic, qos: 2, packetId });
    await first.expect("pubrec", { packetId });
  }
  first.cut();
  const second = await narrow.connect(t, kept(clientId));
  for (const packetId of [4, 5, 6]) second.sendPublish({ topic, qos: 2, packetId });
  for (const packetId of [4, 5, 6]) await second.expect("pubrec", { packetId, code: 0 });
  for (const packetId of [1, 2, 3, 4, 5, 6]) second.sendPubrel({ packetId });
  for (const packetId of [1, 2, 3, 4, 5, 6]) await second.expect("pubcomp", { packetId, code: 0 });
});

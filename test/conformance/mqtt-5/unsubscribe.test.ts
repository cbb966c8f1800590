// unsubscribe.test: UNSUBSCRIBE and UNSUBACK (MQTT 5.0 §3.10, §3.11).
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { fresh } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5, nothingFrom, WRONG } from "./clients.ts";

const { connect } = mqtt5(conformanceBroker());

test("[MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-2.2.1-6] UNSUBSCRIBE is answered with its packet id, also when nothing is removed", async (t) => {
  const client = await connect(t);
  for (const packetId of [1, 65_535, 256]) {
    client.sendUnsubscribe({ packetId, filters: [fresh("t")] });
    await client.expect("unsuback", { packetId, codes: [CODE.noSubscriptionExisted] });
  }
});

test("[MQTT-2.2.1-3] UNSUBSCRIBE with the packet id 0 is refused", async (t) => {
  const client = await connect(t);
  client.sendUnsubscribe({ packetId: 0, filters: ["a"] });
  await ended(client, ...WRONG);
});

test("[MQTT-3.10.3-2] UNSUBSCRIBE without a filter is a protocol error", async (t) => {
  const client = await connect(t);
  client.sendUnsubscribe({ filters: [] });
  await ended(client, ...WRONG);
});

test("[MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2] UNSUBACK has a code for each filter, in order, as if they came one by one", async (t) => {
  const client = await connect(t);
  const [a, b, c] = [fresh("t"), fresh("t"), fresh("t")];
  await client.subscribe([{ filter: a }, { filter: b }]);
  const { codes } = await client.unsubscribe(c, a, a, b);
  const none = CODE.noSubscriptionExisted;
  assert.deepEqual(codes, [none, CODE.success, none, CODE.success]);
});

test("[MQTT-3.10.4-1] a filter is compared character by character", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const level = fresh("t");
  await subscriber.subscribe([{ filter: `${level}/+` }, { filter: `${level}/é` }]);
  const others = [`${level}/#`, `${level}/a`, `${level}/e\u0301`, `${level}/É`, `${level}/+/`];
  const { codes } = await subscriber.unsubscribe(...others);
  assert.deepEqual(
    codes,
    others.map(() => CODE.noSubscriptionExisted),
  );
  await publisher.publish(`${level}/a`, "1");
  await subscriber.expect("publish", { topic: `${level}/a` });
  assert.deepEqual((await subscriber.unsubscribe(`${level}/+`)).codes, [CODE.success]);
  await publisher.publish(`${level}/a`, "2", { qos: 1 });
  await publisher.publish(`${level}/é`, "3", { qos: 1 });
  await subscriber.expect("publish", { topic: `${level}/é`, payload: "3" });
});

test("[MQTT-3.10.4-2] after UNSUBACK nothing new is added for the filter", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 1);
  await first.unsubscribe(topic);
  await publisher.publish(topic, "1", { qos: 1 });
  await nothingFrom(publisher, first);
  await first.disconnect();
  await publisher.publish(topic, "2", { qos: 1 });
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  await nothingFrom(publisher, second);
});

test("[MQTT-3.10.4-3] what was begun with QoS 2 is completed after UNSUBSCRIBE", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  await publisher.publish(topic, "1", { qos: 2 });
  const { packetId } = await subscriber.expect("publish", { qos: 2 });
  await subscriber.unsubscribe(topic);
  subscriber.sendPubrec({ packetId });
  await subscriber.expect("pubrel", { packetId, code: CODE.success });
  subscriber.sendPubcomp({ packetId });
  await subscriber.nothing();
});

test("[MQTT-3.10.4-3] what was begun before UNSUBSCRIBE is sent again on the next connection", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 2);
  for (const qos of [1, 2]) await publisher.publish(topic, `${qos}`, { qos });
  const sent = [await first.expect("publish"), await first.expect("publish")];
  await first.unsubscribe(topic);
  first.cut();
  const second = await connect(t, kept(clientId));
  for (const { packetId, payload } of sent) {
    await second.expect("publish", { packetId, payload, dup: true });
  }
});

test("[MQTT-3.11.3-2] the removal of an ill-formed filter removes nothing", async (t) => {
  const client = await connect(t);
  client.sendUnsubscribe({ filters: ["a#", "a/+b"] });
  const answer = await client.next();
  const allowed: number[] = [CODE.topicFilterInvalid, CODE.noSubscriptionExisted, ...WRONG];
  assert.ok(answer.name === "unsuback" || answer.name === "disconnect", answer.name);
  const codes = answer.name === "unsuback" ? answer.codes : [answer.code];
  assert.ok(codes.every((code) => allowed.includes(code)));
});

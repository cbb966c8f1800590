// topic-alias.test: topic aliases (MQTT 5.0 §3.3.2.3.4), from a client and towards one.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5 } from "./clients.ts";

const { connect } = mqtt5(conformanceBroker());
const withoutAliases = mqtt5(conformanceBroker({ limits: { topic_aliases_max: 0 } }));

const maximumOf = ({ connack }: WireClient) => Number(connack.properties.topicAliasMaximum ?? 0);

test("[MQTT-3.3.2-12] every alias up to the announced maximum stands for the topic that it was given", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const level = fresh("t");
  await subscriber.subscribe(`${level}/+`);
  const maximum = maximumOf(publisher);
  assert.ok(maximum > 0, "no alias is allowed");
  const aliases = Array.from({ length: Math.min(maximum, 100) }, (_, at) => maximum - at);
  for (const topicAlias of aliases) {
    publisher.sendPublish({ topic: `${level}/${topicAlias}`, properties: { topicAlias } });
    await subscriber.expect("publish", { topic: `${level}/${topicAlias}` });
  }
  for (const topicAlias of aliases) {
    publisher.sendPublish({ topic: "", payload: "again", properties: { topicAlias } });
    await subscriber.expect("publish", { topic: `${level}/${topicAlias}`, payload: "again" });
  }
});

test("[MQTT-3.3.2-12] an alias that is given another topic stands for that one", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const [one, two] = [fresh("t"), fresh("t")];
  await subscriber.subscribe([{ filter: one }, { filter: two }]);
  for (const topic of [one, "", two, ""]) {
    publisher.sendPublish({ topic, properties: { topicAlias: 1 } });
  }
  for (const topic of [one, one, two, two]) await subscriber.expect("publish", { topic });
});

for (const qos of [1, 2]) {
  test(`[MQTT-3.3.2-12] an alias is good for QoS ${qos} too`, async (t) => {
    const [publisher, subscriber] = [await connect(t), await connect(t)];
    const topic = fresh("t");
    await subscriber.subscribe(topic, 2);
    await publisher.publish(topic, "1", { qos, properties: { topicAlias: 1 } });
    await publisher.publish("", "2", { qos, properties: { topicAlias: 1 } });
    const messages = await subscriber.take(2);
    assert.deepEqual(
      messages.map((message) => [message.topic, message.qos, message.properties]),
      [
        [topic, qos, {}],
        [topic, qos, {}],
      ],
    );
  });
}

test("[MQTT-3.3.2-8] the alias 0 is refused", async (t) => {
  const client = await connect(t);
  client.sendPublish({ topic: "a", properties: { topicAlias: 0 } });
  await ended(client, CODE.topicAliasInvalid);
});

test("[MQTT-3.3.2-9] [MQTT-3.2.2-17] an alias above the announced maximum is refused", async (t) => {
  const client = await connect(t);
  const topicAlias = maximumOf(client) + 1;
  client.sendPublish({ topic: "a", properties: { topicAlias } });
  await ended(client, CODE.topicAliasInvalid);
});

test("[MQTT-3.2.2-18] a broker that allows no alias announces none and refuses any", async (t) => {
  const client = await withoutAliases.connect(t);
  assert.equal(maximumOf(client), 0);
  client.sendPublish({ topic: "a", properties: { topicAlias: 1 } });
  await ended(client, CODE.topicAliasInvalid);
});

test("[MQTT-4.13.1-1] an alias that stands for nothing is a protocol error", async (t) => {
  const client = await connect(t);
  client.sendPublish({ topic: "", properties: { topicAlias: 1 } });
  await ended(client, CODE.protocolError, CODE.topicAliasInvalid);
});

test("[MQTT-3.3.2-7] aliases end with the connection, also when the session does not", async (t) => {
  const clientId = fresh();
  const first = await connect(t, kept(clientId));
  await first.publish(fresh("t"), "1", { qos: 1, properties: { topicAlias: 1 } });
  await first.disconnect();
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  second.sendPublish({ topic: "", properties: { topicAlias: 1 } });
  await ended(second, CODE.protocolError, CODE.topicAliasInvalid);
});

test("[MQTT-3.3.2-7] a client's aliases do not name topics towards it", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, alias(1))];
  const [mine, yours] = [fresh("t"), fresh("t")];
  await subscriber.subscribe(yours);
  await subscriber.publish(mine, "1", { qos: 1, properties: { topicAlias: 1 } });
  await publisher.publish(yours, "1");
  assert.equal(topicOf(new Map(), await subscriber.expect("publish")), yours);
});

test("[MQTT-3.1.2-27] a client that allows no alias is sent none", async (t) => {
  for (const options of [{}, alias(0)]) {
    const [publisher, subscriber] = [await connect(t), await connect(t, options)];
    const topic = fresh("t");
    await subscriber.subscribe(topic);
    for (const payload of ["1", "2", "3"]) {
      await publisher.publish(topic, payload, { properties: { topicAlias: 1 } });
      const { properties } = await subscriber.expect("publish", { topic, payload });
      assert.equal(properties.topicAlias, undefined);
    }
  }
});

test("[MQTT-3.1.2-26] [MQTT-3.3.2-11] aliases towards a client stay within its maximum and always stand for the topic", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t, alias(2))];
  const level = fresh("t");
  await subscriber.subscribe(`${level}/+`, 1);
  const known = new Map<number, string>();
  for (let round = 0; round < 24; round += 1) {
    const topic = `${level}/${[1, 2, 3, 1, 1, 4][round % 6]}`;
    await publisher.publish(topic, `${round}`, { qos: round % 2 });
    const message = await subscriber.expect("publish", { payload: `${round}` });
    assert.equal(topicOf(known, message), topic);
    assert.ok(known.size <= 2 && [...known.keys()].every((it) => it >= 1 && it <= 2));
    if (message.qos === 1) subscriber.sendPuback({ packetId: message.packetId });
  }
});

test("[MQTT-3.3.2-7] what is sent again on a new connection names its topic anew", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, aliasKept(clientId, 5))];
  await first.subscribe(topic, 1);
  for (const payload of ["1", "2", "3"]) await publisher.publish(topic, payload, { qos: 1 });
  const known = new Map<number, string>();
  for (const payload of ["1", "2", "3"]) {
    assert.equal(topicOf(known, await first.expect("publish", { payload })), topic);
  }
  first.cut();
  const second = await connect(t, aliasKept(clientId, 0));
  for (const payload of ["1", "2", "3"]) {
    const { properties } = await second.expect("publish", { topic, payload, dup: true });
    assert.equal(properties.topicAlias, undefined);
  }
});

function alias(topicAliasMaximum: number) {
  return { properties: { topicAliasMaximum } };
}

function aliasKept(clientId: string, topicAliasMaximum: number) {
  return kept(clientId, 100, { topicAliasMaximum });
}

type Message = Awaited<ReturnType<WireClient["next"]>>;

/** The topic that a message came on, whether it names it or an alias that `known` holds. */
function topicOf(known: Map<number, string>, { topic, properties }: Message): string {
  const { topicAlias } = properties;
  if (topicAlias === undefined) return topic;
  if (topic !== "") known.set(Number(topicAlias), topic);
  return known.get(Number(topicAlias)) ?? "an alias that stands for nothing";
}

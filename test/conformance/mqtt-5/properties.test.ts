// properties.test: PUBLISH properties (MQTT 5.0 §3.3.2.3) from one end to the other, by every way.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { fresh } from "../support/wire-client.ts";
import type { Properties } from "../support/wire-properties.ts";
import type { Packet } from "../support/wire-read.ts";
import { CODE, kept, mqtt5 } from "./clients.ts";

const broker = conformanceBroker();
const { connect } = mqtt5(broker);

// Payload Format Indicator [MQTT-3.3.2-4], Response Topic [MQTT-3.3.2-15], Correlation Data
// [MQTT-3.3.2-16], User Properties [MQTT-3.3.2-17] in their order [MQTT-3.3.2-18], Content Type
// [MQTT-3.3.2-20]: all must arrive unaltered.
const ALL: Properties = {
  payloadFormatIndicator: 1,
  contentType: "text/plain; charset=ütf-8",
  responseTopic: "answers/ä/1",
  correlationData: Buffer.from([0, 1, 255, 0]),
  userProperty: [
    ["b", "1"],
    ["a", "2"],
    ["b", "3"],
    ["b", "1"],
    ["", ""],
    ["\ufeffkey", "\ufeffvalue"],
    ["long", "x".repeat(5_000)],
  ],
};
const CLAUSES =
  "[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]";

const EDGES: Readonly<Record<string, Properties>> = {
  "none at all": {},
  "a payload format of 0": { payloadFormatIndicator: 0 },
  "an empty content type": { contentType: "" },
  "empty correlation data": { correlationData: Buffer.alloc(0) },
  "the largest correlation data": { correlationData: Buffer.alloc(65_535, 7) },
  "the longest strings": { userProperty: [["k".repeat(65_535), "v".repeat(65_535)]] },
  "many user properties": {
    userProperty: Array.from({ length: 1_000 }, (_, at) => [`k${at % 7}`, `${at}`] as const),
  },
};

for (const qos of [0, 1, 2]) {
  test(`${CLAUSES} live, QoS ${qos}, to every subscriber`, async (t) => {
    const [publisher, one, two] = [await connect(t), await connect(t), await connect(t)];
    const topic = fresh("t");
    await one.subscribe(topic, 2);
    await two.subscribe(`$share/g/${topic}`, 0);
    await publisher.publish(topic, "1", { qos, properties: ALL });
    for (const client of [one, two]) {
      const [message] = await client.take(1);
      assert.deepEqual(message?.properties, ALL);
    }
  });
}

for (const [name, properties] of Object.entries(EDGES)) {
  test(`[MQTT-3.3.2-17] ${name}, live, retained and from the queue`, async (t) => {
    const clientId = fresh();
    const topic = fresh("t");
    const [publisher, first, later] = [
      await connect(t),
      await connect(t, kept(clientId)),
      await connect(t),
    ];
    await first.subscribe(topic, 1);
    const send = () => publisher.publish(topic, "1", { qos: 1, retain: true, properties });
    await send();
    const [live] = await first.take(1);
    await first.disconnect();
    await send();
    await later.subscribe(topic);
    const [retained] = await later.take(1);
    const [queued] = await (await connect(t, kept(clientId))).take(1);
    for (const message of [live, retained, queued])
      assert.deepEqual(message?.properties, properties);
  });
}

test(`${CLAUSES} retained and from the queue`, async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first, later] = [
    await connect(t),
    await connect(t, kept(clientId)),
    await connect(t),
  ];
  await first.subscribe(topic, 2);
  await first.disconnect();
  for (const qos of [1, 2]) {
    await publisher.publish(topic, "1", { qos, retain: true, properties: ALL });
  }
  await later.subscribe(topic);
  const second = await connect(t, kept(clientId));
  const messages = [...(await later.take(1)), ...(await second.take(2))];
  for (const message of messages) assert.deepEqual(message.properties, ALL);
});

test(`${CLAUSES} sent again after a broken connection`, async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 1);
  await publisher.publish(topic, "1", { qos: 1, properties: ALL });
  await first.expect("publish");
  first.cut();
  const again = await (await connect(t, kept(clientId))).expect("publish", { dup: true });
  assert.deepEqual(again.properties, ALL);
});

test(`${CLAUSES} when a topic alias and an expiry stand between them`, async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic);
  const { contentType, userProperty, ...rest } = ALL;
  const properties = {
    ...{ userProperty, topicAlias: 1, contentType, messageExpiryInterval: 100, ...rest },
  } as Properties;
  for (const name of [topic, ""]) {
    publisher.sendPublish({ topic: name, properties });
    const { messageExpiryInterval, ...came } = (await subscriber.expect("publish")).properties;
    assert.deepEqual(came, ALL);
    assert.ok(Number(messageExpiryInterval) >= 99);
  }
});

test(`${CLAUSES} retained, queued and under way over a restart of the broker`, async (t) => {
  const [waitingId, underWayId] = [fresh(), fresh()];
  const topic = fresh("t");
  const waiting = await connect(t, kept(waitingId));
  const underWay = await connect(t, kept(underWayId));
  for (const client of [waiting, underWay]) await client.subscribe(topic, 1);
  await waiting.disconnect();
  const publisher = await connect(t);
  await publisher.publish(topic, "1", { qos: 1, retain: true, properties: ALL });
  const sent = await underWay.expect("publish");
  await broker.restart();
  const later = await connect(t);
  await later.subscribe(topic);
  const messages: Packet[] = [
    ...(await later.take(1)),
    ...(await (await connect(t, kept(waitingId))).take(1)),
  ];
  const again = await (await connect(t, kept(underWayId))).expect("publish");
  assert.deepEqual([again.packetId, again.payload], [sent.packetId, "1"]);
  for (const message of [...messages, again]) assert.deepEqual(message.properties, ALL);
});

test("[MQTT-3.3.2-15] [MQTT-3.3.2-16] a request is answered on its response topic with its correlation data", async (t) => {
  const [asker, answerer] = [await connect(t), await connect(t)];
  const [questions, responseTopic] = [fresh("q"), fresh("a")];
  await answerer.subscribe(questions, 1);
  await asker.subscribe(responseTopic, 1);
  const correlationData = Buffer.from([9, 0, 9]);
  await asker.publish(questions, "?", { qos: 1, properties: { responseTopic, correlationData } });
  const [question] = await answerer.take(1);
  const answer = { qos: 1, properties: { correlationData: question?.properties.correlationData } };
  await answerer.publish(String(question?.properties.responseTopic), "!", answer as object);
  await asker.expect("publish", { payload: "!", properties: { correlationData } });
});

test("[MQTT-2.2.2-1] user properties and reason strings of every other packet are taken and passed to nobody", async (t) => {
  const userProperty = [["k", "v"]] as const;
  const both = { userProperty, reasonString: "because" };
  const topic = fresh("t");
  const client = await connect(t, { properties: { userProperty } });
  await client.subscribe([{ filter: topic, qos: 2 }], 0, { properties: { userProperty } });
  await client.publish(topic, "1", { qos: 0 });
  await client.expect("publish", { properties: {} });
  for (const qos of [1, 2]) {
    const publisher = await connect(t);
    publisher.sendPublish({ topic, qos, packetId: 3 });
    const { packetId } = await client.expect("publish", { qos: qos as 1 | 2, properties: {} });
    if (qos === 1) client.sendPuback({ packetId, code: CODE.success, properties: both });
    else {
      client.sendPubrec({ packetId, code: CODE.success, properties: both });
      await client.expect("pubrel", { packetId });
      client.sendPubcomp({ packetId, code: CODE.success, properties: both });
      await publisher.expect("pubrec", { packetId: 3 });
      publisher.sendPubrel({ packetId: 3, code: CODE.success, properties: both });
      await publisher.expect("pubcomp", { packetId: 3, code: CODE.success });
    }
  }
  client.sendUnsubscribe({ packetId: 11, filters: [topic], properties: { userProperty } });
  await client.expect("unsuback", { packetId: 11 });
  await client.disconnect({ code: CODE.success, properties: both });
});

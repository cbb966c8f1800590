// publish.test: PUBLISH (MQTT 5.0 §3.3) and topics (§4.7): what a publisher may say, who gets it.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { hex, packet } from "../support/wire-build.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import { CODE, ended, mqtt5, nothingFrom, WRONG } from "./clients.ts";

const { connect } = mqtt5(conformanceBroker());

test("[MQTT-3.3.4-1] QoS 0 is not answered, QoS 1 by PUBACK, QoS 2 by PUBREC", async (t) => {
  const client = await connect(t);
  const topic = fresh("t");
  client.sendPublish({ topic });
  await client.nothing();
  client.sendPublish({ topic, qos: 1, packetId: 65_535 });
  await client.expect("puback", { packetId: 65_535 });
  client.sendPublish({ topic, qos: 2, packetId: 513 });
  await client.expect("pubrec", { packetId: 513 });
  client.sendPubrel({ packetId: 513 });
  await client.expect("pubcomp", { packetId: 513, code: 0 });
});

test("[MQTT-2.2.1-5] each acknowledgement carries the id of its PUBLISH", async (t) => {
  const client = await connect(t);
  const topic = fresh("t");
  for (const packetId of [9, 1, 65_535, 256]) client.sendPublish({ topic, qos: 1, packetId });
  for (const packetId of [9, 1, 65_535, 256]) await client.expect("puback", { packetId });
});

test("[MQTT-2.2.1-2] [MQTT-3.3.2-3] [MQTT-4.3.1-1] topic and payload arrive as they were sent", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = `${fresh("t")}/ä/€/𝄞`;
  const payload = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
  await subscriber.subscribe(topic);
  await publisher.publish(topic, payload);
  const message = await subscriber.expect("publish", { topic, qos: 0, dup: false, retain: false });
  assert.deepEqual(message.payloadBytes, payload);
});

test("[MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1] packet ids towards a client are its own and not in use", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  const inUse = new Set<number>();
  for (let round = 0; round < 20; round += 1) {
    await publisher.publish(topic, `${round}`, { qos: (round % 2) + 1 });
    const { packetId, qos } = await subscriber.expect("publish", { payload: `${round}` });
    assert.ok(packetId > 0 && !inUse.has(packetId), `${packetId} is in use`);
    if (round % 3 > 0 || qos === 2) inUse.add(packetId);
    else subscriber.sendPuback({ packetId });
  }
});

for (const qos of [1, 2]) {
  test(`[MQTT-2.2.1-3] the packet id 0 with QoS ${qos} is refused`, async (t) => {
    const client = await connect(t);
    client.sendPublish({ topic: "a", qos, packetId: 0 });
    await ended(client, ...WRONG);
  });
}

test("[MQTT-3.3.1-2] DUP with QoS 0 is refused", async (t) => {
  const client = await connect(t);
  client.sendPublish({ topic: "a", dup: true });
  await ended(client, ...WRONG);
});

test("[MQTT-3.3.1-3] the publisher's DUP is not passed on", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  for (const qos of [1, 2] as const) {
    await publisher.publish(topic, "1", { qos, dup: true });
    await subscriber.expect("publish", { qos, dup: false });
  }
});

test("[MQTT-3.3.1-4] QoS 3 is malformed", async (t) => {
  const client = await connect(t);
  client.sendPublish({ topic: "a", qos: 3 });
  await ended(client, CODE.malformedPacket);
});

test("[MQTT-3.3.1-5] a retained message replaces the one before, with its own QoS", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  for (const qos of [2, 0, 1]) await publisher.publish(topic, `${qos}`, { qos, retain: true });
  await subscriber.subscribe(topic, 2);
  const { packetId } = await subscriber.expect("publish", { payload: "1", qos: 1, retain: true });
  subscriber.sendPuback({ packetId });
  await subscriber.nothing();
});

test("[MQTT-3.3.1-6] [MQTT-3.3.1-7] an empty retained message is passed on and removes what was retained", async (t) => {
  const [publisher, subscriber, later] = [await connect(t), await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic);
  for (const payload of ["1", ""]) {
    await publisher.publish(topic, payload, { qos: 1, retain: true });
    await subscriber.expect("publish", { payload, retain: false });
  }
  await later.subscribe(topic);
  await nothingFrom(publisher, later);
});

test("[MQTT-3.3.1-8] without RETAIN nothing retained is stored, replaced or removed", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const [one, two] = [fresh("t"), fresh("t")];
  await publisher.publish(one, "retained", { qos: 1, retain: true });
  await publisher.publish(one, "plain", { qos: 1 });
  await publisher.publish(one, "", { qos: 1 });
  await publisher.publish(two, "plain", { qos: 1 });
  await subscriber.subscribe([{ filter: one }, { filter: two }]);
  await subscriber.expect("publish", { topic: one, payload: "retained", retain: true });
  await nothingFrom(publisher, subscriber);
});

test("[MQTT-3.3.2-1] a PUBLISH without a topic is refused", async (t) => {
  for (const body of ["", "00", "0005 61"]) {
    const client = await connect(t);
    client.send(packet(3, 0, hex(body)));
    await ended(client, ...WRONG);
  }
});

for (const topic of ["#", "+", "a/#", "a/+/b", "a+", "#a"]) {
  test(`[MQTT-3.3.2-2] [MQTT-4.7.0-1] the topic name ${topic} is refused`, async (t) => {
    const client = await connect(t);
    client.sendPublish({ topic, qos: 1 });
    await ended(client, CODE.topicNameInvalid, ...WRONG);
  });
}

test("[MQTT-4.7.3-1] an empty topic name without an alias is a protocol error", async (t) => {
  const client = await connect(t);
  client.sendPublish({ topic: "" });
  await ended(client, CODE.protocolError, CODE.topicNameInvalid);
});

test("[MQTT-3.3.4-6] a Subscription Identifier from a client is refused", async (t) => {
  const client = await connect(t);
  client.sendPublish({ topic: "a", properties: { subscriptionIdentifier: [1] } });
  await ended(client, ...WRONG);
});

test("[MQTT-4.7.3-3] a topic of 65,535 bytes is passed on", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t").padEnd(65_535, "x");
  await subscriber.subscribe(topic);
  await publisher.publish(topic, "1", { qos: 1 });
  await subscriber.expect("publish", { topic, payload: "1" });
});

test("[MQTT-4.7.2-1] a filter that begins with a wildcard does not match a topic that begins with $", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const level = fresh("t");
  await subscriber.subscribe([
    { filter: "#" },
    { filter: `+/${level}` },
    { filter: `+/${level}/#` },
  ]);
  await publisher.publish(`$other/${level}`, "1", { qos: 1 });
  await publisher.publish("end", level);
  for (;;) {
    const { topic, payload } = await subscriber.expect("publish");
    assert.ok(!topic.startsWith("$"), topic);
    if (topic === "end" && payload === level) break;
  }
});

const MATCHES: readonly (readonly [filter: string, topics: string])[] = [
  ["T/#", "T T/ T/a T/a/b T//"],
  ["T/+", "T/ T/a"],
  ["T/+/b", "T/a/b T//b"],
  ["T/+/+", "T/a/b T//b T//"],
  ["+/T", "/T"],
  ["/T", "/T"],
  ["T", "T"],
  ["T/", "T/"],
];

for (const [filter, topics] of MATCHES) {
  test(`[MQTT-4.7.1-2] ${filter} matches ${topics} and nothing else`, async (t) => {
    const [publisher, subscriber] = [await connect(t), await connect(t)];
    const level = fresh("t");
    const named = (text: string) => text.replace("T", level);
    await subscriber.subscribe(named(filter));
    const all = "T T/ T/a T/a/b T//b T// /T Tx T/a/b/c".split(" ").map(named);
    const matching = new Set(topics.split(" ").map(named));
    if (filter.endsWith("#")) matching.add(named("T//b")).add(named("T/a/b/c"));
    for (const topic of all) await publisher.publish(topic, "1", { qos: 1 });
    for (const topic of all) {
      if (matching.has(topic)) await subscriber.expect("publish", { topic });
    }
    await nothingFrom(publisher, subscriber);
  });
}

test("[MQTT-4.7.3-4] [MQTT-1.5.4-3] topics are compared as they are: no case, no normal form, no byte order mark is lost", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const level = fresh("t");
  const topics = ["é", "e\u0301", "É", "\ufeffé", " é", "é ", "\u212b", "\u00c5"];
  await subscriber.subscribe(topics.map((it, at) => ({ filter: `${level}/${it}`, qos: at % 2 })));
  for (const it of topics) {
    await publisher.publish(`${level}/${it}`, it, { qos: 1 });
    await subscriber.expect("publish", { topic: `${level}/${it}`, payload: it });
  }
  await nothingFrom(publisher, subscriber);
});

for (const qos of [0, 1, 2]) {
  test(`[MQTT-4.6.0-5] [MQTT-4.6.0-6] messages of QoS ${qos} arrive in the order of their publisher, retained or not, large and small`, async (t) => {
    const [publisher, subscriber] = [await connect(t), await connect(t)];
    const topic = fresh("t");
    await subscriber.subscribe(topic, qos);
    const payloads = Array.from({ length: 60 }, (_, at) => `${at} `.padEnd(at % 7 ? 10 : 20_000));
    const delivered = subscriber.take(payloads.length);
    for (let at = 0; at < payloads.length; at += 15) {
      await publishAtOnce(publisher, topic, payloads.slice(at, at + 15), qos);
    }
    const messages = await delivered;
    assert.deepEqual(
      messages.map(({ payload }) => payload),
      payloads,
    );
  });
}

/** Says them in one go, every third one to be retained, and answers what QoS 2 asks for. */
async function publishAtOnce(
  publisher: WireClient,
  topic: string,
  payloads: readonly string[],
  qos: number,
): Promise<void> {
  for (const [at, payload] of payloads.entries()) {
    publisher.sendPublish({ topic, payload, qos, packetId: at + 1, retain: at % 3 === 0 });
  }
  if (qos === 0) return;
  for (const at of payloads.keys()) {
    await publisher.expect(qos === 1 ? "puback" : "pubrec", { packetId: at + 1 });
  }
  if (qos === 1) return;
  for (const at of payloads.keys()) publisher.sendPubrel({ packetId: at + 1 });
  for (const at of payloads.keys()) await publisher.expect("pubcomp", { packetId: at + 1 });
}

// qos.test: acknowledgements and what is sent again (MQTT 3.1.1 §2.3.1, §3.4 to §3.7, §4.3, §4.4).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { numbers, payloads, publishOnce, resume, subscriber } from "../support/exchanges.ts";
import { ackPacket, publishPacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

/** A kept session that subscribes to a topic of its own. */
async function keptSubscriber(t: Parameters<typeof subscriber>[0], qos: 1 | 2) {
  const topic = fresh("t");
  const clientId = fresh();
  const client = await subscriber(t, broker, topic, qos, { clientId, clean: false });
  return { client, clientId, topic, publisher: await broker.connect(t) };
}

test("[MQTT-2.3.1-4] unacknowledged messages to one client have packet ids of their own", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 2);
  const publisher = await broker.connect(t);
  for (const payload of numbers(20)) {
    publisher.sendPublish({ topic, payload, qos: 1 + (Number(payload) % 2), packetId: 100 });
    const { packetId } = await publisher.next();
    if (Number(payload) % 2 === 0) continue;
    publisher.sendPubrel({ packetId });
    await publisher.expect("pubcomp");
  }
  const ids = new Set<number>();
  for (const payload of numbers(20))
    ids.add((await client.expect("publish", { payload })).packetId);
  assert.equal(ids.size, 20);
});

test("[MQTT-2.3.1-4] packet ids of client and server are independent of each other", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 2);
  await publishOnce(t, broker, topic, "1", { qos: 2 });
  const { packetId } = await client.expect("publish", { payload: "1", qos: 2 });
  client.sendPublish({ topic: fresh("t"), qos: 2, packetId });
  await client.expect("pubrec", { packetId });
  client.sendPubrec({ packetId });
  await client.expect("pubrel", { packetId });
  client.sendPubrel({ packetId });
  await client.expect("pubcomp", { packetId });
  client.sendPubcomp({ packetId });
  await client.nothing();
});

test("[MQTT-2.3.1-6] [MQTT-4.3.2-2] each PUBACK has the id of its PUBLISH, in their order", async (t) => {
  const client = await broker.connect(t);
  const ids = [9, 3, 65_535, 1, 4_096];
  client.send(...ids.map((packetId) => publishPacket({ topic: "a", qos: 1, packetId })));
  for (const packetId of ids) await client.expect("puback", { packetId });
});

test("[MQTT-2.3.1-6] [MQTT-4.3.3-2] each PUBREC and PUBCOMP has the id of its PUBLISH, in their order", async (t) => {
  const client = await broker.connect(t);
  const ids = [9, 3, 65_535, 1, 4_096];
  client.send(...ids.map((packetId) => publishPacket({ topic: "a", qos: 2, packetId })));
  for (const packetId of ids) await client.expect("pubrec", { packetId });
  client.send(...ids.map((packetId) => ackPacket("pubrel", { packetId })));
  for (const packetId of ids) await client.expect("pubcomp", { packetId });
});

test("[MQTT-4.3.2-1] sends QoS 1 with DUP 0 first, and not again while the connection lives", async (t) => {
  const { client, publisher, topic } = await keptSubscriber(t, 1);
  await publisher.publish(topic, "1", { qos: 1 });
  await client.expect("publish", { qos: 1, dup: false, payload: "1" });
  await client.nothing();
});

test("[MQTT-4.3.2-2] the same id again, after PUBACK, is a new message, with DUP or without", async (t) => {
  const { client, publisher, topic } = await keptSubscriber(t, 1);
  for (const [payload, dup] of [
    ["1", false],
    ["2", true],
    ["3", false],
  ] as const) {
    publisher.sendPublish({ topic, payload, qos: 1, packetId: 5, dup });
    await publisher.expect("puback", { packetId: 5 });
  }
  assert.deepEqual(payloads(await client.take(3)), ["1", "2", "3"]);
});

test("[MQTT-4.3.3-2] the same QoS 2 id before PUBREL is acknowledged and not delivered again", async (t) => {
  const { client, publisher, topic } = await keptSubscriber(t, 2);
  publisher.sendPublish({ topic, payload: "1", qos: 2, packetId: 5 });
  await publisher.expect("pubrec", { packetId: 5 });
  for (let time = 0; time < 3; time++) {
    publisher.sendPublish({ topic, payload: "1", qos: 2, packetId: 5, dup: true });
    await publisher.expect("pubrec", { packetId: 5 });
  }
  publisher.sendPubrel({ packetId: 5 });
  await publisher.expect("pubcomp", { packetId: 5 });
  await publisher.publish(topic, "marker", { qos: 2 });
  assert.deepEqual(payloads(await client.take(2)), ["1", "marker"]);
});

test("[MQTT-4.3.3-2] the same QoS 2 id after PUBCOMP is a new message", async (t) => {
  const { client, publisher, topic } = await keptSubscriber(t, 2);
  for (const payload of numbers(5)) {
    publisher.sendPublish({ topic, payload, qos: 2, packetId: 5 });
    await publisher.expect("pubrec", { packetId: 5 });
    publisher.sendPubrel({ packetId: 5 });
    await publisher.expect("pubcomp", { packetId: 5 });
  }
  assert.deepEqual(payloads(await client.take(5)), numbers(5));
});

test("[MQTT-4.3.3-2] answers PUBREL with PUBCOMP as often as it comes", async (t) => {
  const client = await broker.connect(t);
  client.sendPublish({ topic: "a", qos: 2, packetId: 5 });
  await client.expect("pubrec", { packetId: 5 });
  for (let time = 0; time < 2; time++) {
    client.sendPubrel({ packetId: 5 });
    await client.expect("pubcomp", { packetId: 5 });
  }
});

test("[MQTT-4.3.3-1] QoS 2 to a client: PUBLISH, PUBREL after PUBREC, and nothing after PUBCOMP", async (t) => {
  const { client, clientId, publisher, topic } = await keptSubscriber(t, 2);
  await publisher.publish(topic, "1", { qos: 2 });
  const { packetId } = await client.expect("publish", { qos: 2, dup: false });
  client.sendPubrec({ packetId });
  await client.expect("pubrel", { packetId });
  client.sendPubcomp({ packetId });
  await client.nothing();
  await client.disconnect();
  await (await resume(t, broker, clientId)).nothing();
});

for (const qos of [1, 2] as const) {
  test(`[MQTT-3.3.1-1] [MQTT-2.3.1-3] [MQTT-4.4.0-1] unacknowledged QoS ${qos} comes again with its id and DUP, each time`, async (t) => {
    const { client, clientId, publisher, topic } = await keptSubscriber(t, qos);
    await publisher.publish(topic, "1", { qos });
    const { packetId } = await client.expect("publish", { dup: false });
    client.cut();
    for (let time = 0; time < 3; time++) {
      const again = await resume(t, broker, clientId);
      await again.expect("publish", { payload: "1", qos, packetId, dup: true });
      again.cut();
    }
  });
}

test("[MQTT-3.3.1-3] what was never sent comes without DUP", async (t) => {
  const { client, clientId, publisher, topic } = await keptSubscriber(t, 1);
  await publisher.publish(topic, "sent", { qos: 1 });
  await client.expect("publish", { payload: "sent" });
  await client.disconnect();
  await publisher.publish(topic, "queued", { qos: 1 });
  const again = await resume(t, broker, clientId);
  await again.expect("publish", { payload: "sent", dup: true });
  await again.expect("publish", { payload: "queued", dup: false });
});

test("[MQTT-4.4.0-1] [MQTT-4.3.3-1] after PUBREC it is PUBREL that comes again, and no PUBLISH", async (t) => {
  const { client, clientId, publisher, topic } = await keptSubscriber(t, 2);
  await publisher.publish(topic, "1", { qos: 2 });
  const { packetId } = await client.expect("publish");
  client.sendPubrec({ packetId });
  await client.expect("pubrel", { packetId });
  client.cut();
  const again = await resume(t, broker, clientId);
  await again.expect("pubrel", { packetId });
  again.sendPubcomp({ packetId });
  await again.nothing();
});

test("[MQTT-4.3.3-2] QoS 2 from a client goes on over its reconnect, exactly once", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic, 2);
  const kept = { clientId: fresh(), clean: false };
  const first = await broker.connect(t, kept);
  first.sendPublish({ topic, payload: "1", qos: 2, packetId: 5 });
  await first.expect("pubrec", { packetId: 5 });
  first.cut();
  const second = await resume(t, broker, kept.clientId);
  second.sendPublish({ topic, payload: "1", qos: 2, packetId: 5, dup: true });
  await second.expect("pubrec", { packetId: 5 });
  second.sendPubrel({ packetId: 5 });
  second.cut();
  const third = await resume(t, broker, kept.clientId);
  third.sendPubrel({ packetId: 5 });
  await third.expect("pubcomp", { packetId: 5 });
  await third.publish(topic, "marker", { qos: 2 });
  assert.deepEqual(payloads(await observer.take(2)), ["1", "marker"]);
});

test("[MQTT-3.1.2-6] QoS 2 ids are forgotten with a clean session", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic, 2);
  const clientId = fresh();
  const first = await broker.connect(t, { clientId, clean: false });
  first.sendPublish({ topic, payload: "1", qos: 2, packetId: 5 });
  await first.expect("pubrec", { packetId: 5 });
  first.cut();
  const second = await broker.connect(t, { clientId, clean: true });
  second.sendPublish({ topic, payload: "2", qos: 2, packetId: 5 });
  await second.expect("pubrec", { packetId: 5 });
  second.sendPubrel({ packetId: 5 });
  await second.expect("pubcomp", { packetId: 5 });
  // The first may be handed on before its PUBREL, or thrown away with its session (figure 4.3).
  const [message] = await observer.take(1);
  const last = message?.payload === "1" ? (await observer.take(1))[0] : message;
  assert.equal(last?.payload, "2");
});

// QoS of what is on its way, and the acknowledgement that does not belong to it.
for (const [qos, name] of [
  [1, "pubrec"],
  [1, "pubcomp"],
  [2, "puback"],
  [2, "pubcomp"],
] as const) {
  test(`[MQTT-4.3.${qos + 1}-1] [MQTT-4.8.0-1] ${name} for a QoS ${qos} message ends the connection and acknowledges nothing`, async (t) => {
    const { client, clientId, publisher, topic } = await keptSubscriber(t, qos);
    await publisher.publish(topic, "1", { qos });
    const { packetId } = await client.expect("publish");
    client.send(ackPacket(name, { packetId }));
    assert.deepEqual(await client.closed(), []);
    const again = await resume(t, broker, clientId);
    await again.expect("publish", { payload: "1", packetId, dup: true });
  });
}

test("[MQTT-4.3.3-1] a PUBACK after PUBREC does not end the exchange", async (t) => {
  const { client, clientId, publisher, topic } = await keptSubscriber(t, 2);
  await publisher.publish(topic, "1", { qos: 2 });
  const { packetId } = await client.expect("publish");
  client.sendPubrec({ packetId });
  await client.expect("pubrel", { packetId });
  client.sendPuback({ packetId });
  assert.deepEqual(await client.closed(), []);
  const again = await resume(t, broker, clientId);
  await again.expect("pubrel", { packetId });
});

test("[MQTT-4.3.3-1] a second PUBREC is answered with PUBREL", async (t) => {
  const { client, publisher, topic } = await keptSubscriber(t, 2);
  await publisher.publish(topic, "1", { qos: 2 });
  const { packetId } = await client.expect("publish");
  client.sendPubrec({ packetId });
  await client.expect("pubrel", { packetId });
  client.sendPubrec({ packetId });
  await client.expect("pubrel", { packetId });
  client.sendPubcomp({ packetId });
  await client.nothing();
});

test("[MQTT-2.3.1-4] an id is used again only when its exchange is over, over 65,535 messages", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 1);
  const publisher = await broker.connect(t);
  await publisher.publish(topic, "held", { qos: 1 });
  let held = (await client.expect("publish", { payload: "held" })).packetId;
  for (let batch = 0; batch < 132; batch++) {
    for (const payload of numbers(500)) {
      publisher.sendPublish({ topic, payload, qos: 1, packetId: Number(payload) + 1 });
    }
    for (const _ of numbers(500)) await publisher.expect("puback");
    for (const payload of numbers(500)) {
      // A broker may also wait for the message that is held; then it is acknowledged.
      const message = await client.next(500).catch(() => {
        client.sendPuback({ packetId: held });
        held = 0;
        return client.next();
      });
      assert.equal(message.payload, payload);
      client.sendPuback({ packetId: message.packetId });
      assert.notEqual(message.packetId, held);
    }
  }
});

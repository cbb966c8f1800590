// qos.test: acknowledgements and redelivery (MQTT 5.0 §3.4 to §3.7, §4.3, §4.4, §4.6).
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conformanceBroker } from "../support/broker.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import { CODE, kept, mqtt5, nothingFrom } from "./clients.ts";

const broker = conformanceBroker();
const { connect } = mqtt5(broker);

type Scope = Parameters<typeof connect>[0];

/** A kept session that is subscribed with QoS 2, and one who publishes to it. */
async function pair(t: Scope) {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 2);
  return { clientId, topic, publisher, first, resume: () => connect(t, kept(clientId)) };
}

test("[MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.7.2-1] acknowledgements say success, or that nobody is subscribed", async (t) => {
  const { topic, publisher } = await pair(t);
  for (const qos of [1, 2]) {
    assert.equal((await publisher.publish(topic, "1", { qos }))?.code, CODE.success);
  }
  const nobody: number[] = [CODE.success, CODE.noMatchingSubscribers];
  publisher.sendPublish({ topic: fresh("t"), qos: 1, packetId: 21 });
  assert.ok(nobody.includes((await publisher.expect("puback", { packetId: 21 })).code));
  publisher.sendPublish({ topic: fresh("t"), qos: 2, packetId: 22 });
  assert.ok(nobody.includes((await publisher.expect("pubrec", { packetId: 22 })).code));
  publisher.sendPubrel({ packetId: 22 });
  await publisher.expect("pubcomp", { packetId: 22, code: CODE.success });
});

test("[MQTT-4.3.2-5] after PUBACK the same packet id is a new message, whatever DUP says", async (t) => {
  const { topic, publisher, first } = await pair(t);
  for (const dup of [false, true, false]) {
    publisher.sendPublish({ topic, payload: "1", qos: 1, packetId: 5, dup });
    await publisher.expect("puback", { packetId: 5 });
  }
  assert.equal((await first.take(3)).length, 3);
});

test("[MQTT-4.3.3-10] a QoS 2 id that was not released is acknowledged again and delivered once", async (t) => {
  const { topic, publisher, first } = await pair(t);
  for (const dup of [false, true, true]) {
    publisher.sendPublish({ topic, payload: "1", qos: 2, packetId: 5, dup });
    await publisher.expect("pubrec", { packetId: 5 });
  }
  publisher.sendPubrel({ packetId: 5 });
  await publisher.expect("pubcomp", { packetId: 5, code: CODE.success });
  await first.take(1);
  await nothingFrom(publisher, first);
});

test("[MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT-4.3.3-12] after PUBCOMP the same packet id is a new message", async (t) => {
  const { topic, publisher, first } = await pair(t);
  for (let round = 0; round < 3; round += 1) {
    publisher.sendPublish({ topic, payload: `${round}`, qos: 2, packetId: 5 });
    await publisher.expect("pubrec", { packetId: 5, code: CODE.success });
    publisher.sendPubrel({ packetId: 5 });
    await publisher.expect("pubcomp", { packetId: 5, code: CODE.success });
  }
  const payloads = (await first.take(3)).map(({ payload }) => payload);
  assert.deepEqual(payloads, ["0", "1", "2"]);
});

test("[MQTT-4.3.3-10] a QoS 2 id is known to the publisher's session on its next connection", async (t) => {
  const { topic, publisher, first } = await pair(t);
  const clientId = fresh();
  const sender = await connect(t, kept(clientId));
  sender.sendPublish({ topic, payload: "1", qos: 2, packetId: 5 });
  await sender.expect("pubrec", { packetId: 5 });
  sender.cut();
  const again = await connect(t, kept(clientId));
  again.sendPublish({ topic, payload: "1", qos: 2, packetId: 5, dup: true });
  await again.expect("pubrec", { packetId: 5, code: CODE.success });
  again.sendPubrel({ packetId: 5 });
  await again.expect("pubcomp", { packetId: 5, code: CODE.success });
  await first.take(1);
  await nothingFrom(publisher, first);
});

test("[MQTT-4.3.3-10] a QoS 2 message that is sent again in the middle of a take-over is delivered once", async (t) => {
  const { topic, publisher, first } = await pair(t);
  const clientId = fresh();
  const count = 12;
  let sender = await connect(t, kept(clientId));
  for (let packetId = 1; packetId <= count; packetId += 1) {
    const message = { topic, payload: `${packetId}`, qos: 2, packetId };
    sender.sendPublish(message);
    sender = await connect(t, kept(clientId));
    sender.sendPublish({ ...message, dup: true });
    await sender.expect("pubrec", { packetId, code: CODE.success });
    sender.sendPubrel({ packetId });
    await sender.expect("pubcomp", { packetId });
  }
  const payloads = (await first.take(count)).map(({ payload }) => payload);
  assert.deepEqual(
    payloads,
    Array.from({ length: count }, (_, at) => `${at + 1}`),
  );
  await nothingFrom(publisher, first);
});

test("[MQTT-3.7.2-1] PUBREL for an id that is not in use is answered by 0x92", async (t) => {
  const client = await connect(t);
  client.sendPubrel({ packetId: 77 });
  await client.expect("pubcomp", { packetId: 77, code: CODE.packetIdentifierNotFound });
  await client.ping();
});

test("[MQTT-3.6.2-1] PUBREC for an id that is not in use is answered by PUBREL with 0x92", async (t) => {
  const client = await connect(t);
  client.sendPubrec({ packetId: 77 });
  await client.expect("pubrel", { packetId: 77, code: CODE.packetIdentifierNotFound });
  client.sendPubcomp({ packetId: 77, code: CODE.packetIdentifierNotFound });
  await client.ping();
});

test("[MQTT-4.3.2-3] PUBACK and PUBCOMP for ids that are not in use change nothing", async (t) => {
  const { topic, publisher, first } = await pair(t);
  first.sendPuback({ packetId: 77 });
  first.sendPubcomp({ packetId: 77 });
  await first.ping();
  await publisher.publish(topic, "1", { qos: 1 });
  await first.take(1);
});

test("[MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2] what is sent for the first time has DUP 0", async (t) => {
  const { topic, publisher, first } = await pair(t);
  for (const qos of [0, 1, 2] as const) {
    await publisher.publish(topic, "1", { qos });
    await first.expect("publish", { qos, dup: false });
  }
});

test("[MQTT-3.3.1-1] [MQTT-4.4.0-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3] the unacknowledged is sent again with DUP and its id, in order, when the session is resumed", async (t) => {
  const { topic, publisher, first, resume } = await pair(t);
  const sent: (readonly [number, string, number])[] = [];
  for (const [at, qos] of [1, 2, 2, 1, 1, 2].entries()) {
    await publisher.publish(topic, `${at}`, { qos });
    const message = await first.expect("publish", { dup: false });
    sent.push([message.packetId, message.payload, message.qos]);
  }
  first.cut();
  for (let round = 0; round < 2; round += 1) {
    const client = await resume();
    for (const [packetId, payload, qos] of sent) {
      await client.expect("publish", { packetId, payload, qos: qos as 1 | 2, dup: true });
    }
    await client.nothing();
    client.cut();
  }
});

test("[MQTT-4.4.0-1] nothing is sent again on the same connection", async (t) => {
  const { topic, publisher, first } = await pair(t);
  for (const qos of [1, 2]) await publisher.publish(topic, "1", { qos });
  await first.expect("publish", { qos: 1 });
  const { packetId } = await first.expect("publish", { qos: 2 });
  first.sendPubrec({ packetId });
  await first.expect("pubrel", { packetId });
  for (const until = performance.now() + 1_500; performance.now() < until; await sleep(300)) {
    await nothingFrom(publisher, first);
  }
});

test("[MQTT-4.4.0-1] after what is sent again comes what waited, and then what is new", async (t) => {
  const { topic, publisher, first, resume } = await pair(t);
  await publisher.publish(topic, "sent", { qos: 1 });
  await first.expect("publish", { payload: "sent" });
  first.cut();
  await first.closed();
  await publisher.publish(topic, "waited", { qos: 1 });
  const second = await resume();
  await second.expect("publish", { payload: "sent", dup: true });
  await second.expect("publish", { payload: "waited", dup: false });
  await publisher.publish(topic, "new", { qos: 1 });
  await second.expect("publish", { payload: "new", dup: false });
});

test("[MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] after PUBREC it is PUBREL that is sent again, with the same id, and not the message", async (t) => {
  const { topic, publisher, first, resume } = await pair(t);
  await publisher.publish(topic, "1", { qos: 2 });
  const { packetId } = await first.expect("publish", { qos: 2 });
  first.sendPubrec({ packetId });
  await first.expect("pubrel", { packetId, code: CODE.success });
  first.cut();
  for (let round = 0; round < 2; round += 1) {
    const client = await resume();
    await client.expect("pubrel", { packetId, code: CODE.success });
    await client.nothing();
    if (round === 1) client.sendPubcomp({ packetId });
    await client.ping();
    client.cut();
  }
  await (await resume()).nothing();
});

test("[MQTT-4.3.3-4] PUBREC that comes again is answered by PUBREL again", async (t) => {
  const { topic, publisher, first } = await pair(t);
  await publisher.publish(topic, "1", { qos: 2 });
  const { packetId } = await first.expect("publish", { qos: 2 });
  for (let round = 0; round < 2; round += 1) {
    first.sendPubrec({ packetId });
    await first.expect("pubrel", { packetId, code: CODE.success });
  }
});

for (const qos of [1, 2]) {
  test(`[MQTT-4.4.0-2] [MQTT-3.3.1-1] QoS ${qos} that the client refuses is not sent again, and not released`, async (t) => {
    const { topic, publisher, first, resume } = await pair(t);
    await publisher.publish(topic, "1", { qos });
    const { packetId } = await first.expect("publish");
    const refusal = { packetId, code: CODE.unspecified, properties: { reasonString: "no" } };
    if (qos === 1) first.sendPuback(refusal);
    else first.sendPubrec(refusal);
    await first.nothing();
    first.cut();
    await (await resume()).nothing();
  });
}

test("[MQTT-4.3.2-3] [MQTT-4.3.3-3] an acknowledgement of the wrong kind acknowledges nothing", async (t) => {
  for (const [qos, answer] of [
    [2, (client: WireClient, packetId: number) => client.sendPuback({ packetId })],
    [2, (client: WireClient, packetId: number) => client.sendPubcomp({ packetId })],
    [1, (client: WireClient, packetId: number) => client.sendPubcomp({ packetId })],
  ] as const) {
    const { topic, publisher, first, resume } = await pair(t);
    await publisher.publish(topic, "1", { qos });
    const { packetId } = await first.expect("publish");
    answer(first, packetId);
    // Whether the broker ends the connection for it or not.
    first.sendPingreq();
    const came = await first.next();
    assert.ok(came.name === "pingresp" || came.code === CODE.protocolError, came.name);
    first.cut();
    await (await resume()).expect("publish", { packetId, payload: "1", dup: true });
  }
});

test("[MQTT-4.3.3-3] acknowledgements in any order free their own message alone", async (t) => {
  const { topic, publisher, first, resume } = await pair(t);
  const ids: number[] = [];
  for (let at = 0; at < 5; at += 1) {
    await publisher.publish(topic, `${at}`, { qos: 1 });
    ids.push((await first.expect("publish")).packetId);
  }
  for (const at of [3, 1]) first.sendPuback({ packetId: Number(ids[at]) });
  await first.ping();
  first.cut();
  const second = await resume();
  for (const at of [0, 2, 4]) {
    await second.expect("publish", { packetId: Number(ids[at]), payload: `${at}`, dup: true });
  }
  await second.nothing();
});

test("[MQTT-2.2.1-4] an id that is in use is not used again, however many messages go by", async (t) => {
  const topic = fresh("t");
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  await subscriber.subscribe(topic, 1);
  await publisher.publish(topic, "first", { qos: 1 });
  const { packetId: inUse } = await subscriber.expect("publish", { payload: "first" });
  const count = 65_600;
  const publishing = publishMany(publisher, topic, count);
  let received = 0;
  for (let isAnswered = false; received < count; received += 1) {
    // A broker may wait for the id that is next, or pass it over.
    if (received >= 65_000 && !isAnswered) {
      isAnswered = true;
      setTimeout(() => subscriber.sendPuback({ packetId: inUse }), 300);
    }
    const { packetId, payload } = await subscriber.next();
    assert.equal(payload, `${received}`);
    if (received < 65_000) assert.notEqual(packetId, inUse);
    subscriber.sendPuback({ packetId });
  }
  await publishing;
});

for (const qos of [1, 2]) {
  test(`[MQTT-4.6.0-5] a long queue of QoS ${qos} comes in order, with live messages behind it`, async (t) => {
    const { topic, publisher, first, resume } = await pair(t);
    await first.disconnect();
    const count = 150;
    const payloads = Array.from({ length: count }, (_, at) => `${at}`);
    for (const payload of payloads.slice(0, count - 50)) {
      await publisher.publish(topic, payload, { qos, retain: Number(payload) % 4 === 0 });
    }
    const second = await resume();
    const live = (async () => {
      for (const payload of payloads.slice(count - 50))
        await publisher.publish(topic, payload, { qos });
    })();
    const messages = await second.take(count);
    await live;
    assert.deepEqual(
      messages.map(({ payload }) => payload),
      payloads,
    );
  });
}

test("[MQTT-4.3.3-10] QoS 2 from a client is delivered exactly once over a restart of the broker", async (t) => {
  const { topic, first, resume } = await pair(t);
  await first.disconnect();
  const clientId = fresh();
  const sender = await connect(t, kept(clientId));
  for (const packetId of [5, 6, 7]) {
    sender.sendPublish({ topic, payload: `${packetId}`, qos: 2, packetId });
    await sender.expect("pubrec", { packetId });
  }
  sender.sendPubrel({ packetId: 5 });
  await sender.expect("pubcomp", { packetId: 5 });
  await broker.restart();
  const again = await connect(t, kept(clientId));
  assert.equal(again.connack.sessionPresent, true);
  for (const packetId of [6, 7]) {
    again.sendPublish({ topic, payload: `${packetId}`, qos: 2, packetId, dup: true });
    await again.expect("pubrec", { packetId, code: CODE.success });
    again.sendPubrel({ packetId });
    await again.expect("pubcomp", { packetId, code: CODE.success });
  }
  // It was released: a new message.
  again.sendPublish({ topic, payload: "new", qos: 2, packetId: 5 });
  await again.expect("pubrec", { packetId: 5 });
  const subscriber = await resume();
  const payloads = (await subscriber.take(4)).map(({ payload }) => payload);
  assert.deepEqual(payloads, ["5", "6", "7", "new"]);
  await nothingFrom(again, subscriber);
});

test("[MQTT-4.4.0-1] QoS 2 to a client goes on where it was over a restart of the broker", async (t) => {
  const { topic, publisher, first, resume } = await pair(t);
  for (const payload of ["1", "2", "3"]) await publisher.publish(topic, payload, { qos: 2 });
  const ids: number[] = [];
  for (const payload of ["1", "2", "3"])
    ids.push((await first.expect("publish", { payload })).packetId);
  const [one = 0, two = 0, three = 0] = ids;
  for (const packetId of [one, two]) {
    first.sendPubrec({ packetId });
    await first.expect("pubrel", { packetId });
  }
  first.sendPubcomp({ packetId: one });
  await first.ping();
  await broker.restart();
  const second = await resume();
  assert.equal(second.connack.sessionPresent, true);
  const came = [await second.next()];
  // PUBCOMP is not acknowledged: the broker may have forgotten it and say PUBREL once more.
  if (came[0]?.packetId === one) {
    assert.equal(came[0].name, "pubrel");
    second.sendPubcomp({ packetId: one });
    came[0] = await second.next();
  }
  assert.deepEqual([came[0]?.name, came[0]?.packetId], ["pubrel", two]);
  second.sendPubcomp({ packetId: two });
  const message = await second.expect("publish", { packetId: three, payload: "3" });
  second.sendPubrec(message);
  await second.expect("pubrel", { packetId: three });
  second.sendPubcomp({ packetId: three });
  await second.nothing();
});

/** QoS 1, as numbers from 0 on, at most 100 of them unacknowledged. */
async function publishMany(publisher: WireClient, topic: string, count: number): Promise<void> {
  for (let at = 0; at < count; at += 1) {
    publisher.sendPublish({ topic, payload: `${at}`, qos: 1, packetId: (at % 1_000) + 1 });
    if (at >= 100) await publisher.expect("puback");
  }
  for (let at = 0; at < Math.min(100, count); at += 1) await publisher.expect("puback");
}

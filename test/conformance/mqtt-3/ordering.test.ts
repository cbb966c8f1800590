// ordering.test: the order of messages, live, from the queue and sent again (MQTT 3.1.1 §4.6).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import {
  absentee,
  numbers,
  payloads,
  publishOnce,
  resume,
  subscriber,
} from "../support/exchanges.ts";
import { ackPacket } from "../support/wire-build.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";

const broker = conformanceBroker();

type Shape = (index: number) => { topic: string; qos: number; retain: boolean; bytes: number };

/** Publishes `count` messages as fast as it can, a window of 100 under way; payload: index, filler. */
async function publishMany(publisher: WireClient, count: number, shape: Shape): Promise<void> {
  let underWay = 0;
  const settle = async (most: number) => {
    while (underWay > most) {
      const { name, packetId } = await publisher.next();
      if (name === "pubrec") publisher.sendPubrel({ packetId });
      else underWay -= 1;
    }
  };
  for (let index = 0; index < count; index++) {
    const { topic, qos, retain, bytes } = shape(index);
    const payload = `${index}${" ".repeat(bytes)}`;
    publisher.sendPublish({ topic, payload, qos, retain, packetId: (index % 200) + 1 });
    if (qos > 0) underWay += 1;
    await settle(100);
  }
  await settle(0);
  await publisher.ping();
}

/** The indices that came for each topic and published QoS are those that were sent, in order. */
async function assertInOrder(client: WireClient, count: number, shape: Shape): Promise<void> {
  const all = Array.from({ length: count }, (_, index) => index);
  const keyOf = (index: number) => `${shape(index).topic} ${shape(index).qos}`;
  const came = (await client.take(count)).map(({ payload }) => Number.parseInt(payload, 10));
  const expected = Object.groupBy(all, keyOf);
  assert.deepEqual(Object.groupBy(came, keyOf), expected);
}

function byNumber(one: string, other: string): number {
  return Number(one) - Number(other);
}

const SHAPES: Readonly<Record<string, (root: string) => Shape>> = {
  "of QoS 0": (root) => () => ({ topic: root, qos: 0, retain: false, bytes: 0 }),
  "of QoS 1": (root) => () => ({ topic: root, qos: 1, retain: false, bytes: 0 }),
  "of QoS 2": (root) => () => ({ topic: root, qos: 2, retain: false, bytes: 0 }),
  "of QoS 0, every other retained": (root) => (index) => {
    return { topic: root, qos: 0, retain: index % 2 === 0, bytes: 0 };
  },
  "of QoS 1, every other retained": (root) => (index) => {
    return { topic: root, qos: 1, retain: index % 2 === 0, bytes: 0 };
  },
  "of QoS 2, every other retained": (root) => (index) => {
    return { topic: root, qos: 2, retain: index % 2 === 0, bytes: 0 };
  },
  "large and small": (root) => (index) => {
    return { topic: root, qos: 1, retain: false, bytes: index % 5 === 0 ? 20_000 : 0 };
  },
  "of three topics and all QoS, some retained, some large": (root) => (index) => {
    const retain = index % 3 === 0;
    const bytes = index % 11 === 0 ? 5_000 : 0;
    return { topic: `${root}/${index % 3}`, qos: (index >> 2) % 3, retain, bytes };
  },
};

for (const [what, shapeOf] of Object.entries(SHAPES)) {
  test(`[MQTT-4.6.0-5] [MQTT-4.6.0-6] messages ${what} come in order, live`, async (t) => {
    const root = fresh("t");
    const shape = shapeOf(root);
    const clients = [];
    for (const qos of [0, 1, 2]) clients.push(await subscriber(t, broker, `${root}/#`, qos));
    const publisher = await broker.connect(t);
    const taking = clients.map((client) => assertInOrder(client, 600, shape));
    await publishMany(publisher, 600, shape);
    await Promise.all(taking);
  });

  test(`[MQTT-4.6.0-5] [MQTT-4.6.0-6] messages ${what} come in order with a session away beside`, async (t) => {
    const root = fresh("t");
    const shape = shapeOf(root);
    // It is away for some of the topics alone: what waits must not be overtaken by what does not.
    const filter = shape(0).topic;
    const away = await absentee(t, broker, filter, 1);
    const client = await subscriber(t, broker, `${root}/#`, 2);
    const publisher = await broker.connect(t);
    const taking = assertInOrder(client, 600, shape);
    await publishMany(publisher, 600, shape);
    await taking;
    await client.nothing();
    const queued = numbers(600).filter((payload) => {
      const { topic, qos } = shape(Number(payload));
      return topic === filter && qos > 0;
    });
    const messages = await (await resume(t, broker, away)).take(queued.length);
    const came = payloads(messages).map((payload) => payload.trim());
    assert.deepEqual(came.toSorted(byNumber), queued, "each once");
  });
}

test("[MQTT-4.6.0-6] one publisher, two topics, one with a session away: all come", async (t) => {
  const root = fresh("t");
  const shape: Shape = (index) => {
    return { topic: `${root}/${index % 2}`, qos: 1, retain: false, bytes: 0 };
  };
  const away = await absentee(t, broker, `${root}/0`, 1);
  const client = await subscriber(t, broker, `${root}/+`, 1);
  const publisher = await broker.connect(t);
  const taking = assertInOrder(client, 1_000, shape);
  await publishMany(publisher, 1_000, shape);
  await taking;
  const queued = await (await resume(t, broker, away)).take(500);
  assert.deepEqual(
    payloads(queued),
    numbers(1_000).filter((payload) => Number(payload) % 2 === 0),
  );
});

test("[MQTT-4.6.0-6] two publishers, QoS 1 with a session away beside QoS 0 without: all come", async (t) => {
  const root = fresh("t");
  const shapes = [1, 0].map(
    (qos): Shape =>
      () => {
        return { topic: `${root}/${qos}`, qos, retain: false, bytes: 0 };
      },
  );
  await absentee(t, broker, `${root}/1`, 1);
  const client = await subscriber(t, broker, `${root}/+`, 1);
  const publishers = [await broker.connect(t), await broker.connect(t)];
  const publishing = publishers.map((publisher, index) =>
    publishMany(publisher, 500, shapes[index] as Shape),
  );
  const messages = await client.take(1_000);
  await Promise.all(publishing);
  for (const level of ["0", "1"]) {
    const own = messages.filter(({ topic }) => topic === `${root}/${level}`);
    assert.deepEqual(payloads(own), numbers(500));
  }
});

for (const [name, shapeOf] of Object.entries(SHAPES).filter(
  ([, shape]) => shape("").length === 1,
)) {
  test(`[MQTT-4.6.0-6] messages ${name} come in order from the queue, and what is live behind it`, async (t) => {
    const root = fresh("t");
    const own = shapeOf(root);
    const shape: Shape = (index) => ({ ...own(index), qos: Math.max(1, own(index).qos) });
    const away = await absentee(t, broker, `${root}/#`, 2);
    const publisher = await broker.connect(t);
    await publishMany(publisher, 300, shape);
    const client = await resume(t, broker, away);
    const live = publishMany(publisher, 300, (index) => shape(index + 300));
    const messages = await client.take(600);
    await live;
    const byTopic = Map.groupBy(messages, ({ topic, qos }) => `${topic} ${qos}`);
    const sent = numbers(600).map((index) => shape(Number(index)));
    for (const [key, some] of byTopic) {
      const indices = sent.flatMap((it, index) => {
        return `${it.topic} ${it.qos}` === key ? [String(index % 300)] : [];
      });
      assert.deepEqual(
        payloads(some).map((payload) => payload.trim()),
        indices,
      );
    }
    assert.equal(messages.length, 600);
    await client.nothing();
  });
}

for (const qos of [1, 2] as const) {
  test(`[MQTT-4.6.0-1] [MQTT-4.6.0-6] unacknowledged QoS ${qos} messages come again in their order, before others`, async (t) => {
    const topic = fresh("t");
    const kept = { clientId: fresh(), clean: false };
    const client = await subscriber(t, broker, topic, qos, kept);
    const publisher = await broker.connect(t);
    for (const payload of numbers(10)) await publisher.publish(topic, payload, { qos });
    const ids = [];
    for (const payload of numbers(10)) {
      ids.push((await client.expect("publish", { payload })).packetId);
    }
    client.cut();
    await publisher.publish(topic, "10", { qos });
    const again = await resume(t, broker, kept.clientId);
    const messages = await again.take(11);
    assert.deepEqual(payloads(messages), numbers(11));
    assert.deepEqual(
      messages.slice(0, 10).map(({ packetId }) => packetId),
      ids,
    );
    assert.deepEqual(
      messages.map(({ dup }) => dup),
      numbers(11).map((payload) => payload !== "10"),
    );
  });
}

test("[MQTT-4.6.0-1] acknowledged out of order, the rest comes again in order", async (t) => {
  const topic = fresh("t");
  const kept = { clientId: fresh(), clean: false };
  const client = await subscriber(t, broker, topic, 1, kept);
  const publisher = await broker.connect(t);
  for (const payload of numbers(6)) await publisher.publish(topic, payload, { qos: 1 });
  const ids = [];
  for (const _ of numbers(6)) ids.push((await client.expect("publish")).packetId);
  for (const index of [4, 0, 2]) client.sendPuback({ packetId: ids[index] ?? 0 });
  await client.ping();
  client.cut();
  const again = await resume(t, broker, kept.clientId);
  assert.deepEqual(payloads(await again.take(3)), ["1", "3", "5"]);
  await again.nothing();
});

test("[MQTT-4.6.0-4] PUBREL packets come in the order of the PUBREC packets", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 2);
  const publisher = await broker.connect(t);
  for (const payload of numbers(6)) await publisher.publish(topic, payload, { qos: 2 });
  const ids: number[] = [];
  for (const payload of numbers(6)) {
    ids.push((await client.expect("publish", { payload })).packetId);
  }
  client.send(...ids.map((packetId) => ackPacket("pubrec", { packetId })));
  for (const packetId of ids) await client.expect("pubrel", { packetId });
});

test("[MQTT-4.6.0-2] [MQTT-4.6.0-3] PUBACK and PUBREC come in the order of their messages", async (t) => {
  const client = await broker.connect(t);
  for (const [qos, name] of [
    [1, "puback"],
    [2, "pubrec"],
  ] as const) {
    for (let packetId = 1; packetId <= 200; packetId++) {
      const payload = " ".repeat(packetId % 7 === 0 ? 10_000 : 0);
      client.sendPublish({ topic: fresh("t"), payload, qos, packetId, retain: packetId % 3 === 0 });
    }
    for (let packetId = 1; packetId <= 200; packetId++) await client.expect(name, { packetId });
  }
});

test("[MQTT-4.6.0-6] each subscriber sees messages of several publishers in each one's order", async (t) => {
  const topic = fresh("t");
  const clients = [];
  for (const qos of [0, 1, 2]) clients.push(await subscriber(t, broker, topic, qos));
  const publishers = [];
  for (let index = 0; index < 4; index++) publishers.push(await broker.connect(t));
  for (const payload of numbers(100)) {
    for (const [from, publisher] of publishers.entries()) {
      publisher.sendPublish({ topic, payload: `${from} ${payload}` });
    }
  }
  for (const client of clients) {
    const messages = payloads(await client.take(400));
    for (const from of publishers.keys()) {
      const own = messages.filter((payload) => payload.startsWith(`${from} `));
      assert.deepEqual(
        own,
        numbers(100).map((payload) => `${from} ${payload}`),
      );
    }
  }
});

test("[MQTT-4.6.0-6] a subscriber that falls behind gets all QoS 1 messages, in order", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 1);
  const publisher = await broker.connect(t);
  client.pause();
  const shape: Shape = () => ({ topic, qos: 1, retain: false, bytes: 1_000 });
  await publishMany(publisher, 500, shape);
  client.resume();
  await assertInOrder(client, 500, shape);
  await publishOnce(t, broker, topic, "marker", { qos: 1 });
  assert.equal((await client.take(1))[0]?.payload, "marker");
});

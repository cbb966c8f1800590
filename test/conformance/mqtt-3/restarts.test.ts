// restarts.test: what must outlive the broker's own end by kill -9 (MQTT 3.1.1 §4.1, §4.3).

import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { conformanceBroker } from "../support/broker.ts";
import {
  absentee,
  numbers,
  payloads,
  publishOnce,
  resume,
  retainedOf,
  subscriber,
} from "../support/exchanges.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";

const broker = conformanceBroker();

test("[MQTT-4.1.0-1] session, subscriptions and queue outlive the broker", async (t) => {
  const root = fresh("t");
  const kept = { clientId: fresh(), clean: false };
  const client = await broker.connect(t, kept);
  await client.subscribe([
    { filter: `${root}/+`, qos: 1 },
    { filter: `${root}/two/#`, qos: 2 },
  ]);
  await client.disconnect();
  const bare = fresh();
  await broker.connect(t, { clientId: bare, clean: false });
  const publisher = await broker.connect(t);
  for (const payload of numbers(20)) {
    const qos = 1 + (Number(payload) % 2);
    await publisher.publish(`${root}/${qos === 2 ? "two" : "one"}`, payload, { qos });
  }
  await broker.restart();
  const again = await resume(t, broker, kept.clientId);
  const messages = await again.take(20);
  assert.deepEqual(payloads(messages), numbers(20));
  assert.deepEqual(
    messages.map(({ qos, dup }) => [qos, dup]),
    numbers(20).map((payload) => [1 + (Number(payload) % 2), false]),
  );
  await publishOnce(t, broker, `${root}/later`, "later", { qos: 2 });
  await again.expect("publish", { payload: "later", qos: 1 });
  await resume(t, broker, bare);
});

test("[MQTT-4.6.0-6] messages of before and after two restarts come in order", async (t) => {
  const topic = fresh("t");
  const clientId = await absentee(t, broker, topic, 1);
  for (const round of [0, 1, 2]) {
    const publisher = await broker.connect(t);
    for (const index of [0, 1, 2, 3, 4]) {
      await publisher.publish(topic, `${round * 5 + index}`, { qos: 1 });
    }
    if (round < 2) await broker.restart();
  }
  const client = await resume(t, broker, clientId);
  assert.deepEqual(payloads(await client.take(15)), numbers(15));
  await client.nothing();
});

test("[MQTT-4.3.3-2] QoS 2 from a client: PUBREC, restart, PUBLISH again: delivered once", async (t) => {
  const topic = fresh("t");
  const observer = await absentee(t, broker, topic, 2);
  const publisher = { clientId: fresh(), clean: false };
  const first = await broker.connect(t, publisher);
  first.sendPublish({ topic, payload: "1", qos: 2, packetId: 7 });
  await first.expect("pubrec", { packetId: 7 });
  await broker.restart();
  const second = await resume(t, broker, publisher.clientId);
  second.sendPublish({ topic, payload: "1", qos: 2, packetId: 7, dup: true });
  await second.expect("pubrec", { packetId: 7 });
  second.sendPubrel({ packetId: 7 });
  await second.expect("pubcomp", { packetId: 7 });
  const client = await resume(t, broker, observer);
  assert.deepEqual(payloads(await client.take(1)), ["1"]);
  await client.nothing();
});

test("[MQTT-4.3.3-2] QoS 2 from a client: PUBCOMP, restart, the same id: a new message", async (t) => {
  const topic = fresh("t");
  const observer = await absentee(t, broker, topic, 2);
  const publisher = { clientId: fresh(), clean: false };
  const first = await broker.connect(t, publisher);
  first.sendPublish({ topic, payload: "1", qos: 2, packetId: 7 });
  await first.expect("pubrec", { packetId: 7 });
  first.sendPubrel({ packetId: 7 });
  await first.expect("pubcomp", { packetId: 7 });
  await broker.restart();
  const second = await resume(t, broker, publisher.clientId);
  second.sendPubrel({ packetId: 7 });
  await second.expect("pubcomp", { packetId: 7 });
  second.sendPublish({ topic, payload: "2", qos: 2, packetId: 7 });
  await second.expect("pubrec", { packetId: 7 });
  second.sendPubrel({ packetId: 7 });
  await second.expect("pubcomp", { packetId: 7 });
  const client = await resume(t, broker, observer);
  assert.deepEqual(payloads(await client.take(2)), ["1", "2"]);
  await client.nothing();
});

test("[MQTT-4.3.3-1] QoS 2 to a client: PUBLISH, restart: the same id again, with DUP; then PUBREL alone", async (t) => {
  const topic = fresh("t");
  const kept = { clientId: fresh(), clean: false };
  const first = await subscriber(t, broker, topic, 2, kept);
  await publishOnce(t, broker, topic, "1", { qos: 2 });
  const { packetId } = await first.expect("publish", { payload: "1" });
  await broker.restart();
  const second = await resume(t, broker, kept.clientId);
  // Whether it was sent need not be written each time: MQTT 3.1.1 §3.3.1.1 asks for DUP, the
  // client's own PUBREC is what must not get lost.
  await second.expect("publish", { payload: "1", qos: 2, packetId, dup: true });
  second.sendPubrec({ packetId });
  await second.expect("pubrel", { packetId });
  await broker.restart();
  const third = await resume(t, broker, kept.clientId);
  await third.expect("pubrel", { packetId });
  third.sendPubcomp({ packetId });
  await third.nothing();
});

test("[MQTT-3.1.2-5] what a client acknowledged before the restart does not come again", async (t) => {
  const topic = fresh("t");
  const kept = { clientId: fresh(), clean: false };
  const first = await subscriber(t, broker, topic, 2, kept);
  const publisher = await broker.connect(t);
  for (const payload of numbers(4)) await publisher.publish(topic, payload, { qos: 2 });
  assert.deepEqual(payloads(await first.take(4)), numbers(4));
  // A QoS 2 message that follows is stored behind the acknowledgements of those before.
  await publisher.publish(topic, "4", { qos: 2 });
  await first.take(1);
  await publisher.publish(topic, "5", { qos: 2 });
  await broker.restart();
  const second = await resume(t, broker, kept.clientId);
  assert.deepEqual(payloads(await second.take(1)), ["5"]);
  await second.nothing();
});

test("[MQTT-3.1.2-7] [MQTT-3.3.1-5] retained messages outlive the broker, with their QoS", async (t) => {
  const root = fresh("t");
  const publisher = await broker.connect(t);
  for (const qos of [0, 1, 2]) {
    await publisher.publish(`${root}/${qos}`, `${qos}`, { qos, retain: true });
  }
  await publisher.publish(`${root}/cleared`, "old", { qos: 1, retain: true });
  await publisher.publish(`${root}/cleared`, "", { qos: 1, retain: true });
  await broker.restart();
  for (const qos of [0, 1, 2] as const) {
    const message = await retainedOf(t, broker, `${root}/${qos}`);
    assert.deepEqual([message?.payload, message?.qos], [`${qos}`, qos]);
  }
  assert.equal(await retainedOf(t, broker, `${root}/cleared`), undefined);
});

test("[MQTT-3.1.2-8] [MQTT-3.1.2-10] the wills of those who were connected are published after the restart, once", async (t) => {
  const topic = fresh("t");
  const observer = await absentee(t, broker, topic, 1);
  const will = { topic, qos: 1 };
  await broker.connect(t, { will: { ...will, payload: "clean" } });
  const kept = { clientId: fresh(), clean: false };
  await broker.connect(t, { ...kept, will: { ...will, payload: "kept" } });
  const gone = await broker.connect(t, { will: { ...will, payload: "gone" } });
  await gone.disconnect();
  await broker.restart();
  await broker.restart();
  const client = await resume(t, broker, observer);
  assert.deepEqual(payloads(await client.take(2)).sort(), ["clean", "kept"]);
  await client.nothing();
});

test("[MQTT-3.1.2-8] [MQTT-3.1.2-10] a broker that is asked to stop publishes the wills then or after, once", async (t) => {
  const topic = fresh("t");
  const observer = await absentee(t, broker, topic, 1);
  const kept = { clientId: fresh(), clean: false };
  await broker.connect(t, { will: { topic, qos: 1, payload: "clean" } });
  await broker.connect(t, { ...kept, will: { topic, qos: 1, payload: "kept" } });
  await broker.stop();
  await broker.start();
  const client = await resume(t, broker, observer);
  assert.deepEqual(payloads(await client.take(2)).sort(), ["clean", "kept"]);
  await client.nothing();
});

test("[MQTT-3.1.2-6] a clean session is not there after the restart", async (t) => {
  const topic = fresh("t");
  const clientId = fresh();
  await subscriber(t, broker, topic, 1, { clientId });
  await broker.restart();
  const again = await broker.connect(t, { clientId, clean: false });
  assert.equal(again.connack.sessionPresent, false);
  await publishOnce(t, broker, topic, "1", { qos: 1 });
  await again.nothing();
});

test("[MQTT-3.10.4-2] a subscription that was taken away does not come back by the restart", async (t) => {
  const topic = fresh("t");
  const clientId = await absentee(t, broker, topic, 1);
  const client = await resume(t, broker, clientId);
  await client.unsubscribe(topic);
  await broker.restart();
  const again = await resume(t, broker, clientId);
  await publishOnce(t, broker, topic, "1", { qos: 1 });
  await again.nothing();
});

/** A QoS 2 sender's own state, which outlives its connections (MQTT 3.1.1 §4.3.3). */
class Sender {
  readonly #underWay = new Map<number, { payload: string; isReceived: boolean }>();
  #sent = 0;
  completed = 0;

  /** Goes on until all `count` are over; throws when the connection ends. */
  async run(client: WireClient, topic: string, count: number): Promise<void> {
    for (const [packetId, { payload, isReceived }] of this.#underWay) {
      if (isReceived) client.sendPubrel({ packetId });
      else client.sendPublish({ topic, payload, qos: 2, packetId, dup: true });
    }
    while (this.completed < count) {
      while (this.#sent < count && this.#underWay.size < 20) this.#send(client, topic);
      const { name, packetId } = await client.next();
      const one = this.#underWay.get(packetId);
      if (name === "pubrec") {
        if (one) one.isReceived = true;
        client.sendPubrel({ packetId });
      } else if (this.#underWay.delete(packetId)) this.completed += 1;
    }
  }

  #send(client: WireClient, topic: string): void {
    const packetId = (this.#sent % 100) + 1;
    const payload = String(this.#sent);
    this.#underWay.set(packetId, { payload, isReceived: false });
    this.#sent += 1;
    client.sendPublish({ topic, payload, qos: 2, packetId });
  }
}

/** A QoS 2 receiver's own state, which outlives its connections. */
class Receiver {
  readonly #unreleased = new Set<number>();
  readonly payloads: string[] = [];

  /** Goes on until `count` came and all were released; throws when the connection ends. */
  async run(client: WireClient, count: number): Promise<void> {
    while (this.payloads.length < count || this.#unreleased.size > 0) {
      const { name, packetId, payload } = await client.next();
      if (name === "pubrel") {
        this.#unreleased.delete(packetId);
        client.sendPubcomp({ packetId });
      } else {
        if (!this.#unreleased.has(packetId)) this.payloads.push(payload);
        this.#unreleased.add(packetId);
        client.sendPubrec({ packetId });
      }
    }
  }
}

test("[MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.6.0-6] a flow of QoS 2 comes once and in order, over kills in its midst", async (t) => {
  const topic = fresh("t");
  const count = 600;
  const [sender, receiver] = [new Sender(), new Receiver()];
  const [from, to] = [
    { clientId: fresh(), clean: false },
    { clientId: fresh(), clean: false },
  ];
  await subscriber(t, broker, topic, 2, to);
  await broker.connect(t, from);
  for (const goal of [200, 400, count]) {
    const clients = [await resume(t, broker, from.clientId), await resume(t, broker, to.clientId)];
    const [sending, receiving] = clients as [WireClient, WireClient];
    const mayEnd = (fault: unknown) => {
      if (goal === count) throw fault;
    };
    const running = [
      sender.run(sending, topic, count).catch(mayEnd),
      receiver.run(receiving, count).catch(mayEnd),
    ];
    await waitFor("the goal", () => sender.completed >= goal, 20_000);
    if (goal < count) await broker.restart();
    await Promise.all(running);
  }
  assert.deepEqual(receiver.payloads, numbers(count));
});

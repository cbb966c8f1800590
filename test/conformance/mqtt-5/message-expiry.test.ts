// message-expiry.test: Message Expiry Interval (MQTT 5.0 §3.3.2.3.3): counted down, and the end of what waits.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conformanceBroker } from "../support/broker.ts";
import { fresh } from "../support/wire-client.ts";
import type { Packet } from "../support/wire-read.ts";
import { CODE, kept, mqtt5, nothingFrom } from "./clients.ts";

const broker = conformanceBroker();
const { connect } = mqtt5(broker);

const expiring = (messageExpiryInterval: number, qos = 1) => ({
  qos,
  properties: { messageExpiryInterval },
});
const leftOf = ({ properties }: Packet) => properties.messageExpiryInterval;

/** Of 100 s the time that it waited is taken off: at least and at most so many ms, in whole seconds. */
function assertLeft(message: Packet, leastMs: number, mostMs: number): void {
  const left = Number(leftOf(message));
  const [least, most] = [Math.floor(100 - mostMs / 1_000), Math.ceil(100 - leastMs / 1_000)];
  assert.ok(left >= least && left <= most, `${left} are left, not ${least} to ${most}`);
}

test("[MQTT-3.3.2-6] a message that does not wait has the expiry that it was given", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 2);
  for (const qos of [0, 1, 2]) {
    await publisher.publish(topic, "1", expiring(100, qos));
    const [message] = await subscriber.take(1);
    assert.ok(message);
    assert.ok(
      Number(leftOf(message)) >= 99 && Number(leftOf(message)) <= 100,
      `${leftOf(message)}`,
    );
  }
  await publisher.publish(topic, "1", expiring(0xffff_ffff));
  const [message] = await subscriber.take(1);
  assert.ok(message && Number(leftOf(message)) >= 0xffff_fffe);
});

test("[MQTT-3.3.2-6] a message without expiry has none, live, retained and from the queue", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first, later] = [
    await connect(t),
    await connect(t, kept(clientId)),
    await connect(t),
  ];
  await first.subscribe(topic, 1);
  await publisher.publish(topic, "1", { qos: 1, retain: true });
  const [live] = await first.take(1);
  await first.disconnect();
  await publisher.publish(topic, "1", { qos: 1, retain: true });
  await later.subscribe(topic);
  const [queued] = await (await connect(t, kept(clientId))).take(1);
  for (const message of [live, queued, await later.next()])
    assert.deepEqual(message?.properties, {});
});

test("[MQTT-3.3.2-5] an expiry of 0 is taken", async (t) => {
  const client = await connect(t);
  await client.publish(fresh("t"), "1", expiring(0));
  await client.publish(fresh("t"), "1", { ...expiring(0), retain: true });
});

suite("by the clock: queued and retained", { concurrency: true }, () => {
  test("[MQTT-3.3.2-5] what has expired in a session's queue is not delivered, what comes after it is", async (t) => {
    const clientId = fresh();
    const topic = fresh("t");
    const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
    await first.subscribe(topic, 2);
    await first.disconnect();
    await publisher.publish(topic, "1", expiring(1));
    await publisher.publish(topic, "2", expiring(1, 2));
    await publisher.publish(topic, "3", expiring(100));
    await publisher.publish(topic, "4", { qos: 2 });
    await sleep(1_500);
    const second = await connect(t, kept(clientId));
    const messages = await second.take(2);
    assert.deepEqual(
      messages.map(({ payload }) => payload),
      ["3", "4"],
    );
    await nothingFrom(publisher, second);
  });

  test("[MQTT-3.3.2-6] the time in a session's queue is taken off", async (t) => {
    const clientId = fresh();
    const topic = fresh("t");
    const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
    await first.subscribe(topic, 1);
    await first.disconnect();
    const sentMs = performance.now();
    await publisher.publish(topic, "1", expiring(100));
    await sleep(2_200);
    const [message] = await (await connect(t, kept(clientId))).take(1);
    assert.ok(message);
    assertLeft(message, 2_000, performance.now() - sentMs);
  });

  test("[MQTT-3.3.2-6] [MQTT-3.3.2-5] a retained message counts down, and is gone when it has expired", async (t) => {
    const publisher = await connect(t);
    const [short, long] = [fresh("t"), fresh("t")];
    await publisher.publish(short, "1", { ...expiring(1), retain: true });
    const sentMs = performance.now();
    await publisher.publish(long, "1", { ...expiring(100), retain: true });
    await sleep(2_200);
    const subscriber = await connect(t);
    await subscriber.subscribe([{ filter: short }, { filter: long }]);
    const message = await subscriber.expect("publish", { topic: long, retain: true });
    assertLeft(message, 2_000, performance.now() - sentMs);
    await nothingFrom(publisher, subscriber);
  });
});

suite("by the clock: under way", { concurrency: true }, () => {
  test("[MQTT-3.3.2-5] what expires while the Receive Maximum holds it back is not delivered", async (t) => {
    const publisher = await connect(t);
    const subscriber = await connect(t, { properties: { receiveMaximum: 1 } });
    const topic = fresh("t");
    await subscriber.subscribe(topic, 1);
    await publisher.publish(topic, "1", { qos: 1 });
    await publisher.publish(topic, "2", expiring(1));
    const sentMs = performance.now();
    await publisher.publish(topic, "3", expiring(100));
    const { packetId } = await subscriber.expect("publish", { payload: "1" });
    await sleep(1_500);
    subscriber.sendPuback({ packetId });
    const message = await subscriber.expect("publish", { payload: "3" });
    assertLeft(message, 1_000, performance.now() - sentMs);
  });

  test("[MQTT-4.3.3-7] [MQTT-4.3.2-3] what was sent once does not expire: it is sent again", async (t) => {
    const clientId = fresh();
    const topic = fresh("t");
    const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
    await first.subscribe(topic, 2);
    await publisher.publish(topic, "1", expiring(1, 2));
    const { packetId } = await first.expect("publish", { payload: "1", qos: 2 });
    first.cut();
    await sleep(1_500);
    const second = await connect(t, kept(clientId));
    await second.expect("publish", { packetId, payload: "1", qos: 2, dup: true });
    second.sendPubrec({ packetId });
    await second.expect("pubrel", { packetId, code: CODE.success });
  });

  test("[MQTT-4.3.3-13] the exchange of a QoS 2 message goes on when it has expired", async (t) => {
    const publisher = await connect(t);
    publisher.sendPublish({ topic: fresh("t"), packetId: 5, ...expiring(1, 2) });
    await publisher.expect("pubrec", { packetId: 5 });
    await sleep(1_500);
    publisher.sendPubrel({ packetId: 5 });
    await publisher.expect("pubcomp", { packetId: 5, code: CODE.success });
  });
});

test("[MQTT-3.3.2-5] [MQTT-3.3.2-6] expiry counts over a restart of the broker, in the queue and retained", async (t) => {
  const clientId = fresh();
  const [queued, retained] = [fresh("t"), fresh("t")];
  const first = await connect(t, kept(clientId));
  await first.subscribe(queued, 1);
  await first.disconnect();
  const publisher = await connect(t);
  const sentMs = performance.now();
  for (const seconds of [1, 100]) {
    await publisher.publish(queued, `${seconds}`, expiring(seconds));
    await publisher.publish(`${retained}/${seconds}`, "1", { ...expiring(seconds), retain: true });
  }
  await broker.restart();
  await sleep(Math.max(0, 1_500 - (performance.now() - sentMs)));
  const second = await connect(t, kept(clientId));
  const message = await second.expect("publish", { topic: queued, payload: "100" });
  assertLeft(message, 1_000, performance.now() - sentMs);
  await second.subscribe(`${retained}/+`);
  const kept100 = await second.expect("publish", { topic: `${retained}/100`, retain: true });
  assertLeft(kept100, 1_000, performance.now() - sentMs);
  await nothingFrom(await connect(t), second);
});

// deliveries.test: what the broker has for an MQTT-SN client reaches it, or is told and let go.
// Path: test → [deliveries]. Touches: nothing.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { waitFor } from "../../../support/wait-for.ts";
import { silentBroker } from "./silent-broker.ts";
import { onLine, type SnDevice } from "./site.ts";

type Silent = ReturnType<typeof silentBroker>;

const PLAIN = { cmd: "publish", topic: "a/b", dup: false, retain: false } as const;

async function connected(t: TestContext, settings: Record<string, unknown> = {}) {
  const broker = silentBroker(t);
  const { device, host } = onLine(t, broker, settings);
  await device.connects("deliveries");
  return { broker, device, host };
}

async function subscribes(device: SnDevice, broker: Silent, filter: string): Promise<void> {
  const topic = { kind: "name", name: filter } as const;
  device.say({ type: "subscribe", dup: false, qos: 1, messageId: 2, topic });
  await broker.takes("subscribe");
  broker.say({ cmd: "suback", messageId: 2, granted: [1] });
  await device.hears("suback");
}

/** All that was said before is done with. */
async function isToldNothing(device: SnDevice): Promise<void> {
  device.say({ type: "pingreq", clientId: undefined });
  await device.hears("pingresp");
}

test("§6.10: who rejects a REGISTER has unsubscribed from that topic, and hears no UNSUBACK", async (t) => {
  const { broker, device } = await connected(t);
  broker.say({ ...PLAIN, qos: 1, messageId: 7, payload: "x" });
  device.acknowledges(await device.hears("register"), 3);
  const { messageId = 0, unsubscriptions } = await broker.takes("unsubscribe");
  assert.deepEqual(unsubscriptions, ["a/b"]);
  assert.equal((await broker.takes("puback")).reasonCode, 0x80);
  broker.say({ cmd: "unsuback", messageId, granted: [0] });
  await isToldNothing(device);
});

test("§6.10: the packet identifier of such an unsubscription is none that the device uses", async (t) => {
  const { broker, device } = await connected(t);
  const topicId = await device.registers("up");
  device.publishes(topicId, "x", { messageId: 0xffff });
  const topic = { kind: "name", name: "c" } as const;
  device.say({ type: "subscribe", dup: false, qos: 1, messageId: 0xfffe, topic });
  broker.say({ ...PLAIN, qos: 0, payload: "x" });
  device.acknowledges(await device.hears("register"), 3);
  assert.equal((await broker.takes("unsubscribe")).messageId, 0xfffd);
});

test("§6.10: who is too busy for a REGISTER is told it again, and stays subscribed", async (t) => {
  const { broker, device } = await connected(t);
  broker.say({ ...PLAIN, qos: 1, messageId: 7, payload: "x" });
  device.acknowledges(await device.hears("register"), 1);
  device.acknowledges(await device.hears("register"));
  device.acknowledges(await device.isTold());
  await broker.takes("puback");
  assert.ok(!broker.packets.some(({ cmd }) => cmd === "unsubscribe"));
});

test("§6.10: drops a message without a word when it, or its topic's name, is too long", async (t) => {
  const { broker, device, host } = await connected(t, { message_bytes_max: 300 });
  const long = "t".repeat(293);
  broker.say({ ...PLAIN, topic: long, qos: 1, messageId: 7, payload: "x" });
  broker.say({ ...PLAIN, qos: 1, messageId: 8, payload: "x".repeat(292) });
  await broker.takes("puback", 2);
  assert.equal(host.faults.length, 2);
  await isToldNothing(device);
});

test("§5.2.1: tells a message that is just as long as it may be, with either form of length", async (t) => {
  for (const [messageBytesMax, payloadBytes] of [
    [20, 13],
    [255, 248],
    [256, 247],
    [300, 291],
  ] as const) {
    const { broker, device } = await connected(t, { message_bytes_max: messageBytesMax });
    broker.say({ ...PLAIN, topic: "ab", qos: 1, messageId: 7, payload: "x".repeat(payloadBytes) });
    assert.equal((await device.isTold()).data.length, payloadBytes);
    broker.say({ ...PLAIN, topic: "ab", qos: 0, payload: "x".repeat(payloadBytes + 1) });
    await isToldNothing(device);
  }
});

test("§6.7: a name that is too long for a REGISTER needs none when it has a predefined id", async (t) => {
  const topic = "plant/".repeat(20);
  const predefined = [{ id: 3, topic }];
  const { broker, device } = await connected(t, { message_bytes_max: 64, predefined });
  broker.say({ ...PLAIN, topic, qos: 1, messageId: 7, payload: "x" });
  assert.deepEqual((await device.isTold()).topic, { kind: "predefined", id: 3 });
});

test("is told of messages that are too long, so that it can count them", async (t) => {
  const { broker } = await connected(t);
  const { properties } = await broker.takes("connect");
  // What MQTT adds to 1,024 bytes: a topic, and properties that MQTT-SN has no place for.
  assert.ok((properties?.maximumPacketSize ?? 0) >= 100_000);
});

test("keeps an acknowledgement of the device for a broker that takes nothing for a while", async (t) => {
  const { broker, device } = await connected(t);
  await subscribes(device, broker, "ab");
  broker.say({ ...PLAIN, topic: "ab", qos: 1, messageId: 7, payload: "x" });
  const message = await device.isTold();
  broker.stall(true);
  const topic = { kind: "short", id: 0x6364 } as const;
  const payload = "x".repeat(1_000);
  for (let count = 0; count < 500; count += 1) device.publishes(0, payload, { topic, qos: 0 });
  device.acknowledges(message);
  await isToldNothing(device);
  broker.stall(false);
  await broker.takes("puback");
  assert.ok(broker.packets.filter(({ cmd }) => cmd === "publish").length < 500);
});

test("a device that floods a broker that takes nothing is told that its session is gone", async (t) => {
  const { broker, device } = await connected(t);
  broker.stall(true);
  const start = device.told.length;
  await waitFor("the end", () => {
    for (let count = 0; count < 5_000; count += 1)
      device.say({ type: "pubrel", messageId: 5 + count });
    return device.told.slice(start).some(({ type }) => type === "disconnect");
  });
});

test("§5.4.12: QoS 0 has no message id, whatever the broker's was", async (t) => {
  const { broker, device } = await connected(t);
  broker.say({ ...PLAIN, topic: "ab", qos: 0, payload: "x" });
  const { messageId, dup } = await device.isTold();
  assert.deepEqual([messageId, dup], [0, false]);
});

test("§5.4.13: an unknown topic id in a message of QoS 0 has the topic registered for the next", async (t) => {
  const { broker, device } = await connected(t);
  broker.say({ ...PLAIN, topic: "ab", qos: 0, payload: "1" });
  const first = await device.isTold();
  assert.equal(first.topic.kind, "short");
  device.acknowledges(first, 2);
  await isToldNothing(device);
  broker.say({ ...PLAIN, topic: "ab", qos: 0, payload: "2" });
  device.acknowledges(await device.hears("register"));
  assert.equal((await device.isTold()).topic.kind, "normal");
});

// subscribing.test: SUBSCRIBE and UNSUBSCRIBE by each kind of topic, and how the messages then come.
// Path: test → [subscribing]. Touches: loopback ports, a folder, a broker's process.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { TopicChoice } from "../../../../firmware-bridge/drivers/mqtt-sn/packets.ts";
import { onLine, type SnDevice, startBroker, wholeFile } from "./site.ts";

const broker = await startBroker(wholeFile());

const named = (name: string): TopicChoice => ({ kind: "name", name });
const short = (name: string) => ({ kind: "short", id: Buffer.from(name).readUInt16BE() }) as const;

async function subscribes(device: SnDevice, topic: TopicChoice, qos: -1 | 0 | 1 | 2 = 1) {
  device.say({ type: "subscribe", dup: false, qos, messageId: 4, topic });
  const { topicId, returnCode, qos: granted, messageId } = await device.hears("suback");
  assert.equal(messageId, 4);
  return { topicId, returnCode, granted };
}

test("§5.4.16: SUBACK grants the QoS, and tells an id only of a name without wildcards", async (t) => {
  const { device } = onLine(t, broker, { predefined: [{ id: 5, topic: "sub/one/predefined" }] });
  await device.connects("sub-1");
  for (const qos of [0, 1, 2] as const) {
    const { topicId, ...rest } = await subscribes(device, named(`sub/one/${qos}`), qos);
    assert.deepEqual(rest, { returnCode: 0, granted: qos });
    assert.notEqual(topicId, 0);
  }
  assert.equal((await subscribes(device, named("sub/one/+"))).topicId, 0);
  assert.equal((await subscribes(device, named("sub/#"))).topicId, 0);
  assert.equal((await subscribes(device, short("s1"))).topicId, 0);
  assert.equal((await subscribes(device, { kind: "predefined", id: 5 })).topicId, 5);
});

test("§6.9: rejects what cannot be subscribed to, with the reason", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sub-2");
  const codes = [
    (await subscribes(device, { kind: "predefined", id: 9 })).returnCode,
    (await subscribes(device, named("a/#/b"))).returnCode,
    (await subscribes(device, named("sub/two"), -1)).returnCode,
  ];
  assert.deepEqual(codes, [2, 3, 3]);
});

test("§6.9: messages come by the id that the last SUBACK told, whatever else the topic has", async (t) => {
  const predefined = [
    { id: 1, topic: "sub/three" },
    { id: 2, topic: "sub/three" },
  ];
  const { device } = onLine(t, broker, { predefined });
  await device.connects("sub-3");
  const comesBy = async (topic: string) => {
    await broker.publish(topic, "x");
    const message = await device.isTold();
    device.acknowledges(message);
    return message.topic;
  };
  await device.registers("sub/three");
  for (const id of [1, 2, 1]) {
    await subscribes(device, { kind: "predefined", id });
    await device.registers("sub/three");
    assert.deepEqual(await comesBy("sub/three"), { kind: "predefined", id });
  }
  const { topicId } = await subscribes(device, named("sub/three"));
  assert.deepEqual(await comesBy("sub/three"), { kind: "normal", id: topicId });
  const registered = await device.registers("s3");
  await subscribes(device, short("s3"));
  assert.deepEqual(await comesBy("s3"), short("s3"));
  assert.equal((await subscribes(device, named("s3"))).topicId, registered);
  assert.deepEqual(await comesBy("s3"), { kind: "normal", id: registered });
});

test("§6.9: UNSUBSCRIBE by each kind of topic ends what SUBSCRIBE began", async (t) => {
  const { device } = onLine(t, broker, { predefined: [{ id: 1, topic: "sub/four/p" }] });
  await device.connects("sub-4");
  const topics: [TopicChoice, string][] = [
    [named("sub/four/n"), "sub/four/n"],
    [named("sub/four/w/+"), "sub/four/w/1"],
    [short("s4"), "s4"],
    [{ kind: "predefined", id: 1 }, "sub/four/p"],
  ];
  for (const [topic, name] of topics) {
    await subscribes(device, topic);
    device.say({ type: "unsubscribe", messageId: 6, topic });
    assert.equal((await device.hears("unsuback")).messageId, 6);
    await broker.publish(name, "not for it");
  }
  device.say({ type: "pingreq", clientId: undefined });
  await device.hears("pingresp");
});

test("§6.10: who rejects a REGISTER hears no more of that topic, but all that a wildcard brings", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sub-5", { cleanSession: false });
  await device.subscribes("sub/five");
  device.say({ type: "disconnect", durationSeconds: undefined });
  await device.hears("disconnect");
  await broker.publish("sub/five", "1");
  await device.connects("sub-5", { cleanSession: false });
  device.acknowledges(await device.hears("register"), 3);
  await device.subscribes("sub/five/wild/+");
  await broker.publish("sub/five", "2");
  for (const text of ["3", "4"]) {
    await broker.publish(`sub/five/wild/${text}`, text);
    const register = await device.hears("register");
    assert.equal(register.topic, `sub/five/wild/${text}`);
    device.acknowledges(register, text === "3" ? 3 : 0);
  }
  assert.equal((await device.isTold()).text, "4");
});

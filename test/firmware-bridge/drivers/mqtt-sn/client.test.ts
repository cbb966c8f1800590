// client.test: what becomes of an MQTT-SN client and its will: active, asleep, awake, lost, back again.
// Path: test. Touches: loopback ports, a folder, a broker's process, the clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import { toleratedMs } from "../../../../firmware-bridge/drivers/mqtt-sn/client.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { capturedLog } from "../../captured-log.ts";
import { onDatagrams, onLine, type SnDevice, startBroker, wholeFile } from "./site.ts";

const broker = await startBroker(wholeFile());

const heard = (text: string) => waitFor(text, () => broker.heard.includes(text));

/** A client with a will and a subscription, of a session that stays. */
async function subscriber(device: SnDevice, name: string, durationSeconds = 60): Promise<void> {
  const will = [`will/${name}`, `${name} is lost`] as const;
  assert.equal(await device.connects(name, { will, cleanSession: false, durationSeconds }), 0);
  await device.subscribes(`down/${name}`);
}

async function fallsAsleep(device: SnDevice, durationSeconds: number): Promise<void> {
  device.say({ type: "disconnect", durationSeconds });
  await device.hears("disconnect");
}

/** Acknowledges all messages until PINGRESP, and returns their texts. */
async function wakes(device: SnDevice, clientId: string): Promise<string[]> {
  const texts: string[] = [];
  device.say({ type: "pingreq", clientId });
  for (;;) {
    const packet = await device.next();
    if (packet.type === "pingresp") return texts;
    assert.ok(packet.type === "publish" || packet.type === "register", packet.type);
    if (packet.type === "publish") texts.push(String(packet.data));
    if (packet.type === "register" || packet.qos === 1) device.acknowledges(packet);
  }
}

/** Wakes as often as it takes to be told so many: the broker may not have handed them on before. */
async function wakesFor(device: SnDevice, clientId: string, count: number): Promise<string[]> {
  const texts: string[] = [];
  return waitFor(`${count} messages`, async () => {
    texts.push(...(await wakes(device, clientId)));
    return texts.length >= count ? texts : undefined;
  });
}

/** Says something until the broker has it, so that all before is there, too. */
async function isStillThere(device: SnDevice, name: string): Promise<void> {
  const topicId = await device.registers(`alive/${name}`);
  device.publishes(topicId, "yes");
  await device.hears("puback");
  await heard(`alive/${name}=yes`);
}

test("§7.2: the tolerance is half of a duration up to a minute, and a tenth of a longer one", () => {
  assert.deepEqual([1, 60, 61, 1_000].map(toleratedMs), [1_500, 90_000, 67_100, 1_100_000]);
});

test("§6.3: a client that tells an empty will topic has no will", async (t) => {
  const { device } = onLine(t, broker);
  const connect = { protocolId: 1, durationSeconds: 60, clientId: "cl-1" } as const;
  await subscriber(device, "cl-1");
  device.say({ type: "disconnect", durationSeconds: undefined });
  await device.hears("disconnect");
  device.say({ type: "connect", will: true, cleanSession: false, ...connect });
  await device.hears("willtopicreq");
  device.say({ type: "willtopic", will: undefined });
  assert.equal((await device.hears("connack")).returnCode, 0);
  broker.cut();
  await device.hears("disconnect");
  await isAtTheBroker("cl-1");
  assert.deepEqual(broker.texts("will/cl-1"), []);
});

/** A will that is due is published before the broker takes the client id's next connection. */
async function isAtTheBroker(name: string): Promise<void> {
  const ended = new Promise<void>((resolve) => {
    broker.observer.once("message", () => resolve());
  });
  await broker.publish(`marker/${name}`, "x");
  await ended;
}

test("§6.3: a will stays with a session that stays, also over a restart of the bridge", async (t) => {
  const first = onLine(t, broker);
  await subscriber(first.device, "cl-2");
  first.device.say({ type: "disconnect", durationSeconds: undefined });
  await first.device.hears("disconnect");
  await first.unplug();
  const { device, unplug } = onLine(t, broker, {}, { memory: first.host.memory });
  await device.connects("cl-2", { cleanSession: false });
  assert.deepEqual(broker.texts("will/cl-2"), []);
  await unplug();
  await heard("will/cl-2=cl-2 is lost");
});

test("§6.2: asks again for a will that is not told, and gives up", async (t) => {
  const { device, host } = onLine(t, broker, { retries_max: 1 });
  const connect = { type: "connect", will: true, cleanSession: true, protocolId: 1 } as const;
  device.say({ ...connect, durationSeconds: 60, clientId: "cl-3" });
  await device.hears("willtopicreq");
  await device.hears("willtopicreq");
  device.say({ type: "willtopic", will: { qos: 0, retain: false, topic: "will/cl-3" } });
  await device.hears("willmsgreq");
  await device.hears("willmsgreq");
  await device.hears("disconnect");
  assert.equal(host.faults.length, 1);
});

test("§6.4: changes a will at any time; the session, its subscriptions and messages stay", async (t) => {
  const { device, unplug } = onLine(t, broker);
  await subscriber(device, "cl-4");
  const will = { qos: 1, retain: false, topic: "will/cl-4/new" } as const;
  device.say({ type: "willtopicupd", will });
  assert.equal((await device.hears("willtopicresp")).returnCode, 0);
  device.say({ type: "willmsgupd", message: Buffer.from("new words") });
  assert.equal((await device.hears("willmsgresp")).returnCode, 0);
  await broker.publish("down/cl-4", "still here");
  const message = await device.isTold();
  assert.equal(message.text, "still here");
  device.acknowledges(message);
  await isStillThere(device, "cl-4");
  await unplug();
  await heard("will/cl-4/new=new words");
  assert.deepEqual(broker.texts("will/cl-4"), []);
});

test("§6.4: a will can be changed in a clean session, and taken back", async (t) => {
  const { device, unplug } = onLine(t, broker);
  await device.connects("cl-5", { will: ["will/cl-5", "lost"] });
  await device.subscribes("down/cl-5");
  device.say({ type: "willtopicupd", will: undefined });
  assert.equal((await device.hears("willtopicresp")).returnCode, 0);
  device.say({ type: "willmsgupd", message: Buffer.from("of what?") });
  assert.equal((await device.hears("willmsgresp")).returnCode, 3);
  await broker.publish("down/cl-5", "still here");
  device.acknowledges(await device.isTold());
  await isStillThere(device, "cl-5");
  await unplug();
  await isAtTheBroker("cl-5");
  assert.deepEqual(broker.texts("will/cl-5"), []);
});

test("§6.11: who is silent for longer than its duration is lost, and its will published", async (t) => {
  const { device } = onLine(t, broker);
  await subscriber(device, "cl-6", 1);
  const startMs = performance.now();
  await device.hears("disconnect", 3_000);
  assert.ok(performance.now() - startMs > 1_400);
  await heard("will/cl-6=cl-6 is lost");
});

test("§6.14: what comes for a client that sleeps waits until it asks, in order, each QoS", async (t) => {
  const { device } = onLine(t, broker);
  await subscriber(device, "cl-7");
  await fallsAsleep(device, 30);
  for (const [text, qos] of [
    ["1", 1],
    ["2", 0],
    ["3", 1],
  ] as const) {
    await broker.publish("down/cl-7", text, qos);
  }
  assert.deepEqual(await wakesFor(device, "cl-7", 3), ["1", "2", "3"]);
  assert.deepEqual(await wakes(device, "cl-7"), []);
  await broker.publish("down/cl-7", "4");
  assert.deepEqual(await wakesFor(device, "cl-7", 1), ["4"]);
});

test("holds back more than it may keep at the broker, and counts what it drops", async (t) => {
  const { device, host } = onLine(t, broker, { queue_messages_max: 3 });
  await subscriber(device, "cl-8");
  await fallsAsleep(device, 30);
  for (let count = 1; count <= 20; count += 1) await broker.publish("down/cl-8", `${count}`);
  const expected = Array.from({ length: 20 }, (_, index) => `${index + 1}`);
  assert.deepEqual(await wakesFor(device, "cl-8", 20), expected);
  for (let count = 1; count <= 5; count += 1) await broker.publish("down/cl-8", `q${count}`, 0);
  await waitFor("the drops", () => host.faults.length === 2);
  assert.deepEqual(await wakes(device, "cl-8"), ["q1", "q2", "q3"]);
});

test("§6.14: who falls asleep half way gets the rest the next time", async (t) => {
  const { device } = onLine(t, broker, { retries_max: 0 });
  await subscriber(device, "cl-9");
  await fallsAsleep(device, 30);
  await broker.publish("down/cl-9", "1");
  await broker.publish("down/cl-9", "2");
  device.say({ type: "pingreq", clientId: "cl-9" });
  assert.equal((await device.isTold()).text, "1");
  // Not answered: after the only try it is asleep again, and asks anew.
  const again = await waitFor("the message", async () => {
    device.say({ type: "pingreq", clientId: "cl-9" });
    return device.told.filter(({ type }) => type === "publish").length > 1;
  });
  assert.ok(again);
  const message = await device.isTold();
  assert.deepEqual([message.text, message.dup], ["1", true]);
  device.acknowledges(message);
  const second = await device.isTold();
  assert.equal(second.text, "2");
  device.acknowledges(second);
  await device.hears("pingresp");
});

test("§6.14: who sleeps for too long is lost", async (t) => {
  const { device } = onLine(t, broker);
  await subscriber(device, "cl-10");
  await fallsAsleep(device, 1);
  await heard("will/cl-10=cl-10 is lost");
});

test("§6.14: a client that wakes by CONNECT is active again, and its will is not published", async (t) => {
  const { device } = onLine(t, broker);
  await subscriber(device, "cl-11");
  await fallsAsleep(device, 30);
  await broker.publish("down/cl-11", "while asleep");
  await device.connects("cl-11", { cleanSession: false });
  device.acknowledges(await device.hears("register"));
  const message = await device.isTold();
  assert.equal(message.text, "while asleep");
  device.acknowledges(message);
  await fallsAsleep(device, 30);
  await device.connects("cl-11", { cleanSession: true, will: ["will/cl-11", "another"] });
  await isStillThere(device, "cl-11");
  assert.deepEqual(broker.texts("will/cl-11"), []);
});

test("§6.14: a client that sleeps may ask from another address", async (t) => {
  const { device, another } = await onDatagrams(t, broker);
  await subscriber(device, "cl-12");
  await fallsAsleep(device, 30);
  await broker.publish("down/cl-12", "follow me");
  assert.deepEqual(await wakesFor(await another(), "cl-12", 1), ["follow me"]);
});

test("holds the session of a client that sleeps open when the broker's connection breaks", async (t) => {
  const { log, count } = capturedLog();
  const { device, unplug } = onLine(t, broker, {}, { log });
  await subscriber(device, "cl-13");
  await fallsAsleep(device, 30);
  await broker.publish("down/cl-13", "before");
  broker.refuse(true);
  broker.cut();
  await heard("will/cl-13=cl-13 is lost");
  await broker.publish("down/cl-13", "meanwhile");
  broker.refuse(false);
  await waitFor("the session", () => count("info", "at the broker again") === 1, 10_000);
  assert.deepEqual(await wakesFor(device, "cl-13", 2), ["before", "meanwhile"]);
  await unplug();
  await waitFor("its will, again", () => broker.texts("will/cl-13").length === 2);
});

test("a device that restarts has its will published, and a session in place of the old one", async (t) => {
  const { device } = onLine(t, broker);
  await subscriber(device, "cl-14");
  await isStillThere(device, "cl-14");
  await device.connects("cl-14", { cleanSession: true });
  await heard("will/cl-14=cl-14 is lost");
  const topicId = await device.registers("again/cl-14");
  device.publishes(topicId, "back");
  await device.hears("puback");
});

test("a CONNECT or WILLMSG that is said again for a lost CONNACK is answered again, no more", async (t) => {
  const { device } = onLine(t, broker);
  const will = ["will/cl-15", "lost"] as const;
  await device.connects("cl-15", { will });
  device.say({ type: "willmsg", message: Buffer.from("lost") });
  assert.equal((await device.hears("connack")).returnCode, 0);
  const connect = { type: "connect", will: true, cleanSession: true, protocolId: 1 } as const;
  device.say({ ...connect, durationSeconds: 60, clientId: "cl-15" });
  assert.equal((await device.hears("connack")).returnCode, 0);
  await isStillThere(device, "cl-15");
  assert.deepEqual(broker.texts("will/cl-15"), []);
});

test("another device in the place of the first ends the first one's session", async (t) => {
  const { device } = onLine(t, broker);
  await subscriber(device, "cl-16");
  assert.equal(await device.connects("cl-17"), 0);
  await heard("will/cl-16=cl-16 is lost");
});

test("an unplugged line has the wills of all its devices published at once", async (t) => {
  const { device, another, unplug } = onLine(t, broker);
  await subscriber(device, "cl-18");
  await subscriber(await another(), "cl-19");
  const startMs = performance.now();
  await unplug();
  await heard("will/cl-18=cl-18 is lost");
  await heard("will/cl-19=cl-19 is lost");
  assert.ok(performance.now() - startMs < 1_000);
});

// gateway.test: what the MQTT-SN gateway promises of connections, topics and messages, at a real broker.
// Path: test. Touches: loopback ports, a folder, a broker's process.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "valibot";
import { Credentials } from "../../../../firmware-bridge/drivers/mqtt-sn/credentials.ts";
import { Gateway } from "../../../../firmware-bridge/drivers/mqtt-sn/gateway.ts";
import { encodePacket } from "../../../../firmware-bridge/drivers/mqtt-sn/packets.ts";
import { Settings } from "../../../../firmware-bridge/drivers/mqtt-sn/settings.ts";
import { Wills } from "../../../../firmware-bridge/drivers/mqtt-sn/wills.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { fakeHost } from "../../fake-host.ts";
import { onDatagrams, onLine, type SnDevice, startBroker, wholeFile } from "./site.ts";

const broker = await startBroker(wholeFile());

const CONNECT = {
  type: "connect",
  will: false,
  cleanSession: true,
  protocolId: 1,
  durationSeconds: 60,
} as const;
const heard = (text: string) => waitFor(text, () => broker.heard.includes(text));
const short = (name: string) => ({ kind: "short", id: Buffer.from(name).readUInt16BE() }) as const;

test("§6.1: says that it is there, when asked and by itself", async (t) => {
  const { device } = onLine(t, broker, { gateway_id: 7, advertise_seconds: 1 });
  assert.deepEqual(await device.hears("advertise"), {
    type: "advertise",
    gatewayId: 7,
    durationSeconds: 1,
  });
  device.say({ type: "searchgw", radius: 1 });
  assert.equal((await device.hears("gwinfo")).gatewayId, 7);
  await device.hears("advertise");
});

test("§6.1: advertises itself only while it reaches the broker", async (t) => {
  broker.refuse(true);
  const { device } = onLine(t, broker, { advertise_seconds: 2 });
  device.say({ type: "searchgw", radius: 0 });
  await device.hears("gwinfo").finally(() => broker.refuse(false));
  assert.deepEqual(
    device.told.map(({ type }) => type),
    ["gwinfo"],
  );
  await device.hears("advertise");
});

test("§5.2.1, §5.3.4: takes the longer form of length of a short message, and flags without a meaning", async (t) => {
  const { device } = onLine(t, broker);
  // CONNECT with all flags but Will; QoS, Retain, DUP and TopicIdType say nothing here.
  device.sayBytes(Buffer.from("01000b04f701003c6c6f6e", "hex"));
  assert.equal((await device.hears("connack")).returnCode, 0);
  device.sayBytes(Buffer.from("01000416", "hex"));
  await device.hears("pingresp");
});

test("§6.1: answers one question at a time, however many come", async (t) => {
  const { device } = onLine(t, broker);
  const question = encodePacket({ type: "searchgw", radius: 1 });
  device.sayBytes(Buffer.concat(Array.from({ length: 300 }, () => question)));
  await device.hears("gwinfo");
  assert.equal(await device.connects("sn-1s"), 0);
  assert.ok(device.told.length < 10, `${device.told.length} answers`);
  device.say({ type: "searchgw", radius: 1 });
  await device.hears("gwinfo");
});

test("§6.2, §6.12: a device has a session of its own at the broker, from CONNECT to DISCONNECT", async (t) => {
  const { device, host } = onLine(t, broker);
  assert.equal(await device.connects("sn-1", { will: ["will/sn-1", "gone"] }), 0);
  const topicId = await device.registers("plain/sn-1");
  device.publishes(topicId, "hello", { messageId: 77 });
  const answer = await device.hears("puback");
  assert.deepEqual(answer, { type: "puback", topicId, messageId: 77, returnCode: 0 });
  await heard("plain/sn-1=hello");
  device.say({ type: "pingreq", clientId: undefined });
  await device.hears("pingresp");
  device.say({ type: "disconnect", durationSeconds: undefined });
  await device.hears("disconnect");
  assert.deepEqual(broker.texts("will/sn-1"), []);
  device.publishes(topicId, "too late");
  await device.hears("disconnect");
  assert.equal(host.faults.length, 1);
  assert.ok(host.frames() > 5);
});

test("§6.12: a device that says goodbye and connects in one breath has a session again", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sn-1b");
  device.say({ type: "disconnect", durationSeconds: undefined });
  device.say({ ...CONNECT, clientId: "sn-1b" });
  await device.hears("disconnect");
  assert.equal((await device.hears("connack")).returnCode, 0);
});

test("§6.2: refuses what is not MQTT-SN 1.2, a client without a name, and one too many", async (t) => {
  const { device, another } = onLine(t, broker, { clients_max: 1 });
  device.say({ ...CONNECT, protocolId: 2, clientId: "sn-2" });
  assert.equal((await device.hears("connack")).returnCode, 3);
  device.say({ ...CONNECT, clientId: "" });
  assert.equal((await device.hears("connack")).returnCode, 3);
  assert.equal(await device.connects("sn-2"), 0);
  assert.equal(await (await another()).connects("sn-2b"), 1);
});

test("takes only the clients of the settings when it is told so", async (t) => {
  const clients = [{ client_id: "sn-known" }];
  const { device } = onLine(t, broker, { accept: "listed", clients });
  assert.equal(await device.connects("sn-unknown"), 3);
  assert.equal(await device.connects("sn-known"), 0);
});

test("§5.3.10: says congestion while the broker is away", async (t) => {
  const { device } = onLine(t, broker);
  broker.refuse(true);
  const refused = await device.connects("sn-3").finally(() => broker.refuse(false));
  assert.equal(refused, 1);
  assert.equal(await device.connects("sn-3"), 0);
});

test("§6.6: an unknown topic id is told, of any QoS, and a right that is missing, too", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sn-4");
  for (const qos of [0, 1, 2] as const) {
    device.publishes(42, "x", { qos });
    assert.equal((await device.hears("puback")).returnCode, 2);
  }
  const topicId = await device.registers("sluice/status");
  for (const qos of [1, 2] as const) {
    device.publishes(topicId, "I am the gateway", { qos });
    assert.equal((await device.hears("puback")).returnCode, 3);
  }
  device.say({ type: "register", topicId: 0, messageId: 3, topic: "a/#" });
  assert.equal((await device.hears("regack")).returnCode, 3);
});

test("§6.7: short and predefined topics need no registration", async (t) => {
  const { device } = onLine(t, broker, {
    predefined: [{ id: 1, topic: "predefined/all" }],
    clients: [{ client_id: "sn-5", predefined: [{ id: 2, topic: "predefined/own" }] }],
  });
  await device.connects("sn-5");
  device.publishes(0, "1", { topic: { kind: "predefined", id: 1 } });
  await device.hears("puback");
  device.publishes(0, "2", { topic: { kind: "predefined", id: 2 } });
  await device.hears("puback");
  device.publishes(0, "3", { topic: short("s5") });
  await device.hears("puback");
  for (const text of ["predefined/all=1", "predefined/own=2", "s5=3"]) await heard(text);
  device.publishes(0, "4", { topic: { kind: "predefined", id: 3 } });
  assert.equal((await device.hears("puback")).returnCode, 2);
});

test("§6.8: QoS -1 goes to the broker without a connection, and has no answer", async (t) => {
  const settings = { predefined: [{ id: 1, topic: "unconnected/predefined" }] };
  const { device, host } = onLine(t, broker, settings);
  const minusOne = { qos: -1, messageId: 0 } as const;
  device.publishes(0, "1", { ...minusOne, topic: { kind: "predefined", id: 1 } });
  device.publishes(0, "2", { ...minusOne, topic: short("u2") });
  await heard("unconnected/predefined=1");
  await heard("u2=2");
  device.publishes(0, "3", { ...minusOne, topic: { kind: "predefined", id: 9 } });
  await waitFor("the fault", () => host.faults.length > 0);
  assert.deepEqual(device.told, []);
});

test("§6.8: QoS -1 of a client that is connected goes by its own session, by any topic id", async (t) => {
  const { device, host } = onLine(t, broker, { publish_without_connection: false });
  const minusOne = { qos: -1, messageId: 0 } as const;
  device.publishes(0, "refused", { ...minusOne, topic: short("n1") });
  await device.connects("sn-minus");
  device.publishes(await device.registers("minus/one"), "1", minusOne);
  await heard("minus/one=1");
  device.publishes(99, "of no topic", minusOne);
  device.say({ type: "pingreq", clientId: undefined });
  await device.hears("pingresp");
  assert.equal(host.faults.length, 2);
  assert.deepEqual(broker.texts("n1"), []);
});

test("§5.4.12: Retain goes both ways", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sn-retain");
  device.publishes(await device.registers("kept/sn"), "kept", { retain: true });
  await device.hears("puback");
  await device.subscribes("kept/sn");
  const kept = await device.isTold();
  assert.deepEqual([kept.text, kept.retain], ["kept", true]);
  device.acknowledges(kept);
  await broker.publish("kept/sn", "live");
  const live = await device.isTold();
  assert.deepEqual([live.text, live.retain], ["live", false]);
  device.acknowledges(live);
  device.publishes(0, "", { topic: { kind: "normal", id: live.topic.id }, retain: true, qos: 0 });
  assert.equal((await device.isTold()).text, "");
});

test("takes any number of messages that come at once, and some behind a CONNECT", async (t) => {
  const { device } = onLine(t, broker);
  const publish = { type: "publish", dup: false, qos: 0, retain: false, messageId: 0 } as const;
  const publishing = (text: string) =>
    encodePacket({ ...publish, topic: short("s7"), data: Buffer.from(text) });
  const texts = Array.from({ length: 300 }, (_, index) => `${index + 1}`);
  device.sayBytes(
    Buffer.concat([
      encodePacket({ ...CONNECT, clientId: "sn-burst" }),
      ...texts.slice(0, 10).map(publishing),
    ]),
  );
  await device.hears("connack");
  device.sayBytes(Buffer.concat(texts.slice(10).map(publishing)));
  await heard("s7=300");
  assert.deepEqual(broker.texts("s7"), texts);
});

test("§6.6: QoS 2 arrives once, whatever of it is said twice", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sn-6");
  const topicId = await device.registers("twice/sn-6");
  device.publishes(topicId, "once", { qos: 2 });
  assert.equal((await device.hears("pubrec")).messageId, 9);
  device.publishes(topicId, "once", { qos: 2, dup: true });
  await device.hears("pubrec");
  device.say({ type: "pubrel", messageId: 9 });
  await device.hears("pubcomp");
  device.say({ type: "pubrel", messageId: 9 });
  await device.hears("pubcomp");
  device.publishes(topicId, "next", { qos: 2 });
  await device.hears("pubrec");
  device.say({ type: "pubrel", messageId: 9 });
  await device.hears("pubcomp");
  await heard("twice/sn-6=next");
  assert.deepEqual(broker.texts("twice/sn-6"), ["once", "next"]);
});

test("QoS 2 arrives once also when the connection to the broker breaks half way", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sn-7", { cleanSession: false });
  const topicId = await device.registers("broken/sn-7");
  device.publishes(topicId, "once", { qos: 2 });
  await device.hears("pubrec");
  broker.cut();
  await device.hears("disconnect");
  await device.connects("sn-7", { cleanSession: false });
  const again = await device.registers("broken/sn-7");
  device.publishes(again, "once", { qos: 2, dup: true });
  await device.hears("pubrec");
  device.say({ type: "pubrel", messageId: 9 });
  await device.hears("pubcomp");
  await heard("broken/sn-7=once");
  device.publishes(again, "end");
  await device.hears("puback");
  await heard("broken/sn-7=end");
  assert.deepEqual(broker.texts("broken/sn-7"), ["once", "end"]);
});

test("§6.9: SUBACK tells the id of a name, and messages of all three QoS come by it", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sn-8");
  const topicId = await device.subscribes("down/sn-8", 2);
  await broker.publish("down/sn-8", "0", 0);
  const zero = await device.isTold();
  assert.deepEqual([zero.text, zero.qos, zero.topic], ["0", 0, { kind: "normal", id: topicId }]);
  await broker.publish("down/sn-8", "1", 1);
  const one = await device.isTold();
  assert.deepEqual([one.text, one.qos], ["1", 1]);
  device.acknowledges(one);
  await broker.publish("down/sn-8", "2", 2);
  const two = await device.isTold();
  assert.deepEqual([two.text, two.qos], ["2", 2]);
  device.say({ type: "pubrec", messageId: two.messageId });
  assert.equal((await device.hears("pubrel")).messageId, two.messageId);
  device.say({ type: "pubcomp", messageId: two.messageId });
  device.say({ type: "unsubscribe", messageId: 5, topic: { kind: "name", name: "down/sn-8" } });
  assert.equal((await device.hears("unsuback")).messageId, 5);
});

test("§6.10: a topic that a wildcard brings is registered first, and one at a time is told", async (t) => {
  const { device } = onLine(t, broker);
  await device.connects("sn-9");
  assert.equal(await device.subscribes("wild/sn-9/#"), 0);
  await broker.publish("wild/sn-9/a", "1");
  await broker.publish("wild/sn-9/a", "2");
  const register = await device.hears("register");
  assert.equal(register.topic, "wild/sn-9/a");
  device.acknowledges(register);
  for (const text of ["1", "2"]) {
    const message = await device.isTold();
    assert.deepEqual([message.text, message.topic.id], [text, register.topicId]);
    device.say({ type: "pingreq", clientId: undefined });
    await device.hears("pingresp");
    device.acknowledges(message);
  }
});

test("§5.4.13: a topic id that the device does not know is registered anew, and the message told again", async (t) => {
  const { device } = onLine(t, broker, { predefined: [{ id: 5, topic: "down/sn-10" }] });
  await device.connects("sn-10");
  await device.subscribes("down/+");
  await broker.publish("down/sn-10", "x");
  const first = await device.isTold();
  assert.deepEqual(first.topic, { kind: "predefined", id: 5 });
  device.acknowledges(first, 2);
  device.acknowledges(await device.hears("register"));
  const again = await device.isTold();
  assert.deepEqual([again.text, again.topic.kind, again.dup], ["x", "normal", true]);
  device.acknowledges(again);
});

test("a message that the device refuses holds up none behind it", async (t) => {
  const { device, host } = onLine(t, broker);
  await device.connects("sn-11");
  await device.subscribes("down/sn-11", 2);
  await broker.publish("down/sn-11", "bad", 1);
  await broker.publish("down/sn-11", "bad, too", 2);
  await broker.publish("down/sn-11", "good", 1);
  device.acknowledges(await device.isTold(), 3);
  device.acknowledges(await device.isTold(), 3);
  const good = await device.isTold();
  assert.equal(good.text, "good");
  device.acknowledges(good);
  assert.equal(host.faults.length, 2);
});

test("§6.13: what is not answered is said again, with DUP, and then the device is lost", async (t) => {
  const { device } = onLine(t, broker, { retries_max: 2 });
  await device.connects("sn-12", { cleanSession: false, will: ["will/sn-12", "lost"] });
  await device.subscribes("down/sn-12");
  await broker.publish("down/sn-12", "x");
  const told = [await device.isTold(), await device.isTold(), await device.isTold()];
  assert.deepEqual(
    told.map(({ dup }) => dup),
    [false, true, true],
  );
  await device.hears("disconnect");
  await heard("will/sn-12=lost");
  // Custody stayed with the broker.
  await device.connects("sn-12", { cleanSession: false });
  device.acknowledges(await device.hears("register"));
  const later = await device.isTold();
  assert.equal(later.text, "x");
  device.acknowledges(later);
});

test("§5.5: devices behind a forwarder have a session each", async (t) => {
  const { device, another } = onLine(t, broker);
  const nodes = [device, await another(), await another()];
  for (const [index, node] of nodes.entries()) {
    assert.equal(await node.connects(`sn-node-${index}`), 0);
    await node.subscribes(`down/node/${index}`);
  }
  await talk(nodes);
});

test("§5.5: tells the forwarder the radius of a GWINFO, and nothing else of what it said", () => {
  const host = fakeHost("box");
  const gateway = new Gateway({
    settings: parse(Settings, { publish_without_connection: false }),
    host,
    wills: new Wills(host.memory, 1, host.log),
    credentials: new Credentials([], host.door),
    broadcast: undefined,
  });
  const replies: string[] = [];
  const reply = async (frame: Uint8Array) => void replies.push(Buffer.from(frame).toString("hex"));
  const from = (message: string) => Buffer.from(`05fefdabcd${message}`, "hex");
  gateway.take(from("030102"), "line", reply);
  gateway.take(from("0216"), "line", reply);
  assert.deepEqual(replies, ["05fe02abcd030201", "05fe00abcd0218"]);
});

test("devices on datagrams have a session for each address", async (t) => {
  const { device, another } = await onDatagrams(t, broker);
  const nodes = [device, await another(), await another()];
  for (const [index, node] of nodes.entries()) {
    assert.equal(await node.connects(`sn-udp-${index}`), 0);
    await node.subscribes(`down/node/${index}`);
  }
  await talk(nodes);
});

async function talk(nodes: readonly SnDevice[]): Promise<void> {
  for (const [index, node] of nodes.entries()) {
    await broker.publish(`down/node/${index}`, `to ${index}`);
    const message = await node.isTold();
    assert.equal(message.text, `to ${index}`);
    node.acknowledges(message);
  }
}

test("noise, malformed messages and datagrams are counted, and end nothing", async (t) => {
  const line = onLine(t, broker, { gap_ms_max: 50 });
  line.device.sayBytes(Buffer.from("00ff300c0000", "hex"));
  assert.equal(await line.device.connects("sn-13"), 0);
  line.device.sayBytes(Buffer.from("070c0300010001", "hex"));
  assert.ok(line.host.faults.length >= 1);
  const { device, host } = await onDatagrams(t, broker);
  device.sayBytes(Buffer.from("0216ff", "hex"));
  device.sayBytes(Buffer.from("070a00000001ff", "hex"));
  assert.equal(await device.connects("sn-14"), 0);
  assert.equal(host.faults.length, 2);
});

test("answers a goodbye without a session once, and never what only a gateway says", async (t) => {
  const { device, host } = onLine(t, broker);
  const goodbye = { type: "disconnect", durationSeconds: undefined } as const;
  for (let count = 0; count < 3; count += 1) device.say(goodbye);
  device.say({ type: "connack", returnCode: 0 });
  device.say({ type: "pingreq", clientId: undefined });
  device.say({ type: "searchgw", radius: 0 });
  // To the first goodbye, and to the PINGREQ.
  await device.hears("disconnect");
  await device.hears("disconnect");
  await device.hears("gwinfo");
  assert.equal(host.faults.length, 2);
});

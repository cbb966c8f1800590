// custody.test: an MQTT-SN acknowledgement promises what the broker's does: it comes after it.
// Path: test. Touches: loopback ports, a folder, a broker's process.

import assert from "node:assert/strict";
import { connect as connectTcp } from "node:net";
import { type TestContext, test } from "node:test";
import { connect } from "mqtt";
import type { IConnackPacket } from "mqtt-packet";
import { freePlace, type Gateway, startGateway } from "../../../journeys/support/gateway.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { silentBroker } from "./silent-broker.ts";
import { onLine, type SnDevice } from "./site.ts";

async function connected(t: TestContext, properties?: IConnackPacket["properties"]) {
  const broker = silentBroker(t, properties);
  const { device } = onLine(t, broker);
  await device.connects("custody");
  return { broker, device, topicId: await device.registers("a/b") };
}

/** The device has nothing more to hear than the answer to this. */
async function isToldNothing(device: Awaited<ReturnType<typeof connected>>["device"]) {
  device.say({ type: "pingreq", clientId: undefined });
  await device.hears("pingresp");
}

test("acknowledges QoS 1 only when the broker has", async (t) => {
  const { broker, device, topicId } = await connected(t);
  device.publishes(topicId, "x", { messageId: 300 });
  const { messageId } = await broker.takes("publish");
  assert.equal(messageId, 300);
  await isToldNothing(device);
  broker.say({ cmd: "puback", messageId: 300, reasonCode: 0 });
  assert.equal((await device.hears("puback")).messageId, 300);
});

test("says congestion when the broker's quota is exceeded, not that it has the message", async (t) => {
  const { broker, device, topicId } = await connected(t);
  for (const qos of [1, 2] as const) {
    device.publishes(topicId, "x", { messageId: qos, qos });
    await waitFor("the PUBLISH", () => broker.packets.some((it) => it.messageId === qos));
    const cmd = qos === 1 ? "puback" : "pubrec";
    broker.say({ cmd, messageId: qos, reasonCode: 0x97 });
    assert.equal((await device.hears("puback")).returnCode, 1);
  }
});

test("does each step of QoS 2 only when the broker has", async (t) => {
  const { broker, device, topicId } = await connected(t);
  device.publishes(topicId, "x", { qos: 2, messageId: 300 });
  await broker.takes("publish");
  await isToldNothing(device);
  broker.say({ cmd: "pubrec", messageId: 300, reasonCode: 0 });
  await device.hears("pubrec");
  device.say({ type: "pubrel", messageId: 300 });
  await broker.takes("pubrel");
  device.say({ type: "pubrel", messageId: 300 });
  await isToldNothing(device);
  assert.equal(broker.packets.filter(({ cmd }) => cmd === "pubrel").length, 1);
  broker.say({ cmd: "pubcomp", messageId: 300, reasonCode: 0 });
  await device.hears("pubcomp");
});

test("tells the broker of an acknowledgement only when the device has given it", async (t) => {
  const { broker, device } = await connected(t);
  const plain = { cmd: "publish", topic: "a/b", payload: "x", dup: false, retain: false } as const;
  broker.say({ ...plain, qos: 1, messageId: 7 });
  const message = await device.isTold();
  await isToldNothing(device);
  assert.ok(!broker.packets.some(({ cmd }) => cmd === "puback"));
  device.acknowledges(message);
  assert.equal((await broker.takes("puback")).messageId, 7);
  broker.say({ ...plain, qos: 2, messageId: 8 });
  await device.isTold();
  await isToldNothing(device);
  assert.ok(!broker.packets.some(({ cmd }) => cmd === "pubrec"));
  device.say({ type: "pubrec", messageId: 8 });
  await broker.takes("pubrec");
  device.say({ type: "pubrec", messageId: 8 });
  await isToldNothing(device);
  assert.equal(broker.packets.filter(({ cmd }) => cmd === "pubrec").length, 1);
  broker.say({ cmd: "pubrel", messageId: 8, reasonCode: 0 });
  await device.hears("pubrel");
  await isToldNothing(device);
  assert.ok(!broker.packets.some(({ cmd }) => cmd === "pubcomp"));
  device.say({ type: "pubcomp", messageId: 8 });
  await broker.takes("pubcomp");
});

test("asks a device that has too much on its way to wait", async (t) => {
  const { device, topicId } = await connected(t);
  for (let messageId = 1; messageId <= 17; messageId += 1) {
    device.publishes(topicId, "x", { messageId });
  }
  const { messageId, returnCode } = await device.hears("puback");
  assert.deepEqual([messageId, returnCode], [17, 1]);
});

test("keeps to what the broker can take: Receive Maximum of the session is what waits here", async (t) => {
  const { broker } = await connected(t);
  const connect = await broker.takes("connect");
  assert.equal(connect.properties?.receiveMaximum, 32);
});

test("a message id that is used for another message is refused until the last one has ended", async (t) => {
  const { broker, device, topicId } = await connected(t);
  device.publishes(topicId, "old", { qos: 2 });
  await broker.takes("publish");
  broker.say({ cmd: "pubrec", messageId: 9, reasonCode: 0 });
  await device.hears("pubrec");
  device.publishes(topicId, "new", { qos: 2 });
  assert.equal((await device.hears("puback")).returnCode, 1);
  // The broker has the old one, and the device will not release it.
  await broker.takes("pubrel");
  device.publishes(topicId, "new", { qos: 1 });
  assert.equal((await device.hears("puback")).returnCode, 1);
  broker.say({ cmd: "pubcomp", messageId: 9, reasonCode: 0 });
  await isToldNothing(device);
  device.publishes(topicId, "new", { qos: 1, dup: true });
  assert.equal(String((await broker.takes("publish", 2)).payload), "new");
  device.publishes(topicId, "another", { qos: 1 });
  assert.equal((await device.hears("puback")).returnCode, 1);
  // Told now, it would be taken for that of the other.
  broker.say({ cmd: "puback", messageId: 9, reasonCode: 0 });
  await isToldNothing(device);
  device.publishes(topicId, "another", { qos: 2 });
  await broker.takes("publish", 3);
  device.publishes(topicId, "the last", { qos: 2 });
  assert.equal((await device.hears("puback")).returnCode, 1);
  broker.say({ cmd: "pubrec", messageId: 9, reasonCode: 0 });
  await broker.takes("pubrel", 2);
  broker.say({ cmd: "pubcomp", messageId: 9, reasonCode: 0 });
  await isToldNothing(device);
  device.publishes(topicId, "the last", { qos: 1 });
  await broker.takes("publish", 4);
  broker.say({ cmd: "puback", messageId: 9, reasonCode: 0 });
  assert.equal((await device.hears("puback")).returnCode, 0);
});

test("goes on when a device gives up messages half way, again and again", async (t) => {
  const { broker, device, topicId } = await connected(t);
  for (let messageId = 1; messageId <= 40; messageId += 1) {
    device.publishes(topicId, "x", { qos: 2, messageId });
    await waitFor("the PUBLISH", () => broker.packets.at(-1)?.messageId === messageId);
    broker.say({ cmd: "pubrec", messageId, reasonCode: 0 });
    assert.equal((await device.hears("pubrec")).messageId, messageId);
  }
});

test("gives the broker a sign of life as often as the broker wishes", async (t) => {
  const { broker } = await connected(t, { serverKeepAlive: 1 });
  await broker.takes("pingreq");
});

/** Publishes until it is acknowledged, as a device does: with a new connection when it lost the last. */
async function publishes(device: SnDevice, text: string): Promise<void> {
  let dup = false;
  await waitFor(
    `the acknowledgement of ${text}`,
    async () => {
      const told = device.told.length;
      device.publishes(0, text, { topic: { kind: "predefined", id: 1 }, dup });
      dup = true;
      const answer = await waitFor("an answer", () => device.told[told], 1_000).catch(() => {});
      if (answer?.type !== "disconnect")
        return answer?.type === "puback" && answer.returnCode === 0;
      device.say(CONNECT);
      return false;
    },
    30_000,
  );
}

const CONNECT = {
  type: "connect",
  will: false,
  cleanSession: false,
  protocolId: 1,
  durationSeconds: 0,
  clientId: "custody",
} as const;

/** A consumer whose session stays; with `texts`, it takes what is there until the last is. */
async function consumer(port: number, texts?: string[], last?: string): Promise<void> {
  const client = connect(`mqtt://127.0.0.1:${port}`, { clientId: "consumer", clean: false });
  // At once: the first messages come right behind the CONNACK.
  if (texts) client.on("message", (_topic, payload) => void texts.push(String(payload)));
  else await client.subscribeAsync("custody/#", { qos: 1 });
  if (texts && last) await waitFor(last, () => texts.includes(last), 20_000);
  await client.endAsync();
}

test("loses nothing that it acknowledged when the broker is killed again and again", async (t) => {
  const place = await freePlace(t);
  const starts = async (): Promise<Gateway> => {
    const gateway = startGateway(t, place);
    await waitFor("the gateway", gateway.status, 20_000);
    return gateway;
  };
  let gateway = await starts();
  await consumer(place.mqttPort);
  const predefined = [{ id: 1, topic: "custody/sn" }];
  const open = () => connectTcp(place.mqttPort, "127.0.0.1");
  const { device } = onLine(t, { open }, { predefined });
  device.say(CONNECT);
  const acknowledged: string[] = [];
  for (let count = 1; count <= 60; count += 1) {
    const publishing = publishes(device, `${count}`);
    if (count % 20 === 0) {
      gateway.child.kill("SIGKILL");
      await gateway.exited;
      gateway = await starts();
    }
    await publishing;
    acknowledged.push(`${count}`);
  }
  const received: string[] = [];
  await consumer(place.mqttPort, received, "60");
  assert.deepEqual([...new Set(received)], acknowledged);
});

// sessions.test: what of an MQTT-SN client's session stays: clean or not, asleep, awake and back.
// Path: test → client. Touches: loopback ports, a folder, a broker's process, the clock.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { waitFor } from "../../../support/wait-for.ts";
import { capturedLog } from "../../captured-log.ts";
import { silentBroker } from "./silent-broker.ts";
import { onLine, type SnDevice, startBroker, wholeFile } from "./site.ts";

const broker = await startBroker(wholeFile());

const heard = (text: string) => waitFor(text, () => broker.heard.includes(text));
const SESSION_SECONDS = 604_800;

async function saysGoodbye(device: SnDevice, durationSeconds?: number): Promise<void> {
  device.say({ type: "disconnect", durationSeconds });
  assert.equal((await device.hears("disconnect")).durationSeconds, undefined);
}

/** Alone on its line, and connected with a will and a subscription. */
async function connected(t: TestContext, name: string, settings: Record<string, unknown> = {}) {
  const { log, count } = capturedLog();
  const site = onLine(t, broker, settings, { log });
  const will = [`will/${name}`, "lost"] as const;
  assert.equal(await site.device.connects(name, { will, cleanSession: false }), 0);
  await site.device.subscribes(`down/${name}`);
  return { ...site, count };
}

/** What the broker had to say to a client that slept was said. */
async function isHere(device: SnDevice, clientId: string): Promise<void> {
  device.say({ type: "pingreq", clientId });
  await device.hears("pingresp");
}

test("§6.3: the four ways of CleanSession and Will", async (t) => {
  const silent = silentBroker(t);
  const { device } = onLine(t, silent);
  const will = ["w", "gone"] as const;
  let nth = 0;
  const connects = async (cleanSession: boolean, told?: readonly [string, string]) => {
    await device.connects("se-1", { cleanSession, ...(told && { will: told }) });
    nth += 1;
    const packet = await silent.takes("connect", nth);
    await saysGoodbye(device);
    const { sessionExpiryInterval } = (await silent.takes("disconnect", nth)).properties ?? {};
    const text = packet.will && String(packet.will.payload);
    return [packet.clean, text, sessionExpiryInterval];
  };
  const kept = undefined;
  assert.deepEqual(await connects(false, will), [false, "gone", kept]);
  assert.deepEqual(await connects(false), [false, "gone", kept]);
  assert.deepEqual(await connects(false, ["w", "new"]), [false, "new", kept]);
  assert.deepEqual(await connects(true, will), [true, "gone", 0]);
  assert.deepEqual(await connects(false), [false, undefined, kept]);
  assert.deepEqual(await connects(false, will), [false, "gone", kept]);
  assert.deepEqual(await connects(true), [true, undefined, 0]);
  assert.deepEqual(await connects(false), [false, undefined, kept]);
});

test("§5.4.7, §5.4.22: a will has the QoS and Retain of its message, also when it is changed", async (t) => {
  const silent = silentBroker(t);
  const { device } = onLine(t, silent);
  const connect = { type: "connect", cleanSession: true, protocolId: 1 } as const;
  const willOf = async (nth: number) => {
    const { topic, payload, qos, retain } = (await silent.takes("connect", nth)).will ?? {};
    return [topic, String(payload), qos, retain];
  };
  device.say({ ...connect, will: true, durationSeconds: 60, clientId: "se-10" });
  await device.hears("willtopicreq");
  device.say({ type: "willtopic", will: { qos: 2, retain: true, topic: "w" } });
  await device.hears("willmsgreq");
  device.say({ type: "willmsg", message: Buffer.from("gone") });
  await device.hears("connack");
  assert.deepEqual(await willOf(1), ["w", "gone", 2, true]);
  device.say({ type: "willtopicupd", will: { qos: 0, retain: false, topic: "v" } });
  assert.equal((await device.hears("willtopicresp")).returnCode, 0);
  assert.deepEqual(await willOf(2), ["v", "gone", 0, false]);
  for (const will of [
    { qos: -1, retain: false, topic: "w" },
    { qos: 0, retain: false, topic: "w/#" },
  ] as const) {
    device.say({ type: "willtopicupd", will });
    assert.equal((await device.hears("willtopicresp")).returnCode, 3);
    device.say({ ...connect, will: true, durationSeconds: 60, clientId: "se-10" });
    await device.hears("willtopicreq");
    device.say({ type: "willtopic", will });
    assert.equal((await device.hears("connack")).returnCode, 3);
    device.say({ ...connect, will: false, durationSeconds: 60, clientId: "se-10" });
    await device.hears("connack");
  }
});

test("§6.3: who wakes from a clean session by CONNECT without CleanSession keeps it from then on", async (t) => {
  const silent = silentBroker(t);
  const { device } = onLine(t, silent);
  await device.connects("se-2", { will: ["w", "gone"] });
  await saysGoodbye(device, 30);
  assert.equal(await device.connects("se-2", { cleanSession: false }), 0);
  const { clean, will, properties } = await silent.takes("connect", 2);
  assert.deepEqual([clean, String(will?.payload)], [false, "gone"]);
  assert.equal(properties?.sessionExpiryInterval, SESSION_SECONDS);
});

test("§6.14: a goodbye while asleep is one, and the will is not published", async (t) => {
  const { device, host } = await connected(t, "se-3");
  await saysGoodbye(device, 1);
  await saysGoodbye(device);
  device.say({ type: "pingreq", clientId: "se-3" });
  await device.hears("disconnect");
  await broker.publish("marker/se-3", "x");
  await heard("marker/se-3=x");
  assert.deepEqual(broker.texts("will/se-3"), []);
  assert.equal(host.faults.length, 1);
});

test("§6.14: DISCONNECT while asleep changes for how long", async (t) => {
  const { device, host } = await connected(t, "se-4");
  await saysGoodbye(device, 1);
  await saysGoodbye(device, 30);
  const startMs = performance.now();
  await waitFor("the first time to be over", () => performance.now() - startMs > 1_700);
  await isHere(device, "se-4");
  assert.deepEqual(host.faults, []);
  await saysGoodbye(device, 1);
  await heard("will/se-4=lost");
});

test("§6.14: DISCONNECT changes it also while the broker is away", async (t) => {
  const { device, count } = await connected(t, "se-5");
  await saysGoodbye(device, 30);
  broker.refuse(true);
  broker.cut();
  await heard("will/se-5=lost");
  await saysGoodbye(device, 40);
  broker.refuse(false);
  await waitFor("the session", () => count("info", "at the broker again") === 1, 10_000);
  await isHere(device, "se-5");
});

test("§6.14: the sleep timer stands still while a client is awake", async (t) => {
  const { device } = await connected(t, "se-6");
  await saysGoodbye(device, 1);
  await broker.publish("down/se-6", "slow");
  const message = await waitFor("the message", async () => {
    device.say({ type: "pingreq", clientId: "se-6" });
    const answer = await device.next();
    return answer.type === "publish" ? answer : undefined;
  });
  // At 0, 1 and 2 s; by then it would have slept for too long.
  await device.isTold();
  await device.isTold();
  device.acknowledges(message);
  await device.hears("pingresp");
  await heard("will/se-6=lost");
});

test("§6.14: a client that asks again while it is awake, or changes its will, gets PINGRESP in the end", async (t) => {
  const { device, unplug } = await connected(t, "se-7");
  await saysGoodbye(device, 30);
  await broker.publish("down/se-7", "x");
  await waitFor("the message", async () => {
    device.say({ type: "pingreq", clientId: "se-7" });
    return (await device.next()).type === "publish";
  });
  device.say({ type: "pingreq", clientId: "se-7" });
  device.say({ type: "willmsgupd", message: Buffer.from("new") });
  assert.equal((await device.hears("willmsgresp")).returnCode, 0);
  // It may seem to have all before the broker tells what was not acknowledged.
  await waitFor("it again", async () => {
    const packet = await device.next();
    if (packet.type === "publish") device.acknowledges(packet);
    else device.say({ type: "pingreq", clientId: "se-7" });
    return packet.type === "publish";
  });
  await device.hears("pingresp");
  await unplug();
  await heard("will/se-7=new");
});

test("§6.14: PINGRESP comes behind the whole of QoS 2, and who sleeps half way is released later", async (t) => {
  const { device } = await connected(t, "se-11");
  await device.subscribes("down/se-11", 2);
  await saysGoodbye(device, 30);
  await broker.publish("down/se-11", "once", 2);
  const message = await waitFor("the message", async () => {
    device.say({ type: "pingreq", clientId: "se-11" });
    const answer = await device.next();
    return answer.type === "publish" ? answer : undefined;
  });
  const { messageId } = message;
  device.say({ type: "pubrec", messageId });
  await device.hears("pubrel");
  await saysGoodbye(device, 30);
  // The client id may be left out.
  device.say({ type: "pingreq", clientId: undefined });
  assert.equal((await device.hears("pubrel")).messageId, messageId);
  device.say({ type: "pubcomp", messageId });
  await device.hears("pingresp");
  await isHere(device, "se-11");
  assert.equal(device.told.filter(({ type }) => type === "publish").length, 1);
});

test("§5.4.21: a client that asks for its messages in the place of another has to connect", async (t) => {
  const { device, host } = await connected(t, "se-8");
  device.say({ type: "pingreq", clientId: "se-8" });
  await device.hears("pingresp");
  device.say({ type: "pingreq", clientId: "se-9" });
  await device.hears("disconnect");
  assert.equal(host.faults.length, 1);
});

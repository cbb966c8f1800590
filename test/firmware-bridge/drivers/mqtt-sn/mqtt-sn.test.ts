// mqtt-sn.test: what MQTT-SN devices on a port are promised by the process sluice-firmware-bridge.
// Path: test. Touches: child processes, a pseudo-terminal, loopback ports, temporary folders.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Framer } from "../../../../firmware-bridge/drivers/mqtt-sn/framer.ts";
import { freeUdpPort } from "../../../support/free-udp-port.ts";
import { Pty } from "../../../support/pty.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { Bridge, START_MS_MAX } from "../../bridge-process.ts";
import { SnDevice, startBroker, udpDevice, wholeFile } from "./site.ts";

const broker = await startBroker(wholeFile());
const heard = (text: string) => waitFor(text, () => broker.heard.includes(text));

/** A bridge that is started and whose one link is up; `where` it is, the settings say. */
async function running(t: TestContext, where: string, before = async (_bridge: Bridge) => {}) {
  const bridge = new Bridge(
    t,
    `role = "gateway"
    data = "DATA"
    bridge = { broker = "mqtt://127.0.0.1:${broker.port}" }
    [[links]]
    ${where}
    device = "radio"
    driver = "mqtt-sn"`,
  );
  await before(bridge);
  await starts(bridge);
  return bridge;
}

async function starts(bridge: Bridge): Promise<void> {
  bridge.output = "";
  bridge.start();
  await waitFor("the link", () => bridge.output.includes('"to":"up"'), START_MS_MAX).catch(
    (fault) => assert.fail(`${fault}\n${bridge.output}`),
  );
}

/** A device on a port of a bridge. */
async function plugged(t: TestContext) {
  const pty = await Pty.open(t);
  const bridge = await running(t, 'path = "PORT"', ({ port }) => pty.linkAs(port));
  const device = new SnDevice((bytes) => pty.write(bytes));
  const framer = new Framer(65_535);
  let read = 0;
  const listening = setInterval(() => {
    for (const { bytes } of framer.push(pty.received.subarray(read))) device.hear(bytes);
    read = pty.received.length;
  }, 5);
  t.after(() => clearInterval(listening));
  return { pty, device, bridge };
}

test("carries messages from a port to the broker and back, acknowledged, and tells an unplugged port", async (t) => {
  const { pty, device, bridge } = await plugged(t);
  pty.write(Buffer.from("noise before the first message: \x00\xff"));
  assert.equal(await device.connects("pty-1", { will: ["will/pty-1", "unplugged"] }), 0);
  const topicId = await device.registers("plant/pty-1");
  for (let messageId = 1; messageId <= 20; messageId += 1) {
    device.publishes(topicId, `${messageId}`, { messageId });
    assert.equal((await device.hears("puback")).messageId, messageId);
  }
  await heard("plant/pty-1=20");
  assert.equal(broker.texts("plant/pty-1").length, 20);
  await device.subscribes("down/pty-1");
  await broker.publish("down/pty-1", "x".repeat(400));
  const message = await device.isTold();
  assert.equal(message.text.length, 400);
  device.acknowledges(message);
  assert.deepEqual(broker.texts("will/pty-1"), []);
  await pty.unplug();
  await waitFor("the will", () => broker.texts("will/pty-1").length > 0, 1_000);
  assert.equal(await bridge.end("SIGTERM"), 0, bridge.output);
});

test("a bridge that is killed: the will is published at once, and QoS 2 goes on where it was", async (t) => {
  const { device, bridge } = await plugged(t);
  const will = ["will/pty-2", "killed"] as const;
  await device.connects("pty-2", { will, cleanSession: false });
  const topicId = await device.registers("plant/pty-2");
  device.publishes(topicId, "once", { qos: 2 });
  await device.hears("pubrec");
  await bridge.end("SIGKILL");
  await waitFor("the will", () => broker.texts("will/pty-2").length > 0, 1_000);
  await starts(bridge);
  device.say({ type: "pubrel", messageId: 9 });
  await device.hears("disconnect");
  // Without telling its will anew: the session, and the will with it, stayed (§6.3).
  await device.connects("pty-2", { cleanSession: false });
  device.publishes(await device.registers("plant/pty-2"), "once", { qos: 2, dup: true });
  await device.hears("pubrec");
  device.say({ type: "pubrel", messageId: 9 });
  await device.hears("pubcomp");
  await heard("plant/pty-2=once");
  await bridge.end("SIGKILL");
  await waitFor("the will again", () => broker.texts("will/pty-2").length === 2, 1_000);
  assert.deepEqual(broker.texts("plant/pty-2"), ["once"]);
});

test("listens for datagrams: devices with a session each, wills when the bridge stops", async (t) => {
  const port = await freeUdpPort();
  const bridge = await running(t, `address = "udp://127.0.0.1:${port}"`);
  const devices = [await udpDevice(t, port), await udpDevice(t, port)];
  for (const [index, device] of devices.entries()) {
    device.say({ type: "searchgw", radius: 0 });
    await device.hears("gwinfo");
    await device.connects(`udp-${index}`, { will: [`will/udp-${index}`, "gone"] });
    await device.subscribes(`down/udp-${index}`);
    await broker.publish(`down/udp-${index}`, `to ${index}`);
    const message = await device.isTold();
    assert.equal(message.text, `to ${index}`);
    device.acknowledges(message);
  }
  assert.equal(await bridge.end("SIGTERM"), 0, bridge.output);
  await heard("will/udp-0=gone");
  await heard("will/udp-1=gone");
});

// mqtt-sn.test: what MQTT-SN devices on a port are promised by the process sluice-firmware-bridge.
// Path: test. Touches: child processes, a pseudo-terminal, loopback ports, temporary folders.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Framer } from "../../../../firmware-bridge/drivers/mqtt-sn/framer.ts";
import { Pty } from "../../../support/pty.ts";
import { temporaryFolder } from "../../../support/temporary-folder.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { type After, SnDevice, startBroker, wholeFile } from "./site.ts";

const MAIN = join(import.meta.dirname, "../../../../firmware-bridge/main.ts");
const START_MS_MAX = 20_000;

const broker = await startBroker(wholeFile());
const heard = (text: string) => waitFor(text, () => broker.heard.includes(text));

/** A device on a port of a bridge that runs until the test ends. */
async function plugged(t: After) {
  const pty = await Pty.open(t);
  const folder = temporaryFolder(t);
  const config = join(folder, "sluice.toml");
  writeFileSync(
    config,
    `role = "gateway"
    data = "${folder}"
    bridge = { broker = "mqtt://127.0.0.1:${broker.port}" }
    [[links]]
    path = "${pty.path}"
    device = "radio"
    driver = "mqtt-sn"`,
  );
  const bridge = startBridge(t, config);
  const device = new SnDevice((bytes) => pty.write(bytes));
  const framer = new Framer(65_535);
  let read = 0;
  const listening = setInterval(() => {
    for (const { bytes } of framer.push(pty.received.subarray(read))) device.hear(bytes);
    read = pty.received.length;
  }, 5);
  t.after(() => clearInterval(listening));
  await bridge.isUp();
  return { pty, device, bridge, config };
}

function startBridge(t: After, config: string) {
  const child = spawn(process.execPath, [MAIN, "--config", config]);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  t.after(() => ends(child, "SIGKILL"));
  const isUp = () =>
    waitFor("the link", () => output.includes('"to":"up"'), START_MS_MAX).catch((fault) => {
      assert.fail(`${fault}\n${output}`);
    });
  return { child, isUp, output: () => output };
}

async function ends(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, "close");
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
  await ends(bridge.child, "SIGTERM");
  assert.equal(bridge.child.exitCode, 0, bridge.output());
});

test("a bridge that is killed: the will is published at once, and QoS 2 goes on where it was", async (t) => {
  const { device, bridge, config } = await plugged(t);
  const will = ["will/pty-2", "killed"] as const;
  await device.connects("pty-2", { will, cleanSession: false });
  const topicId = await device.registers("plant/pty-2");
  device.publishes(topicId, "once", { qos: 2 });
  await device.hears("pubrec");
  await ends(bridge.child, "SIGKILL");
  await waitFor("the will", () => broker.texts("will/pty-2").length > 0, 1_000);
  const next = startBridge(t, config);
  await next.isUp();
  device.say({ type: "pubrel", messageId: 9 });
  await device.hears("disconnect");
  // Without telling its will anew: the session, and the will with it, stayed (§6.3).
  await device.connects("pty-2", { cleanSession: false });
  device.publishes(await device.registers("plant/pty-2"), "once", { qos: 2, dup: true });
  await device.hears("pubrec");
  device.say({ type: "pubrel", messageId: 9 });
  await device.hears("pubcomp");
  await heard("plant/pty-2=once");
  await ends(next.child, "SIGKILL");
  await waitFor("the will again", () => broker.texts("will/pty-2").length === 2, 1_000);
  assert.deepEqual(broker.texts("plant/pty-2"), ["once"]);
});

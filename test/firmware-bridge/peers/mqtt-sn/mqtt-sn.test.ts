// mqtt-sn.test: the device's packets are those of the specification, both ways, on both carriers.
// Path: test → [mqtt-sn]. Touches: a pseudo-terminal, a UDP port on loopback; runs Python.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { test } from "node:test";
import { Pty } from "../../../support/pty.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { MqttSnDevice } from "./mqtt-sn.ts";

const bytes = (hex: string) => Buffer.from(hex.replaceAll(" ", ""), "hex");

test("sends packets as the specification lays them out", async (t) => {
  const pty = await Pty.open(t);
  const device = await MqttSnDevice.open(t, pty.path);
  device.send("CONNECT", { client_id: "n1", duration: 60, cleansess: 1, will: 1 }); // 5.4.4
  device.send("WILLTOPIC", { will_topic: "n1/state", qos: 1, retain: 1 }); // 5.4.7
  device.send("REGISTER", { mid: 1, topic_name: "a/b" }); // 5.4.10
  device.send("PUBLISH", { tid: 5, mid: 2, qos: 1, data: "21" }); // 5.4.12
  device.send("PINGREQ"); // 5.4.20
  device.send("DISCONNECT"); // 5.4.21
  device.send("DISCONNECT", { duration: 300 });
  const expected = bytes(
    "08 04 0c 01 003c 6e31" +
      "0b 07 30 6e312f7374617465" +
      "09 0a 0000 0001 612f62" +
      "09 0c 20 0005 0002 3231" +
      "02 16 02 18 04 18 012c",
  );
  await waitFor("the device's packets", () => pty.received.length >= expected.length);
  assert.deepEqual(pty.received, expected);
});

test("hears packets that come in pieces, together, and longer than 255 bytes", async (t) => {
  const pty = await Pty.open(t);
  const device = await MqttSnDevice.open(t, pty.path);
  pty.write(bytes("03 05 00 07"));
  assert.equal((await device.hears("CONNACK")).return_code, 0);
  // What began behind the CONNACK was heard with it, and goes on now.
  pty.write(bytes("0b 0007 0001 00 02 17 01 01"));
  assert.deepEqual(await device.hears("REGACK"), {
    type: "REGACK",
    tid: 7,
    mid: 1,
    return_code: 0,
  });
  await device.hears("PINGRESP");
  pty.write(bytes(`35 0c 00 0007 0000 ${"78".repeat(300)}`));
  await device.hears("PUBLISH", { data: "x".repeat(300) });
});

test("speaks by UDP, one packet a datagram", async (t) => {
  const gateway = createSocket("udp4");
  t.after(() => gateway.close());
  gateway.bind(0, "127.0.0.1");
  await once(gateway, "listening");
  const device = await MqttSnDevice.open(t, `127.0.0.1:${gateway.address().port}`);
  device.sendRaw(bytes("03 01 00"));
  const [packet, { port }] = await once(gateway, "message");
  assert.deepEqual(packet, bytes("03 01 00"));
  gateway.send(bytes("03 02 01"), port, "127.0.0.1");
  await device.hears("GWINFO", { gw_id: 1 });
});

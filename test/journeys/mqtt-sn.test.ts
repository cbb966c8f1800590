// mqtt-sn.test: devices whose packets nobody here wrote have all of MQTT-SN, on a port and by UDP.
// Path: scapy ─pty or udp─ firmware-bridge ─▶ gateway ─▶ subscriber, and back. Touches: loopback
// ports, pseudo-terminals, child processes, a temporary folder; runs Python.

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import { type Fields, MqttSnDevice } from "../firmware-bridge/peers/mqtt-sn/mqtt-sn.ts";
import { freeUdpPort } from "../support/free-udp-port.ts";
import { Pty } from "../support/pty.ts";
import { waitFor } from "../support/wait-for.ts";
import { START_MS_MAX, startBridge } from "./support/bridge.ts";
import { freePlace, type Place, startGateway } from "./support/gateway.ts";

const NORMAL = 0;
const PREDEFINED = 1;
const SHORT = 2;
const QOS_MINUS_1 = 3;

/** Two letters as the number that a topic id is. */
const letters = (name: string) => Buffer.from(name).readUInt16BE();

/** A gateway and its bridge with one link; `where` is the link's place in the settings. */
async function running(t: TestContext, place: Place, where: Record<string, string>) {
  const broker = `mqtt://127.0.0.1:${place.mqttPort}`;
  const settings = { retry_seconds: 1, predefined: [{ id: 7, topic: "sn/predefined" }] };
  const links = [{ ...where, device: "radio", driver: "mqtt-sn", "mqtt-sn": settings }];
  const gateway = startGateway(t, place, { links, bridge: { broker } });
  await waitFor("the gateway", () => gateway.status(), START_MS_MAX);
  const witness = await connectAsync(broker);
  t.after(() => witness.endAsync(true));
  const heard: string[] = [];
  witness.on("message", (topic, payload) => heard.push(`${topic} ${payload}`));
  await witness.subscribeAsync("#", { qos: 2 });
  await startBridge(t, join(place.folder, "sluice.toml"), 1);
  const hears = (text: string) =>
    waitFor(text, () => heard.includes(text)).catch((fault) => {
      assert.fail(`${fault}\n${heard.join("\n")}`);
    });
  const tell = async (topic: string, text: string, qos: 0 | 1 | 2) => {
    await witness.publishAsync(topic, text, { qos });
  };
  return { heard, hears, tell };
}

type Site = Awaited<ReturnType<typeof running>>;

/** Sends, and resolves with the answer: what came of that type since. */
async function asks(device: MqttSnDevice, packet: [string, Fields?], answer: string) {
  const before = device.received.length;
  device.send(...packet);
  return waitFor(
    `${answer} to ${packet[0]}`,
    () => device.received.slice(before).find(({ type }) => type === answer),
    START_MS_MAX,
  );
}

async function connects(device: MqttSnDevice, name: string, clean: 0 | 1): Promise<void> {
  const fields = { client_id: name, duration: 60, cleansess: clean, will: 1 };
  await asks(device, ["CONNECT", fields], "WILLTOPICREQ");
  const topic = { will_topic: `sn/${name}/will`, qos: 1 };
  await asks(device, ["WILLTOPIC", topic], "WILLMSGREQ");
  const { return_code } = await asks(device, ["WILLMSG", { will_msg: "gone" }], "CONNACK");
  assert.equal(return_code, 0);
}

/** Publishes in every QoS, by every kind of topic id. */
async function publishes(device: MqttSnDevice, { hears, heard }: Site, name: string) {
  const topic = `sn/${name}/up`;
  const { tid = 0 } = await asks(device, ["REGISTER", { mid: 1, topic_name: topic }], "REGACK");
  device.send("PUBLISH", { tid, tid_type: NORMAL, data: "qos 0" });
  await hears(`${topic} qos 0`);
  const one = { tid, tid_type: NORMAL, qos: 1, mid: 2, data: "qos 1" };
  assert.equal((await asks(device, ["PUBLISH", one], "PUBACK")).return_code, 0);
  await hears(`${topic} qos 1`);
  const two = { tid, qos: 2, mid: 3, data: "qos 2" };
  assert.equal((await asks(device, ["PUBLISH", two], "PUBREC")).mid, 3);
  assert.equal((await asks(device, ["PUBLISH", { ...two, dup: 1 }], "PUBREC")).mid, 3);
  assert.equal((await asks(device, ["PUBREL", { mid: 3 }], "PUBCOMP")).mid, 3);
  await hears(`${topic} qos 2`);
  assert.equal(heard.filter((it) => it === `${topic} qos 2`).length, 1);
  const long = { tid, qos: 1, mid: 4, data: "x".repeat(600) };
  await asks(device, ["PUBLISH", long], "PUBACK");
  await hears(`${topic} ${long.data}`);
  const predefined = { tid: 7, tid_type: PREDEFINED, qos: 1, mid: 5, data: name };
  assert.equal((await asks(device, ["PUBLISH", predefined], "PUBACK")).return_code, 0);
  await hears(`sn/predefined ${name}`);
  const unknown = { tid: 999, qos: 1, mid: 6, data: "x" };
  assert.equal((await asks(device, ["PUBLISH", unknown], "PUBACK")).return_code, 2);
}

/** Subscribes by name, by wildcard and by a short name, and takes a message of each QoS. */
async function receives(device: MqttSnDevice, { tell }: Site, name: string) {
  const topic = `sn/${name}/down`;
  const named = await asks(device, ["SUBSCRIBE", { mid: 10, qos: 2, topic_name: topic }], "SUBACK");
  assert.deepEqual([named.return_code, named.qos], [0, 2]);
  const { tid = 0 } = named;
  await tell(topic, "down 0", 0);
  await device.hears("PUBLISH", { tid, data: "down 0", qos: 0 });
  await tell(topic, "down 1", 1);
  const { mid = 0 } = await device.hears("PUBLISH", { tid, data: "down 1", qos: 1 });
  device.send("PUBACK", { tid, mid });
  await tell(topic, "down 2", 2);
  const two = await device.hears("PUBLISH", { tid, data: "down 2", qos: 2 });
  await asks(device, ["PUBREC", { mid: two.mid ?? 0 }], "PUBREL");
  device.send("PUBCOMP", { mid: two.mid ?? 0 });
  const wild = { mid: 11, qos: 1, topic_name: `sn/${name}/wild/+` };
  assert.equal((await asks(device, ["SUBSCRIBE", wild], "SUBACK")).tid, 0);
  await tell(`sn/${name}/wild/1`, "by wildcard", 1);
  const register = await device.hears("REGISTER", { topic_name: `sn/${name}/wild/1` });
  device.send("REGACK", { tid: register.tid ?? 0, mid: register.mid ?? 0 });
  const matched = await device.hears("PUBLISH", { tid: register.tid ?? 0, data: "by wildcard" });
  device.send("PUBACK", { tid: matched.tid ?? 0, mid: matched.mid ?? 0 });
  const short = { mid: 12, qos: 0, tid_type: SHORT, short_topic: "dn" };
  assert.equal((await asks(device, ["SUBSCRIBE", short], "SUBACK")).return_code, 0);
  await tell("dn", "short", 0);
  await device.hears("PUBLISH", { tid_type: SHORT, tid: letters("dn"), data: "short" });
  await asks(device, ["UNSUBSCRIBE", { mid: 13, tid_type: SHORT, short_topic: "dn" }], "UNSUBACK");
}

/** Sleeps, and takes what came meanwhile: in order, between PINGREQ and PINGRESP. */
async function sleepsAndWakes(device: MqttSnDevice, { tell }: Site, name: string) {
  const topic = `sn/${name}/down`;
  await asks(device, ["DISCONNECT", { duration: 60 }], "DISCONNECT");
  const asleepFrom = device.received.length;
  for (const [text, qos] of [
    ["night 1", 1],
    ["night 2", 0],
    ["night 3", 1],
  ] as const) {
    await tell(topic, text, qos);
  }
  const told = () => device.received.slice(asleepFrom).filter(({ type }) => type === "PUBLISH");
  assert.equal(told().length, 0);
  // The broker may not have handed all on when it asks first.
  await waitFor("what came in the night", async () => {
    const before = told().length;
    const asked = device.received.length;
    const isOver = () => device.received.slice(asked).some(({ type }) => type === "PINGRESP");
    let taken = before;
    device.send("PINGREQ", { client_id: name });
    await waitFor("PINGRESP", () => {
      for (const { qos, tid = 0, mid = 0 } of told().slice(taken)) {
        taken += 1;
        if (qos === 1) device.send("PUBACK", { tid, mid });
      }
      return isOver();
    });
    return told().length >= 3;
  });
  assert.deepEqual(
    told().map(({ data }) => data),
    ["night 1", "night 2", "night 3"],
  );
}

/** The whole day of a device, up to its end without a goodbye, which `loses` brings about. */
async function lives(
  device: MqttSnDevice,
  site: Site,
  name: string,
  loses: () => Promise<unknown>,
): Promise<void> {
  const unconnected = { tid: letters("m1"), tid_type: SHORT, qos: QOS_MINUS_1, data: name };
  assert.equal((await asks(device, ["SEARCHGW", { radius: 1 }], "GWINFO")).gw_id, 1);
  device.send("PUBLISH", unconnected);
  await site.hears(`m1 ${name}`);
  await connects(device, name, 0);
  await publishes(device, site, name);
  await receives(device, site, name);
  await asks(device, ["PINGREQ"], "PINGRESP");
  await sleepsAndWakes(device, site, name);
  const again = { client_id: name, duration: 60, cleansess: 0 };
  assert.equal((await asks(device, ["CONNECT", again], "CONNACK")).return_code, 0);
  await publishes(device, site, `${name}/again`);
  const will = `sn/${name}/will gone`;
  assert.ok(!site.heard.includes(will));
  await loses();
  await site.hears(will);
}

test("scapy's device has all that MQTT-SN has on a serial port, and its unplugging is told", async (t) => {
  const place = await freePlace(t);
  // A null modem: what is said on the one is told on the other.
  const [ours, theirs] = [await Pty.open(t), await Pty.open(t)];
  ours.onTold((bytes) => theirs.write(bytes));
  theirs.onTold((bytes) => ours.write(bytes));
  const path = join(place.folder, "port");
  await ours.linkAs(path);
  const site = await running(t, place, { path });
  const device = await MqttSnDevice.open(t, theirs.path);
  await lives(device, site, "wired", () => ours.unplug());
});

test("scapy's device has the same by UDP, and its silence is told", async (t) => {
  const place = await freePlace(t);
  const address = `127.0.0.1:${await freeUdpPort()}`;
  const site = await running(t, place, { address: `udp://${address}` });
  const device = await MqttSnDevice.open(t, address);
  await lives(device, site, "radio", async () => {
    await asks(device, ["DISCONNECT", { duration: 1 }], "DISCONNECT");
    await device.end();
  });
});

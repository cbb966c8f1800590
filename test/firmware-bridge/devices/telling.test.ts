// telling.test: what is told of devices beside their messages: presence, documents, policies, faults.
// Path: test. Touches: loopback ports, temporary folders.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { Duplex, Transform } from "node:stream";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connectAsync } from "mqtt";
import type { DeviceDocument } from "../../../firmware-bridge/devices/document.ts";
import { MemoryFile } from "../../../firmware-bridge/devices/memory.ts";
import { OwnClient } from "../../../firmware-bridge/devices/own-client.ts";
import { OwnDevices } from "../../../firmware-bridge/devices/own-devices.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TestBroker } from "../../support/test-broker.ts";
import { waitFor } from "../../support/wait-for.ts";
import { capturedLog } from "../captured-log.ts";
import { AVAILABILITY, changes, connected, done, setUp } from "./setup.ts";

const DOCUMENT = "sluice/device/box";
const CONFIG = "homeassistant/device/sluice_gw-001_box/config";

function documents(broker: TestBroker): DeviceDocument[] {
  return broker.texts(DOCUMENT).map((text) => JSON.parse(Buffer.from(text, "latin1").toString()));
}

/** What the broker retains, by topic. */
async function retained(t: TestContext, broker: TestBroker): Promise<Map<string, string>> {
  const client = await connectAsync(broker.url, { protocolVersion: 5 });
  t.after(() => client.endAsync(true));
  const found = new Map<string, string>();
  client.on("message", (topic, payload, { retain }) => {
    if (retain || topic === "the/end") found.set(topic, payload.toString());
  });
  await client.subscribeAsync("#", { qos: 0 });
  // It comes behind all that is retained.
  await broker.publish("the/end", "");
  await waitFor("the end", () => found.has("the/end"));
  found.delete("the/end");
  return found;
}

/** Waits until the broker retains on these topics alone; what is on its way takes a moment. */
async function retainsOnly(t: TestContext, broker: TestBroker, topics: readonly string[]) {
  const sorted = topics.toSorted().join();
  await waitFor(`only ${sorted} to be retained`, async () => {
    return [...(await retained(t, broker)).keys()].toSorted().join() === sorted;
  });
}

test("says in one retained document what is known of a device", async (t) => {
  const link = {
    name: "port",
    model: "Vitodens",
    channels: [{ name: "t", unit: "°C", retain: true }],
  };
  const { broker, device } = await connected(t, {}, { link });
  device.describe({
    model: "not this one",
    firmware: "1.2",
    channels: [{ name: "led", kind: "boolean", writable: true }],
  });
  device.online(done);
  await waitFor("the document", () => documents(broker).at(-1)?.state === "online");
  const { since, ...document } = documents(broker).at(-1) ?? { since: "" };
  assert.deepEqual(document, {
    name: "box",
    bridge: "gw-001",
    link: "port",
    driver: "lines",
    model: "Vitodens",
    firmware: "1.2",
    state: "online",
    channels: [
      { name: "t", unit: "°C", retain: true },
      { name: "led", kind: "boolean", writable: true },
    ],
  });
  assert.ok(Math.abs(Date.parse(since) - Date.now()) < 10_000);
  const told = broker.received.find(({ topic }) => topic === DOCUMENT);
  assert.deepEqual([told?.client, told?.qos, told?.retain], ["serial-box", 1, true]);
});

test("tells all again to a broker that has lost what it had", async (t) => {
  const { broker, device } = await connected(t, { discovery_prefix: "homeassistant" });
  device.online(done);
  device.describe({ channels: [{ name: "t" }] });
  await waitFor("all of it", () => broker.texts(CONFIG).length > 0);
  await waitFor("the document", () => documents(broker).at(-1)?.state === "online");
  await broker.stop();
  const listen = { host: "127.0.0.1", port: broker.port };
  const empty = await TestBroker.start(t, { listen });
  await retainsOnly(t, empty, [AVAILABILITY, DOCUMENT, CONFIG]);
  assert.deepEqual(documents(empty).at(-1), documents(broker).at(-1));
});

test("adds the channels that it sees, at most once a second, and not without bound", async (t) => {
  const { broker, device, host } = await connected(t);
  device.online(done);
  for (let n = 0; n < 300; n += 1) {
    await device.publish({ channel: `c${n}`, payload: Buffer.from("1") });
  }
  host.offline("unplugged");
  await waitFor("its end", () => documents(broker).at(-1)?.why === "unplugged");
  const last = documents(broker).at(-1);
  assert.equal(last?.state, "offline");
  assert.equal(last?.channels.length, 200);
  assert.deepEqual(last?.channels[0], { name: "c0" });
  assert.ok(documents(broker).length <= 3);
});

test("is offline when it is silent for too long, and online with its next message", async (t) => {
  const devices = [{ name: "box", silent_seconds_max: 1 }];
  const { broker, device, host } = await connected(t, {}, { link: { devices } });
  device.online(done);
  const availability = () => changes(broker.texts(AVAILABILITY)).slice(1).join();
  assert.equal(host.counts.devices[0]?.why, undefined);
  await waitFor("silence", () => availability() === "online,offline");
  await waitFor("why", () => documents(broker).at(-1)?.why === "silent for 1 s");
  const { isOnline, why, sinceMs } = host.counts.devices[0] ?? {};
  assert.deepEqual([isOnline, why], [false, "silent for 1 s"]);
  assert.equal(new Date(sinceMs ?? 0).toISOString(), documents(broker).at(-1)?.since);
  await broker.publish("serial/box/set", "x");
  await waitFor("its result", () => broker.texts("serial/box/result").at(-1)?.includes("done"));
  await device.publish({ channel: "t", payload: Buffer.from("1") });
  await waitFor("online", () => availability() === "online,offline,online");
});

test("waits a year for silence and for a heartbeat without a look each millisecond", async (t) => {
  const seconds = 31_536_000;
  const channels = [{ name: "t", heartbeat_seconds: seconds }];
  const warnings: string[] = [];
  const warn = ({ name }: Error) => void warnings.push(name);
  process.on("warning", warn);
  t.after(() => process.off("warning", warn));
  const { broker, device } = await connected(
    t,
    {},
    { link: { silent_seconds_max: seconds, channels } },
  );
  device.online(done);
  await device.publish({ channel: "t", payload: Buffer.from("1") });
  await waitFor("the message", () => broker.texts("serial/box/t").length > 0);
  assert.deepEqual(warnings, []);
});

test("says of each message when it was received, unless the settings want none of that", async (t) => {
  const { broker, device } = await connected(t);
  await device.publish({
    channel: "t",
    payload: Buffer.from("1"),
    receivedAtMs: 1_700_000_000_123,
  });
  await waitFor("the message", () => broker.texts("serial/box/t").length > 0);
  const message = broker.received.find(({ topic }) => topic === "serial/box/t");
  assert.deepEqual(
    { ...message?.properties?.userProperties },
    {
      "sluice-received": "2023-11-14T22:13:20.123Z",
    },
  );
  const other = await connected(t, { received_property: false });
  await other.device.publish({ channel: "t", payload: Buffer.from("1") });
  await waitFor("the message", () => other.broker.texts("serial/box/t").length > 0);
  const plain = other.broker.received.find(({ topic }) => topic === "serial/box/t");
  assert.equal(plain?.properties, undefined);
});

test("tells channels by their policies, and the last value when the link goes", async (t) => {
  const channels = [
    { name: "*", dead_band: 0 },
    { name: "t", throttle_ms: 60_000, retain: true },
    { name: "h", device: "another", throttle_ms: 60_000 },
  ];
  const { broker, device, host } = await connected(t, {}, { link: { channels } });
  device.online(done);
  for (const [channel, text] of [
    ["t", "1"],
    ["t", "2"],
    ["t", "3"],
    ["h", "1"],
    ["h", "1"],
    ["h", "2"],
  ] as const) {
    await device.publish({ channel, payload: Buffer.from(text) });
  }
  await waitFor("h", () => broker.texts("serial/box/h").length === 2);
  assert.deepEqual(broker.texts("serial/box/t"), ["1"]);
  host.offline("unplugged");
  await waitFor("the last", () => broker.texts("serial/box/t").length === 2);
  assert.deepEqual(broker.texts("serial/box/t"), ["1", "3"]);
  await waitFor("it to be retained", async () => {
    return (await retained(t, broker)).get("serial/box/t") === "3";
  });
  assert.equal(host.counts.devices[0]?.droppedByPolicy, 2);
});

test("keeps messages for which the broker has no room until it has, in order", async (t) => {
  const { broker, device, captured } = await connected(t, { unacknowledged_max: 3 });
  broker.fill(true);
  let taken = 0;
  void (async () => {
    for (let n = 1; n <= 8; n += 1, taken += 1) {
      await device.publish({ channel: "t", payload: Buffer.from(String(n)) });
    }
  })();
  const waiting = "the broker takes nothing now; waiting";
  await waitFor("the refusal", () => captured.count("warn", waiting) > 0);
  assert.equal(taken, 3);
  broker.fill(false);
  await waitFor("all of them", () => broker.texts("serial/box/t").length === 8);
  assert.deepEqual(broker.texts("serial/box/t").join(""), "12345678");
});

test("drops and counts what it has no right to publish, and names the right", async (t) => {
  const rights = [{ publish: ["serial/+/availability"], subscribe: ["#"] }];
  const options = { rights, users: { boiler: "secret" } };
  const broker = await TestBroker.start(t, options);
  const password_file = join(temporaryFolder(t), "password");
  writeFileSync(password_file, "secret\n");
  const link = { username: "boiler", password_file };
  const { device, host, captured } = setUp(t, { broker: broker.url }, { link });
  await waitFor("the device", () => broker.texts(AVAILABILITY).length > 0);
  await device.publish({ channel: "t", payload: Buffer.from("1") });
  await waitFor("both refusals", () => host.counts.devices[0]?.refused === 2);
  const lines = captured.lines.filter(({ msg }) => msg === "refused by the broker, so dropped");
  assert.equal(lines.length, 1);
  assert.equal(
    lines[0]?.mend,
    'give user "boiler" the right to publish sluice/device/box in [[access.rights]]',
  );
});

test("is who the settings say: the device's own words, the link's, and the bridge's", async (t) => {
  const broker = await TestBroker.start(t);
  const devices = [{ name: "two", client_id: "second" }];
  const link = { client_id: "first", devices };
  const { host } = setUp(t, { broker: broker.url, client_id: "itself" }, { link });
  host.device("two");
  host.device("three");
  const who = () => new Set(broker.received.map(({ client }) => client));
  await waitFor("all of them", () => who().size === 3);
  assert.deepEqual(who(), new Set(["first", "second", "serial-three"]));
});

test("retains no more than its document tells of, whatever names noise makes", async (t) => {
  const channels = [{ name: "*", retain: true }];
  const { broker, device } = await connected(t, {}, { link: { channels } });
  device.online(done);
  for (let n = 0; n < 400; n += 1) {
    await device.publish({ channel: `c${n}`, payload: Buffer.from("1") });
  }
  await waitFor("the last", () => broker.texts("serial/box/c399").length > 0);
  const kept = [...(await retained(t, broker)).keys()].filter((it) =>
    it.startsWith("serial/box/c"),
  );
  assert.equal(kept.length, 200);
});

test("clears what devices that are in the settings no more have left behind, and nothing else", async (t) => {
  const channels = [{ name: "t", retain: true }];
  const settings = { discovery_prefix: "homeassistant" };
  const data = temporaryFolder(t);
  const { broker, devices, device } = await connected(t, settings, { link: { channels }, data });
  await device.publish({ channel: "t", payload: Buffer.from("1") });
  await waitFor("all of it", () => broker.texts(CONFIG).length > 0);
  await devices.stop();
  const others = new Map([
    ["x", '{"name":"x","bridge":"gw-002","channels":[]}'],
    ["elsewhere", '{"name":"x","bridge":"gw-001","channels":[]}'],
    ["known", '{"name":"known","bridge":"gw-001","channels":[]}'],
    ["broken", "[["],
    ["nameless", '{"bridge":"gw-001"}'],
  ]);
  for (const [name, text] of others) {
    await broker.publish(`sluice/device/${name}`, text, { retain: true });
  }
  const forged = (name: string, ...channels: string[]) =>
    JSON.stringify({
      name,
      bridge: "gw-001",
      channels: ["t", ...channels].map((it) => ({ name: it, retain: true })),
    });
  // Of one that was never ours, and of one that was, with what is no channel.
  others.set("lan", forged("lan"));
  await broker.publish("sluice/device/lan", forged("lan"), { retain: true });
  await broker.publish(DOCUMENT, forged("box", "#", "", "../x", "set/led", "a//b"), {
    retain: true,
  });
  const kept = ["serial/lan/t", "serial/lan/availability", "serial/box/set/led", "serial/box/a//b"];
  for (const topic of kept) await broker.publish(topic, "x", { retain: true });
  const { log } = capturedLog();
  const door = { open: openTo(broker), username: undefined, password: undefined };
  const own = new OwnClient({
    clientId: "itself",
    door,
    bridge: "gw-001",
    discoveryPrefix: "homeassistant",
    isKnown: (name) => name === "known",
    ownDevices: new OwnDevices(
      new MemoryFile(join(data, "firmware-bridge/_devices.json"), log),
      log,
    ),
    listener: undefined,
    log,
    graceMs: 200,
  });
  t.after(() => own.stop());
  await waitFor("the document's end", () => broker.texts(DOCUMENT).at(-1) === "");
  const documentsKept = [...others.keys()].map((name) => `sluice/device/${name}`);
  await retainsOnly(t, broker, [...documentsKept, ...kept]);
});

/** The bridge's own client, of a bridge that knows one device. */
function ownClient(t: TestContext, broker: TestBroker, graceMs: number, open = openTo(broker)) {
  const own = new OwnClient({
    clientId: "itself",
    door: { open, username: undefined, password: undefined },
    bridge: "gw-001",
    discoveryPrefix: undefined,
    isKnown: (name) => name === "known",
    ownDevices: { has: async () => true, forget: () => {} },
    listener: undefined,
    log: capturedLog().log,
    graceMs,
  });
  t.after(() => own.stop());
  return own;
}

const subscriptions = (broker: TestBroker) =>
  broker.acknowledged.filter((it) => it.client === "itself" && it.packet.cmd === "subscribe");

test("clears what was left behind though the connection breaks before it is time, and once", async (t) => {
  const broker = await TestBroker.start(t);
  const own = ownClient(t, broker, 300);
  await waitFor("the client", () => subscriptions(broker).length === 1);
  broker.cut();
  const left = '{"name":"x","bridge":"gw-001","channels":[]}';
  await broker.publish("sluice/device/x", left, { retain: true });
  await waitFor("its end", () => broker.texts("sluice/device/x").at(-1) === "");
  broker.cut();
  await waitFor("the connection's end", () => !own.shout("a", Buffer.of()));
  await waitFor("another", () => own.shout("b", Buffer.of()));
  await waitFor("what comes behind a subscription", () => broker.texts("b").length > 0);
  assert.equal(subscriptions(broker).length, 2);
});

test("clears nothing of a device that moved to another gateway meanwhile", async (t) => {
  const broker = await TestBroker.start(t);
  const document = (name: string, bridge: string) =>
    broker.publish(`sluice/device/${name}`, JSON.stringify({ name, bridge, channels: [] }), {
      retain: true,
    });
  for (const name of ["moved", "gone"]) await document(name, "gw-001");
  ownClient(t, broker, 500);
  await waitFor("the client", () => subscriptions(broker).length === 1);
  await document("moved", "gw-002");
  await waitFor("the end of the other", () => broker.texts("sluice/device/gone").at(-1) === "");
  await retainsOnly(t, broker, ["sluice/device/moved"]);
});

test("waits for documents that come slowly", async (t) => {
  const broker = await TestBroker.start(t);
  const names = ["a", "b", "c", "d", "e", "f"];
  for (const name of names) {
    const left = `{"name":"${name}","bridge":"gw-001","channels":[]}`;
    await broker.publish(`sluice/device/${name}`, left, { retain: true });
  }
  ownClient(t, broker, 300, () => slowly(connect(broker.port, "127.0.0.1"), 20, 40));
  await waitFor("the end of each", () => {
    return names.every((name) => broker.texts(`sluice/device/${name}`).at(-1) === "");
  });
});

/** What comes is handed on in pieces of so many bytes, so many ms apart. */
function slowly(socket: Socket, bytes: number, ms: number): Duplex {
  const slow = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      void (async () => {
        for (let at = 0; at < chunk.length; at += bytes) {
          await sleep(ms);
          this.push(chunk.subarray(at, at + bytes));
        }
        done();
      })();
    },
  });
  return Duplex.from({ readable: socket.pipe(slow), writable: socket });
}

test("shows frames that were not understood, so many a second, and counts the others", async (t) => {
  const { broker, host } = await connected(t);
  const topic = "serial/box/debug";
  const shown = () => {
    host.fault("no frame", Buffer.alloc(300, 0xab));
    return broker.texts(topic).length > 0;
  };
  await waitFor("the first", shown);
  const { at, ...first } = JSON.parse(broker.texts(topic)[0] ?? "");
  assert.ok(Math.abs(Date.parse(at) - Date.now()) < 10_000);
  delete first.dropped;
  assert.deepEqual(first, { reason: "no frame", bytes: "ab".repeat(256), length: 300 });
  for (let n = 0; n < 50; n += 1) host.fault("no frame");
  await waitFor("the next", () => {
    host.fault("no frame");
    return broker.texts(topic).length > 1;
  });
  assert.ok(JSON.parse(broker.texts(topic)[1] ?? "").dropped >= 50);
  const message = broker.received.find((it) => it.topic === topic);
  assert.deepEqual([message?.client, message?.qos, message?.retain], ["firmware-bridge", 0, false]);
});

function openTo(broker: TestBroker): () => Duplex {
  return () => connect(broker.port, "127.0.0.1");
}

// devices.test: what a device promises to the broker's side, against a plain broker.
// Path: test. Touches: loopback ports, temporary folders.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { SluiceError } from "#contract/errors";
import { Devices, nameOfPath } from "../../../firmware-bridge/devices/devices.ts";
import { makeCertificates } from "../../support/certificates.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TestBroker } from "../../support/test-broker.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type CapturedLog, capturedLog } from "../captured-log.ts";
import { bridgeSettings, linkSettings } from "../link-settings.ts";
import {
  AVAILABILITY,
  changes,
  connected,
  done,
  firsts,
  publishing,
  setUp,
  upTo,
} from "./setup.ts";

test("says what it is: client id, will, availability retained, telemetry not", async (t) => {
  const { broker, device, host } = await connected(t);
  assert.deepEqual(firsts(broker.received.map(({ client }) => client ?? "")), ["serial-box"]);
  device.online(done);
  await device.publish({ channel: "t", payload: Buffer.of(0, 255) });
  host.offline("unplugged");
  host.offline("still unplugged");
  await device.publish({ channel: "last", payload: Buffer.of() });
  await waitFor("all of it", () => broker.texts("serial/box/last").length > 0);
  const ofSerial = broker.received.filter(({ topic }) => topic.startsWith("serial/"));
  const seen = ofSerial.map(({ topic, text, qos, retain }) => [topic, text, qos, retain]);
  assert.deepEqual(seen, [
    [AVAILABILITY, "offline", 1, true],
    [AVAILABILITY, "online", 1, true],
    ["serial/box/t", "\u0000\u00ff", 1, false],
    [AVAILABILITY, "offline", 1, true],
    ["serial/box/last", "", 1, false],
  ]);
});

test("is offline by its will when the connection breaks, and online again after", async (t) => {
  const { broker, device } = await connected(t);
  device.online(done);
  await waitFor("online", () => broker.texts(AVAILABILITY).at(-1) === "online");
  broker.cut();
  await waitFor("the will, then online", () => {
    return changes(broker.texts(AVAILABILITY)).join() === "offline,online,offline,online";
  });
});

test("corrects an availability that somebody else wrote", async (t) => {
  const { broker, device } = await connected(t);
  device.online(done);
  await waitFor("online", () => broker.texts(AVAILABILITY).at(-1) === "online");
  const before = broker.texts(AVAILABILITY).length;
  await broker.publish(AVAILABILITY, "offline", { retain: true });
  await waitFor("the correction", () => {
    return broker.texts(AVAILABILITY).slice(before).includes("online");
  });
});

test("has no more unacknowledged messages than the settings allow, and waits for room", async (t) => {
  const { broker, device } = await connected(t, { unacknowledged_max: 5 });
  broker.hold();
  const taken = publishing(device, 1, 20);
  await waitFor("five messages", () => broker.texts("serial/box/line").length === 5);
  assert.equal(taken(), 5);
  broker.release();
  await waitFor("the rest", () => taken() === 20);
  await waitFor("the rest", () => broker.texts("serial/box/line").length === 20);
  assert.deepEqual(broker.texts("serial/box/line"), upTo(20));
});

test("tells its availability past a window that is full", async (t) => {
  // Takes the connection, and answers nothing else.
  let heard = "";
  const deaf = createServer((socket) => {
    socket.once("data", () => socket.write(Buffer.of(0x20, 3, 0, 0, 0)));
    socket.on("data", (chunk) => {
      heard += chunk.toString("latin1");
    });
  }).listen(0, "127.0.0.1");
  t.after(() => deaf.close());
  await once(deaf, "listening");
  const { port } = deaf.address() as AddressInfo;
  const broker = `mqtt://127.0.0.1:${port}`;
  const { device, host } = setUp(t, { broker, unacknowledged_max: 2 });
  device.online(done);
  const taken = publishing(device, 1, 10);
  await waitFor("a full window", () => heard.endsWith("2"));
  assert.equal(taken(), 2);
  host.offline("unplugged");
  await waitFor("offline", () => heard.endsWith("offline"), 500);
});

test("sends again, in order, as DUP and under the same packet identifiers", async (t) => {
  const { broker, device } = await connected(t, { unacknowledged_max: 10 });
  broker.hold();
  publishing(device, 1, 12);
  const lines = () => broker.received.filter(({ topic }) => topic === "serial/box/line");
  await waitFor("ten messages", () => lines().length === 10);
  await broker.stop();
  await broker.start();
  await waitFor("the rest", () => lines().length >= 22);
  const [first, again, rest] = [lines().slice(0, 10), lines().slice(10, 20), lines().slice(20)];
  assert.deepEqual(
    again.map(({ text }) => text),
    upTo(10),
  );
  assert.deepEqual(
    again.map(({ packetId }) => packetId),
    first.map(({ packetId }) => packetId),
  );
  assert.ok(first.every(({ dup }) => !dup) && again.every(({ dup }) => dup));
  assert.deepEqual(
    rest.map(({ text, dup }) => [text, dup]),
    [
      ["11", false],
      ["12", false],
    ],
  );
});

test("loses and reorders nothing while the broker comes and goes", async (t) => {
  const { broker, device } = await connected(t, { unacknowledged_max: 7 });
  const lines = () => broker.texts("serial/box/line");
  publishing(device, 1, 500);
  for (const some of [50, 120, 300]) {
    await waitFor("some messages", () => firsts(lines()).length >= some);
    await broker.stop();
    await broker.start();
  }
  await waitFor("all messages", () => firsts(lines()).length === 500, 20_000);
  assert.deepEqual(firsts(lines()), upTo(500));
});

test("carries commands out one after the other, and tells what became of each", async (t) => {
  const { broker, device } = await connected(t);
  const log: string[] = [];
  device.online(async ({ channel, payload }) => {
    log.push(`begin ${channel} ${Buffer.from(payload)}`);
    await new Promise((resolve) => setImmediate(resolve));
    log.push("end");
    if (channel === "bad") return { state: "failed", reason: "no such thing" };
    if (channel === "broken") throw new SluiceError("LINK_FAILED", "it broke");
    return { state: "done" };
  });
  await broker.publish("serial/box/set", "all");
  await broker.publish("serial/box/set/led", "1");
  await broker.publish("serial/box/set/bad", "2");
  await broker.publish("serial/box/set/broken", "3");
  await waitFor("four results", () => broker.texts("serial/box/result").length === 8);
  assert.deepEqual(log, [
    "begin undefined all",
    "end",
    "begin led 1",
    "end",
    "begin bad 2",
    "end",
    "begin broken 3",
    "end",
  ]);
  assert.deepEqual(
    broker.texts("serial/box/result").map((text) => JSON.parse(text)),
    [
      { command: "set", state: "accepted" },
      { command: "set", state: "done" },
      { command: "set/led", state: "accepted" },
      { command: "set/led", state: "done" },
      { command: "set/bad", state: "accepted" },
      { command: "set/bad", state: "failed", reason: "no such thing" },
      { command: "set/broken", state: "accepted" },
      { command: "set/broken", state: "failed", reason: "it broke" },
    ],
  );
  const result = broker.received.find(({ topic }) => topic === "serial/box/result");
  assert.deepEqual([result?.qos, result?.retain], [1, false]);
});

test("fails commands while the link is down, and says why", async (t) => {
  const { broker, device, host } = await connected(t);
  device.online(done);
  host.offline("unplugged");
  await broker.publish("serial/box/set", "x");
  await waitFor("the result", () => broker.texts("serial/box/result").length === 1);
  assert.deepEqual(JSON.parse(broker.texts("serial/box/result")[0] ?? ""), {
    command: "set",
    state: "failed",
    reason: "unplugged",
  });
});

test("keeps commands from before it knows whether the link is there", async (t) => {
  const { broker, device } = await connected(t);
  await broker.publish("serial/box/set", "early");
  // What the device corrects, it heard after the command.
  await broker.publish(AVAILABILITY, "online");
  await waitFor("the correction", () => broker.texts(AVAILABILITY).length > 1);
  const carriedOut: string[] = [];
  device.online(async ({ payload }) => {
    carriedOut.push(Buffer.from(payload).toString());
    return { state: "done" };
  });
  await waitFor("the command", () => carriedOut.length > 0);
  assert.deepEqual(carriedOut, ["early"]);
});

test("gets the commands that were sent while it was away", async (t) => {
  const { broker, devices } = await connected(t);
  await devices.stop();
  await waitFor("the device to be gone", () => broker.clients === 0);
  await broker.publish("serial/box/set", "meanwhile");
  const carriedOut: string[] = [];
  const { device } = setUp(t, { broker: broker.url });
  device.online(async ({ payload }) => {
    carriedOut.push(Buffer.from(payload).toString());
    return { state: "done" };
  });
  await waitFor("the command", () => carriedOut.length > 0);
  assert.deepEqual(carriedOut, ["meanwhile"]);
});

test("never carries out a retained command", async (t) => {
  const broker = await TestBroker.start(t);
  await broker.publish("serial/box/set", "old", { retain: true });
  const { device } = setUp(t, { broker: broker.url });
  device.online(() => assert.fail("carried out"));
  await waitFor("the result", () => broker.texts("serial/box/result").length === 1);
  assert.match(broker.texts("serial/box/result")[0] ?? "", /must not be retained/);
});

test("lets commands wait at the broker, as many as there are, and carries each out", async (t) => {
  const { broker, device } = await connected(t);
  const go = Promise.withResolvers<void>();
  const carriedOut: string[] = [];
  device.online(async ({ payload }) => {
    await go.promise;
    carriedOut.push(Buffer.from(payload).toString());
    return { state: "done" };
  });
  for (const text of upTo(150)) await broker.publish("serial/box/set", text);
  await waitFor("the first", () => broker.texts("serial/box/result").length === 1);
  go.resolve();
  await waitFor("the rest", () => broker.texts("serial/box/result").length === 300, 20_000);
  assert.deepEqual(carriedOut, upTo(150));
});

test("stops with its messages acknowledged, offline, and without a will", async (t) => {
  const { broker, devices, device, captured } = await connected(t);
  device.online(done);
  broker.hold();
  publishing(device, 1, 3);
  await waitFor("the messages", () => broker.texts("serial/box/line").length === 3);
  const stopped = devices.stop();
  broker.release();
  await stopped;
  await waitFor("the device to be gone", () => broker.clients === 0);
  assert.equal(changes(broker.texts(AVAILABILITY)).join(), "offline,online,offline");
  assert.equal(captured.count("warn", "stopped before the broker had all messages"), 0);
});

test("stops in time while the broker is away, and says how many messages that cost", async (t) => {
  const { broker, devices, device, captured } = await connected(t, { unacknowledged_max: 4 });
  device.online(done);
  await broker.stop();
  const taken = publishing(device, 1, 6);
  await waitFor("a full window", () => taken() === 4);
  const startedMs = performance.now();
  await devices.stop();
  assert.ok(performance.now() - startedMs < 5_000);
  assert.equal(taken(), 6);
  const line = captured.lines.find(
    ({ msg }) => msg === "stopped before the broker had all messages",
  );
  assert.equal(line?.messages, 6);
});

test("says once that the broker is not there, or that it refuses the password", async (t) => {
  const away = await TestBroker.start(t);
  await away.stop();
  const secured = await TestBroker.start(t, { users: { box: "right" } });
  const passwordFile = join(temporaryFolder(t), "password");
  writeFileSync(passwordFile, "wrong\n");
  const one = setUp(t, { broker: away.url });
  const two = setUp(t, { broker: secured.url, username: "box", password_file: passwordFile });
  for (const { captured } of [one, two]) {
    const tries = (level: string) =>
      captured.lines.filter(
        (it) => it.device === "box" && it.level === level && it.msg === "not at the broker",
      );
    await waitFor("a second try", () => tries("debug").length > 0);
    assert.equal(tries("warn").length, 1);
  }
  const why = (captured: CapturedLog) => captured.lines.find(({ level }) => level === "warn")?.why;
  assert.match(String(why(one.captured)), /ECONNREFUSED/);
  assert.match(String(why(two.captured)), /bad user name or password/);
  const { why: shown = "", sinceMs = 0 } = two.host.counts.devices[0] ?? {};
  assert.match(shown, /^not at the broker: .*bad user name or password/);
  assert.ok(Date.now() - sinceMs < 60_000 && sinceMs <= Date.now());
});

test("logs in with its user name and password", async (t) => {
  const broker = await TestBroker.start(t, { users: { box: "right" } });
  const passwordFile = join(temporaryFolder(t), "password");
  writeFileSync(passwordFile, "right\n");
  const { host } = setUp(t, { broker: broker.url, username: "box", password_file: passwordFile });
  await waitFor("the device at the broker", () => broker.texts(AVAILABILITY).length > 0);
  assert.equal(host.counts.devices[0]?.why, undefined);
});

test("reaches a broker on a unix socket", async (t) => {
  const path = join(temporaryFolder(t), "broker.sock");
  const broker = await TestBroker.start(t, { listen: { path } });
  setUp(t, { broker: `unix:${path}` });
  await waitFor("the device at the broker", () => broker.texts(AVAILABILITY).length > 0);
});

test("reaches a broker by TLS when its certificate is known, and else sends nothing", async (t) => {
  const folder = temporaryFolder(t);
  const { ca, serverCert, serverKey } = await makeCertificates(folder, { clients: [] });
  const tls = { cert: readFileSync(serverCert), key: readFileSync(serverKey) };
  const broker = await TestBroker.start(t, { tls });
  const url = `mqtts://localhost:${broker.port}`;
  const stranger = setUp(t, { broker: url });
  await waitFor("a refusal", () => stranger.captured.count("warn", "not at the broker") > 0);
  assert.match(JSON.stringify(stranger.captured.lines), /unable to verify|self.signed/);
  assert.equal(broker.received.length, 0);
  await stranger.devices.stop();
  setUp(t, { broker: url, ca_file: ca });
  await waitFor("the device at the broker", () => broker.texts(AVAILABILITY).length > 0);
});

test("names a device after the end of its path, which tells ports apart", () => {
  assert.equal(nameOfPath("/dev/ttyUSB0"), "ttyUSB0");
  const long = "usb-Silicon_Labs_CP2102_USB_to_UART_Bridge_Controller_0001-if00-port0";
  assert.equal(nameOfPath(`/dev/serial/by-id/${long}`), long.slice(-63).replace(/^_+/, ""));
  assert.equal(
    nameOfPath("/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0"),
    "pci-0000-00-14.0-usb-0-2-1.0",
  );
  assert.equal(nameOfPath("/dev/ü"), "device");
  assert.equal(nameOfPath("/"), "device");
});

/** Of links that have no devices yet. */
function devicesOf(t: TestContext): Devices {
  const settings = { bridge: bridgeSettings({}), data: temporaryFolder(t), name: "gw-001" };
  const devices = new Devices(settings, capturedLog().log);
  t.after(() => devices.stop());
  return devices;
}

test("refuses a device that two links have, and one that is called as another link", (t) => {
  const devices = devicesOf(t);
  const one = devices.host(linkSettings({ path: "/dev/a/x" }));
  const two = devices.host(linkSettings({ path: "/dev/b/y", name: "two", device: "y" }));
  one.device("meter");
  one.device("meter");
  const mend = "give each device a name of its own";
  assert.throws(() => two.device("meter"), {
    code: "SETTINGS_INVALID",
    message: `device "meter" is on link x (/dev/a/x) and on link two (/dev/b/y); ${mend}`,
  });
  assert.throws(() => one.device("two"), {
    message: `device "two" of link x (/dev/a/x) has the name of link two (/dev/b/y); ${mend}`,
  });
  assert.throws(() => devices.host(linkSettings({ path: "/dev/c/meter" })), {
    message: `device "meter" of link x (/dev/a/x) has the name of link meter (/dev/c/meter); ${mend}`,
  });
  assert.deepEqual(two.counts.devices, []);
});

test("refuses two devices with one client id, and one with the bridge's own", (t) => {
  const devices = devicesOf(t);
  const table = [
    { name: "two", client_id: "serial-x" },
    { name: "three", client_id: "firmware-bridge" },
  ];
  const host = devices.host(linkSettings({ path: "/dev/a/x", devices: table }));
  host.device("x");
  const mend = "give each a client_id of its own";
  assert.throws(() => host.device("two"), {
    code: "SETTINGS_INVALID",
    message: `device x of link x and device two of link x are both client "serial-x"; ${mend}`,
  });
  assert.throws(() => host.device("three"), {
    message: `the bridge itself and device three of link x are both client "firmware-bridge"; ${mend}`,
  });
});

test("refuses two links with one name", (t) => {
  const devices = devicesOf(t);
  devices.host(linkSettings({ path: "/dev/a/x" }));
  assert.throws(() => devices.host(linkSettings({ path: "/dev/b/x" })), {
    code: "SETTINGS_INVALID",
    message: 'links /dev/a/x and /dev/b/x are both called "x"; set name',
  });
});

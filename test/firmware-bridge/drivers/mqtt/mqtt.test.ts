// mqtt.test: what a device that speaks MQTT over its UART has of the broker.
// Path: test. Touches: a loopback port, a temporary folder.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { Duplex, duplexPair } from "node:stream";
import { type TestContext, test } from "node:test";
import { generate, type Packet, parser } from "mqtt-packet";
import { parse } from "valibot";
import { wait } from "#runtime/backoff";
import type { BrokerDoor } from "../../../../firmware-bridge/driver.ts";
import { mqtt } from "../../../../firmware-bridge/drivers/mqtt/mqtt.ts";
import { temporaryFolder } from "../../../support/temporary-folder.ts";
import { TestBroker } from "../../../support/test-broker.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { fakeHost } from "../../fake-host.ts";
import { LiveLink } from "../../live-link.ts";

const bytesOf = (packet: Record<string, unknown>) => generate(packet as unknown as Packet);

function connectPacket(some: Record<string, unknown> = {}): Buffer {
  const will = { topic: "gone", payload: Buffer.from("box"), qos: 1, retain: false };
  const who = { protocolId: "MQTT", protocolVersion: 4, clientId: "box", clean: true };
  return bytesOf({ cmd: "connect", keepalive: 60, ...who, will, ...some });
}

function publish(payload: string, some: Record<string, unknown> = {}): Buffer {
  const fields = { qos: 1, messageId: 7, dup: false, retain: false };
  return bytesOf({ cmd: "publish", topic: "t", payload, ...fields, ...some });
}

/** A device at the end of a link. */
class Device extends LiveLink {
  readonly heard: Packet[] = [];
  readonly #parser = parser({ protocolVersion: 4 });

  constructor() {
    super();
    this.#parser.on("packet", (packet) => this.heard.push(packet));
    // It knows no AUTH.
    this.#parser.on("error", () => {});
  }

  protected override onWritten(bytes: Buffer): void {
    this.#parser.parse(bytes);
  }

  hears(cmd: string, mostMs?: number): Promise<Packet> {
    return waitFor(cmd, () => this.heard.find((packet) => packet.cmd === cmd), mostMs);
  }
}

function doorTo(port: number): BrokerDoor {
  const open = () => connect(port, "127.0.0.1");
  return { open, username: undefined, password: undefined };
}

/** A driver that runs on a device's link until the test ends. */
function running(t: TestContext, door: BrokerDoor, settings: Record<string, unknown> = {}) {
  const host = fakeHost("box", { door });
  const device = new Device();
  const driver = mqtt.create(parse(mqtt.settings, settings), host);
  const ended = driver.run(device.link);
  const settled = ended.catch(() => {});
  t.after(async () => {
    device.unplug();
    await settled;
  });
  return { host, device, ended };
}

async function atBroker(t: TestContext, settings: Record<string, unknown> = {}) {
  const broker = await TestBroker.start(t);
  const { host, device, ended } = running(t, doorTo(broker.port), settings);
  return { broker, host, device, ended };
}

async function connected(t: TestContext, settings: Record<string, unknown> = {}) {
  const all = await atBroker(t, settings);
  all.device.say(connectPacket());
  await all.device.hears("connack");
  return all;
}

const hex = (byte: number) => byte.toString(16).padStart(2, "0");
const wills = (broker: TestBroker) => broker.texts("gone").length;

test("gives the device a session of its own, whose acknowledgements are the broker's", async (t) => {
  const { broker, device, host } = await connected(t);
  const filters = [{ topic: "t", qos: 1 }];
  device.say(bytesOf({ cmd: "subscribe", messageId: 1, subscriptions: filters }));
  await device.hears("suback");
  broker.hold();
  device.say(publish("hello"));
  await waitFor("the message", () => broker.texts("t").includes("hello"));
  assert.ok(!device.heard.some(({ cmd }) => cmd === "puback"));
  broker.release();
  await device.hears("puback");
  await device.hears("publish");
  assert.equal(broker.received.find(({ topic }) => topic === "t")?.client, "box");
  assert.equal(host.frames(), 3);
  assert.deepEqual(host.faults, []);
});

test("at a second CONNECT lets the first session's will speak, and begins a new one", async (t) => {
  const { broker, device } = await connected(t);
  device.say(Buffer.from("\r\nets Jan 8 2013,rst cause:2\r\n"));
  device.say(connectPacket());
  await waitFor("the will", () => wills(broker) === 1);
  await waitFor("a second CONNACK", () => {
    return device.heard.filter(({ cmd }) => cmd === "connack").length === 2;
  });
  device.say(publish("again"));
  await waitFor("the message", () => broker.texts("t").includes("again"));
});

test("once unplugged, hands on what was said and then the will, at once", async (t) => {
  const { broker, device, ended } = await connected(t);
  for (let count = 1; count <= 50; count += 1) device.say(publish(`${count}`, { qos: 0 }));
  device.unplug();
  await ended;
  await waitFor("the will", () => wills(broker) === 1, 200);
  assert.equal(broker.texts("t").length, 50);
  assert.equal(broker.received.at(-1)?.topic, "gone");
});

test("once unplugged, hands on what a slow broker had not taken yet", async (t) => {
  const taken: Buffer[] = [];
  const gate = Promise.withResolvers<void>();
  const slow = new Duplex({
    read() {},
    write(bytes, _encoding, done) {
      taken.push(bytes);
      // The CONNECT is taken at once.
      if (taken.length === 1) done();
      else void gate.promise.then(() => done());
    },
    final(done) {
      this.push(null);
      done();
    },
  });
  slow.push(Uint8Array.of(0x20, 2, 0, 0));
  const door = { open: () => slow, username: undefined, password: undefined };
  const { device, ended } = running(t, door);
  device.say(connectPacket());
  await device.hears("connack");
  const said = Array.from({ length: 10 }, (_, index) => publish(`${index}`, { qos: 0 }));
  for (const packet of said) device.say(packet);
  device.unplug();
  await waitFor("it to leave", () => slow.writableEnded || slow.destroyed);
  gate.resolve();
  await ended;
  assert.deepEqual(Buffer.concat(taken), Buffer.concat([connectPacket(), ...said]));
});

test("publishes no will after the device's DISCONNECT", async (t) => {
  const { broker, device, ended } = await connected(t);
  device.say(bytesOf({ cmd: "disconnect" }));
  await waitFor("the end of the session", () => broker.clients === 0);
  device.unplug();
  await ended;
  assert.equal(wills(broker), 0);
});

test("discards what comes after the broker's end, up to the next CONNECT", async (t) => {
  const { broker, device } = await connected(t);
  broker.cut();
  await waitFor("the end of the session", () => broker.clients === 0);
  device.say(publish("into the void"));
  device.say(connectPacket());
  await waitFor("a second CONNACK", () => device.heard.length === 2);
  device.say(publish("heard"));
  await device.hears("puback");
  assert.deepEqual(broker.texts("t"), ["heard"]);
});

test("keeps a CONNECT while the broker is away, and what came behind it, in order", async (t) => {
  const { broker, device } = await atBroker(t);
  await broker.stop();
  device.say(connectPacket());
  const count = 20;
  const text = (index: number) => `${index} `.padEnd(1_000, "x");
  for (let index = 0; index < count; index += 1) device.say(publish(text(index), { qos: 0 }));
  // The rest waits in the port.
  await waitFor("the link to be held back", () => device.taken === 18);
  await broker.start();
  await device.hears("connack");
  await waitFor("all messages", () => broker.texts("t").length === count);
  assert.deepEqual(
    broker.texts("t"),
    Array.from({ length: count }, (_, index) => text(index)),
  );
});

test("gives a CONNECT up after its time, and takes the next one", async (t) => {
  const { broker, device } = await atBroker(t, { connect_seconds_max: 1 });
  await broker.stop();
  device.say(connectPacket({ clientId: "first" }));
  await wait(1_100);
  await broker.start();
  device.say(publish("too late"));
  device.say(connectPacket({ clientId: "second" }));
  device.say(publish("in time"));
  await device.hears("puback");
  assert.deepEqual(
    broker.received.map(({ client, text }) => `${client} ${text}`),
    ["second in time"],
  );
});

test("lets in the client id of the settings alone", async (t) => {
  const { broker, device, host } = await atBroker(t, { client_id: "box" });
  device.say(connectPacket({ clientId: "evil" }));
  const refusal = await device.hears("connack");
  assert.equal(refusal.cmd === "connack" && refusal.returnCode, 2);
  assert.equal(broker.clients, 0);
  device.heard.length = 0;
  device.say(publish("ignored"));
  device.say(connectPacket());
  await device.hears("connack");
  assert.equal(broker.clients, 1);
  assert.deepEqual(host.faults, ['a CONNECT of client id "evil"']);
});

test("says who the device is where it does not say so itself", async (t) => {
  const password_file = join(temporaryFolder(t), "password");
  writeFileSync(password_file, "secret\n");
  const broker = await TestBroker.start(t, { users: { meter: "secret" } });
  const { device } = running(t, doorTo(broker.port), { username: "meter", password_file });
  device.say(connectPacket());
  const welcome = await device.hears("connack");
  assert.equal(welcome.cmd === "connack" && welcome.returnCode, 0);
  device.heard.length = 0;
  device.say(connectPacket({ username: "own", password: "wrong" }));
  const refusal = await device.hears("connack");
  assert.equal(refusal.cmd === "connack" && refusal.returnCode, 4);
});

test("after a packet that broke off, lets the will speak and sees the CONNECT", async (t) => {
  const { broker, device, host } = await connected(t, { packet_gap_ms_max: 50 });
  // Between packets a device may be silent for as long as it likes.
  await wait(100);
  device.say(publish("half of it").subarray(0, 6));
  await waitFor("it to be taken", () => device.taken === 2);
  assert.equal(wills(broker), 0);
  await wait(100);
  device.say(connectPacket());
  await waitFor("a second CONNACK", () => device.heard.length === 2);
  assert.equal(wills(broker), 1);
  assert.deepEqual(broker.texts("t"), []);
  assert.deepEqual(host.faults, ["a packet broke off"]);
});

test("ends the link, and the session with it, when the device takes nothing", async (t) => {
  const { broker, device, ended } = await connected(t);
  device.takesNothing = true;
  device.say(bytesOf({ cmd: "pingreq" }));
  await assert.rejects(ended, { code: "LINK_FAILED" });
  await waitFor("the will", () => wills(broker) === 1);
});

test("holds the device back while the broker takes nothing", async (t) => {
  const [ours, brokers] = duplexPair();
  const door = { open: () => ours, username: undefined, password: undefined };
  const { device } = running(t, door);
  device.say(connectPacket());
  brokers.write(Uint8Array.of(0x20, 2, 0, 0));
  await device.hears("connack");
  const packet = publish("x".repeat(4_000), { qos: 0 });
  for (let index = 0; index < 500; index += 1) device.say(packet);
  await waitFor("the link to be held back", () => ours.writableNeedDrain);
  assert.ok(device.taken < 60, `${device.taken} chunks of 4 KB were taken`);
  brokers.resume();
  await waitFor("all of it", () => device.taken === 501);
});

test("hands on a few CONNECTs at once, and refuses those of a device that restarts without end", async (t) => {
  for (const [protocolVersion, code] of [
    [4, 3],
    [5, 0x89],
  ] as const) {
    const { device, host } = await atBroker(t);
    const refused = () => {
      const told = Buffer.concat(device.written).toString("hex");
      const connack = protocolVersion === 5 ? `200300${hex(code)}00` : `200200${hex(code)}`;
      return told.split(connack).length - 1;
    };
    const count = 100;
    for (let n = 0; n < count; n += 1) device.say(connectPacket({ protocolVersion }));
    await waitFor("the refusals", () => refused() >= count - 40, 20_000);
    assert.ok(host.faults.length <= count - 20);
    await wait(1_100);
    device.written.length = 0;
    device.say(connectPacket({ protocolVersion }));
    await waitFor("a welcome", () => device.written.length > 0);
    assert.equal(refused(), 0);
  }
});

test("shows no password in what it did not understand", async () => {
  const shown: string[] = [];
  const host = fakeHost("box", { door: doorTo(1) });
  host.fault = (_reason, frame) => void shown.push(Buffer.from(frame ?? []).toString("latin1"));
  const device = new Device();
  const ended = mqtt.create(parse(mqtt.settings, {}), host).run(device.link);
  const whole = connectPacket({ clientId: "c", username: "me", password: Buffer.from("sesame") });
  const cut = Buffer.from(whole);
  cut[13] = 0xff;
  const torn = Buffer.from(whole);
  torn[5] = 0x00;
  device.say(torn);
  device.say(cut);
  device.unplug();
  await ended;
  assert.equal(shown.length, 2);
  for (const bytes of shown) assert.ok(!bytes.includes("se"), bytes);
});

test("holds the broker back while the device takes little, and loses nothing of what it says", async (t) => {
  const [ours, brokers] = duplexPair();
  const { device } = running(t, { ...doorTo(0), open: () => ours });
  const gate = Promise.withResolvers<void>();
  const { write } = device.link;
  Object.assign(device.link, {
    write: async (bytes: Uint8Array) => {
      await gate.promise;
      await write(bytes);
    },
  });
  device.say(connectPacket());
  const said: Buffer[] = [Buffer.of(0x20, 2, 0, 0)];
  for (let index = 0; index < 200; index += 1) {
    said.push(publish(`${index} `.padEnd(4_000, "x"), { qos: 0 }));
  }
  for (const packet of said) brokers.write(packet);
  const total = Buffer.concat(said).length;
  await waitFor("the CONNECT to be there", () => brokers.read());
  assert.ok(brokers.writableLength > total - 100_000, `${brokers.writableLength} of ${total} wait`);
  gate.resolve();
  await waitFor("all of it", () => Buffer.concat(device.written).length === total);
  assert.ok(Buffer.concat(device.written).equals(Buffer.concat(said)));
});

/** What a client of MQTT 5 may say after its CONNECT, each type once. */
const OF_CLIENTS = [
  { cmd: "auth", reasonCode: 0x18, properties: { authenticationMethod: "x" } },
  { cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "t", qos: 2, nl: true }] },
  { cmd: "unsubscribe", messageId: 2, unsubscriptions: ["t"] },
  { cmd: "publish", topic: "t", payload: "x", qos: 2, messageId: 3, properties: { topicAlias: 5 } },
  { cmd: "puback", messageId: 4, reasonCode: 0x10 },
  { cmd: "pubrec", messageId: 5, reasonCode: 0x97 },
  { cmd: "pubrel", messageId: 6, reasonCode: 0x92 },
  { cmd: "pubcomp", messageId: 7, reasonCode: 0x92 },
  { cmd: "pingreq" },
  { cmd: "disconnect", reasonCode: 4 },
].map((packet) => generate(packet as unknown as Packet, { protocolVersion: 5 }));

test("hands all that a client says to the broker as it is, AUTH before CONNACK included", async (t) => {
  const [ours, brokers] = duplexPair();
  const { device, host } = running(t, { ...doorTo(0), open: () => ours });
  const heard: Buffer[] = [];
  brokers.on("data", (bytes) => heard.push(bytes));
  const hears = (expected: Buffer) =>
    waitFor(`${expected.length} bytes`, () => Buffer.concat(heard).equals(expected));
  const connect = connectPacket({ protocolVersion: 5 });
  device.say(connect);
  await hears(connect);
  const challenge = OF_CLIENTS[0] ?? Buffer.of();
  brokers.write(challenge);
  await waitFor("the challenge", () => Buffer.concat(device.written).equals(challenge));
  for (const packet of OF_CLIENTS) device.say(packet);
  await hears(Buffer.concat([connect, ...OF_CLIENTS]));
  assert.deepEqual(host.faults, []);
  assert.equal(host.frames(), 1 + OF_CLIENTS.length);
});

test("takes a length that no packet has for noise: the will speaks, and the next CONNECT is served", async (t) => {
  const { broker, device, host } = await connected(t);
  device.say(Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 0x74));
  await waitFor("the will", () => wills(broker) === 1);
  device.say(publish("noise"));
  device.say(connectPacket());
  await waitFor("a second CONNACK", () => device.heard.length === 2);
  device.say(publish("heard"));
  await device.hears("puback");
  assert.deepEqual(broker.texts("t"), ["heard"]);
  assert.deepEqual(host.faults, ["a packet is longer than 65536 bytes"]);
});

test("survives whatever a device may say", async (t) => {
  const { broker, device, host } = await atBroker(t);
  for (let seed = 1; seed < 300; seed += 1) {
    const noise = Uint8Array.from({ length: 200 }, (_, index) => (seed * (index + 7) * 31) % 251);
    device.say(seed % 3 === 0 ? Buffer.concat([connectPacket(), noise]) : noise);
  }
  await waitFor("all of it", () => device.taken === 299, 20_000);
  // For it to be let in again, after so many.
  await wait(1_100);
  device.say(connectPacket());
  device.say(publish("still here"));
  await waitFor("the message", () => broker.texts("t").includes("still here"));
  assert.ok(host.faults.length > 50);
});

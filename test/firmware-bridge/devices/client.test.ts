// client.test: what one connection to the broker promises, whatever the broker says.
// Path: test. Touches: nothing; the clock is mocked.

import assert from "node:assert/strict";
import { type Duplex, duplexPair } from "node:stream";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { generate, type Packet, parser } from "mqtt-packet";
import { Client, type Terms } from "../../../firmware-bridge/devices/client.ts";
import { waitFor } from "../../support/wait-for.ts";

const MQTT_5 = { protocolVersion: 5 } as const;
const CONNECT = { cmd: "connect", clientId: "serial-box", keepalive: 30, clean: false } as const;
const WELCOME = { cmd: "connack", sessionPresent: true, reasonCode: 0 } as const;

interface Peer {
  readonly client: Client;
  readonly broker: Duplex;
  readonly terms: Terms[];
  readonly packets: Packet[];
  readonly ends: string[];
  /** What the broker was sent. */
  readonly sent: Packet[];
  say(packet: Packet): void;
}

function connect(): Peer {
  const [stream, broker] = duplexPair();
  const terms: Terms[] = [];
  const packets: Packet[] = [];
  const ends: string[] = [];
  const sent: Packet[] = [];
  const reader = parser(MQTT_5);
  reader.on("packet", (packet) => sent.push(packet));
  broker.on("data", (chunk) => reader.parse(chunk));
  broker.on("error", () => {});
  const client = new Client({
    stream,
    connect: { ...CONNECT, protocolVersion: 5, username: "bridge" },
    connectMsMax: 10_000,
    onWelcome: (it) => terms.push(it),
    onPacket: (packet) => packets.push(packet),
    onEnd: (why) => ends.push(why),
  });
  const say = (packet: Packet) => void broker.write(generate(packet, MQTT_5));
  return { client, broker, terms, packets, ends, sent, say };
}

async function welcomed(properties = {}): Promise<Peer> {
  const peer = connect();
  peer.say({ ...WELCOME, properties });
  await waitFor("the welcome", () => peer.terms.length === 1);
  return peer;
}

/** Lets streams hand on what they have. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

function mockTimers(t: TestContext): void {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
}

test("honours what the broker says of itself, and has the specification's defaults", async () => {
  const plain = await welcomed();
  const most = Number.POSITIVE_INFINITY;
  const standard = { sessionPresent: true, receiveMaximum: 65_535, maximumPacketBytes: most };
  assert.deepEqual(plain.terms, [standard]);
  const some = await welcomed({ receiveMaximum: 7, maximumPacketSize: 900 });
  assert.deepEqual(some.terms, [{ ...standard, receiveMaximum: 7, maximumPacketBytes: 900 }]);
  for (const { client } of [plain, some]) client.destroy("done");
});

test("says who was refused and why", async () => {
  const peer = connect();
  const properties = { reasonString: "no such user" };
  peer.say({ cmd: "connack", sessionPresent: false, reasonCode: 0x86, properties });
  await waitFor("the end", () => peer.ends.length > 0);
  assert.deepEqual(peer.ends, [
    'the broker refuses client "serial-box" as user "bridge": bad user name or password: no such user',
  ]);
});

test("knows a broker that does not speak MQTT 5.0", async () => {
  const peer = connect();
  peer.broker.write(Buffer.of(0x20, 2, 0, 1));
  await waitFor("the end", () => peer.ends.length > 0);
  assert.match(peer.ends[0] ?? "", /MQTT 5\.0/);
});

test("tells why the broker ended the connection", async () => {
  const peer = await welcomed();
  peer.say({ cmd: "disconnect", reasonCode: 0x8e });
  await waitFor("the end", () => peer.ends.length > 0);
  assert.deepEqual(peer.ends, ["the broker ended it: session taken over"]);
});

test("does not wait for an answer to CONNECT without end", async (t) => {
  mockTimers(t);
  const peer = connect();
  t.mock.timers.tick(10_000);
  assert.deepEqual(peer.ends, ["the broker did not answer within 10000 ms"]);
});

test("pings within the broker's own keep alive, and notices that it is silent", async (t) => {
  mockTimers(t);
  const peer = connect();
  peer.say({ ...WELCOME, properties: { serverKeepAlive: 9 } });
  for (let turn = 0; turn < 20 && peer.terms.length === 0; turn += 1) await settle();
  const pings = () => peer.sent.filter(({ cmd }) => cmd === "pingreq").length;
  for (const expected of [0, 1, 1, 2]) {
    t.mock.timers.tick(3_000);
    t.mock.timers.tick(10);
    await settle();
    assert.equal(pings(), expected);
    peer.say({ cmd: "pingresp" });
    await settle();
  }
  assert.deepEqual(peer.ends, []);
  for (let look = 0; look < 4; look += 1) t.mock.timers.tick(3_000);
  assert.deepEqual(peer.ends, ["the broker is silent"]);
});

test("joins the packets of one turn into one write", async () => {
  const peer = await welcomed();
  const chunks: Buffer[] = [];
  peer.broker.on("data", (chunk) => chunks.push(chunk));
  for (let n = 1; n <= 50; n += 1) peer.client.send({ cmd: "pingreq" });
  await waitFor("all", () => peer.sent.length === 51);
  assert.equal(chunks.length, 1);
  peer.client.destroy("done");
});

test("says goodbye behind all that it was given", async () => {
  const peer = await welcomed();
  peer.client.send({ cmd: "pingreq" });
  peer.client.disconnect();
  await waitFor("the goodbye", () => peer.sent.length === 3);
  assert.deepEqual(
    peer.sent.map(({ cmd }) => cmd),
    ["connect", "pingreq", "disconnect"],
  );
  peer.client.destroy("done");
});

test("reads packets however their bytes are cut", async () => {
  const bytes = Buffer.concat(
    Array.from({ length: 20 }, (_, n) =>
      generate(
        {
          cmd: "publish",
          topic: `serial/box/set/${n}`,
          payload: Buffer.alloc(n * 9, n),
          qos: 1,
          dup: false,
          retain: false,
          messageId: n + 1,
          properties: { userProperties: { "sluice-command": String(n) } },
        },
        MQTT_5,
      ),
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), async (cuts) => {
      const peer = await welcomed();
      for (let at = 0, n = 0; at < bytes.length; n += 1) {
        const length = cuts[n % cuts.length] ?? 1;
        peer.broker.write(bytes.subarray(at, at + length));
        at += length;
      }
      await waitFor("all packets", () => peer.packets.length === 20);
      peer.packets.forEach((packet, n) => {
        assert.ok(packet.cmd === "publish");
        assert.equal(packet.topic, `serial/box/set/${n}`);
        assert.equal(packet.payload.length, n * 9);
      });
      peer.client.destroy("done");
    }),
    { seed: 5, numRuns: 20 },
  );
});

test("outlives whatever bytes a broker sends: it ends the connection once, or goes on", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ minLength: 1, maxLength: 200 }),
      fc.boolean(),
      async (noise, isWelcome) => {
        const peer = isWelcome ? await welcomed() : connect();
        peer.broker.write(noise);
        await settle();
        assert.ok(peer.ends.length <= 1);
        peer.client.destroy("done");
        assert.equal(peer.ends.length, 1);
      },
    ),
    { seed: 5, numRuns: 300 },
  );
});

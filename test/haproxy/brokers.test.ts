// brokers.test: what HAProxy does for MQTT clients and the brokers behind it.
// Path: client → [haproxy] → broker. Touches: haproxy, loopback sockets.

import assert from "node:assert/strict";
import { connect as netConnect } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Pair } from "../../scripts/chain/certificates.ts";
import {
  CONNECT,
  eventually,
  FakeBroker,
  frontPorts,
  loopbackInventory,
  startHaproxy,
  TlsClient,
  tlsOptions,
  workplace,
} from "./support.ts";

const { folder, certificates, remove } = await workplace();
const port = await frontPorts();
const tls = (pair?: Pair) => tlsOptions(certificates, pair);
const one = new FakeBroker();
const two = new FakeBroker();
let haproxy: Awaited<ReturnType<typeof startHaproxy>>;

before(async () => {
  await Promise.all([one.listen(port.one), two.listen(port.two)]);
  haproxy = await startHaproxy(folder, loopbackInventory(port, certificates));
});
after(async () => {
  await haproxy.stop();
  one.close();
  two.close();
  await remove();
});

const connectMqtt = async (pair?: Pair) => {
  const client = new TlsClient(port.mqtts, await tls(pair));
  client.send(CONNECT);
  await eventually("CONNACK", () => client.received.length >= 4);
  return client;
};

test("checks a broker by a CONNECT behind a PROXY v2 header of its own", async () => {
  const seen = await eventually("a check", () => one.checks[0]);
  assert.equal(seen.command, "LOCAL");
  assert.equal(seen.rest.toString("hex"), "100e00044d5154540402000500026863");
});

test("tells the broker a client's address and the name in its certificate", async () => {
  const before = one.clients.length + two.clients.length;
  const client = await connectMqtt(certificates.gateway);
  const all = [...one.clients, ...two.clients];
  assert.equal(all.length, before + 1);
  const header = all.find(({ header }) => header.commonName === "gw-001")?.header;
  assert.equal(header?.source, `127.0.0.1:${client.socket.localPort}`);
  assert.equal(header?.verified, true);
  client.close();
});

test("lets a client without a certificate in, and gives it no name", async () => {
  const client = await connectMqtt();
  const source = `127.0.0.1:${client.socket.localPort}`;
  const all = [...one.clients, ...two.clients];
  const header = all.find(({ header }) => header.source === source)?.header;
  assert.equal(header?.command, "PROXY");
  assert.equal(header?.commonName, undefined);
  client.close();
});

test("refuses what is not MQTT at once, before it reaches a broker", async () => {
  const before = one.clients.length + two.clients.length;
  const client = new TlsClient(port.mqtts, await tls());
  const startedAt = Date.now();
  client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await client.closes();
  assert.ok(Date.now() - startedAt < 1_500, "sooner than the time for the first packet");
  assert.equal(one.clients.length + two.clients.length, before);
});

test("passes a CONNECT that comes in pieces", async () => {
  const client = new TlsClient(port.mqtts, await tls());
  client.socket.setNoDelay(true);
  for (const byte of CONNECT) {
    client.send(Buffer.of(byte));
    await sleep(1);
  }
  await eventually("CONNACK", () => client.received.length >= 4);
  client.close();
});

test("passes a CONNECT of MQTT 3.1 and one with a will larger than its buffer", async () => {
  const old = Buffer.from("101000064d51497364700302003c00026d65", "hex");
  const big = Buffer.concat([
    Buffer.from("10f2d40300044d515454040e003c00026d65000177ea60", "hex"),
    Buffer.alloc(60_000),
  ]);
  for (const packet of [old, big]) {
    const client = new TlsClient(port.mqtts, await tls());
    client.send(packet);
    await eventually("CONNACK", () => client.received.length >= 4);
    client.close();
  }
});

test("closes a connection that says nothing, before TLS and after", async () => {
  const plain = netConnect(port.mqtts, "127.0.0.1");
  plain.on("error", () => {});
  const mute = new TlsClient(port.mqtts, await tls());
  await eventually("the plain connection is closed", () => plain.closed);
  await mute.closes();
});

test("leaves a connection open that was established and says nothing", async () => {
  const quiet = await connectMqtt();
  const mute = new TlsClient(port.mqtts, await tls());
  // Both have been silent for the same time; the one that never sent a CONNECT is the clock.
  await mute.closes();
  assert.equal(quiet.isClosed, false);
  quiet.close();
});

test("takes TLS 1.2 and nothing older", async () => {
  const client = new TlsClient(port.mqtts, { ...(await tls()), maxVersion: "TLSv1.2" });
  client.send(CONNECT);
  await eventually("CONNACK", () => client.received.length >= 4);
  client.close();
  const options = { ...(await tls()), minVersion: "TLSv1", maxVersion: "TLSv1.1" } as const;
  const old = new TlsClient(port.mqtts, { ...options, ciphers: "DEFAULT@SECLEVEL=0" });
  old.send(CONNECT);
  await old.closes();
  assert.equal(old.received.length, 0);
});

test("lets a WebSocket through, and no other HTTP", async () => {
  const ask = async (header: string) => {
    const client = new TlsClient(port.wss, await tls());
    client.send(`GET /mqtt HTTP/1.1\r\nHost: localhost\r\n${header}\r\n`);
    await eventually("an answer", () => client.received.includes("\r\n"));
    client.close();
    return client.received.toString("latin1").split("\r\n")[0] ?? "";
  };
  assert.match(await ask(""), / 403 /);
  const key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
  // Nothing listens behind it: 503 says that the request was let through.
  assert.match(await ask(`Connection: Upgrade\r\nUpgrade: websocket\r\n${key}`), / 503 /);
});

test("lets go the clients of a broker that hangs, and sends them to the other", async () => {
  const client = await connectMqtt();
  const source = `127.0.0.1:${client.socket.localPort}`;
  const isAtOne = one.clients.some(({ header }) => header.source === source);
  const [its, other] = isAtOne ? [one, two] : [two, one];
  its.frozen = true;
  await client.closes();
  const before = other.clients.length;
  const again = [await connectMqtt(), await connectMqtt()];
  assert.equal(other.clients.length, before + again.length);
  its.frozen = false;
  for (const each of again) each.close();
});

// network.test: what links over TCP and UDP promise.
// Path: test. Touches: loopback ports.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { Readable } from "node:stream";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Datagram } from "../../../firmware-bridge/driver.ts";
import { newCounts } from "../../../firmware-bridge/links/open-port.ts";
import { READ_LIMITS } from "../../../firmware-bridge/links/port-reader.ts";
import { openTcp } from "../../../firmware-bridge/links/tcp-link.ts";
import { openUdp } from "../../../firmware-bridge/links/udp-link.ts";
import { waitFor } from "../../support/wait-for.ts";
import { supervised } from "./supervised.ts";

async function tcpServer(t: TestContext, port = 0) {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket.on("error", () => {})));
  const close = () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  t.after(close);
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const { port: taken } = server.address() as { port: number };
  const client = () => waitFor("the link to connect", () => sockets.at(-1));
  return { address: `tcp://127.0.0.1:${taken}`, port: taken, client, sockets, close };
}

test("carries bytes over TCP, both ways, and counts them", async (t) => {
  const server = await tcpServer(t);
  const link = supervised(t, { address: server.address, name: "x" });
  await link.is("up");
  const socket = await server.client();
  socket.write("to the driver;");
  await link.hears("to the driver;");
  const heard = once(socket, "data");
  await link.driver.link?.write(Buffer.from("to the device"));
  assert.equal(String((await heard)[0]), "to the device");
  const { bytesIn, bytesOut, opens } = link.supervisor.counts;
  assert.deepEqual({ bytesIn, bytesOut, opens }, { bytesIn: 14, bytesOut: 13, opens: 1 });
  assert.equal(link.driver.link?.baudRate, undefined);
});

test("connects again when the other side went away and came back", async (t) => {
  const server = await tcpServer(t);
  const limits = { retryMsLeast: 10, retryMsMost: 20 };
  const link = supervised(t, { address: server.address, name: "x" }, { limits });
  await link.is("up");
  (await server.client()).end("last words;");
  server.close();
  await link.hears("last words;");
  await waitFor("a refusal", () =>
    link.changes.some(({ why }) => /cannot be reached: .*ECONNREFUSED/.test(why)),
  );
  assert.ok(link.changes.some(({ why }) => why === "the other side closed the connection"));
  const again = await tcpServer(t, server.port);
  await link.is("up");
  (await again.client()).write("back;");
  await link.hears("back;");
});

test("holds a fast sender back while the driver is busy", async (t) => {
  const server = await tcpServer(t);
  const port = await openTcp(server.address);
  t.after(() => port.close("test over"));
  const socket = await server.client();
  const block = Buffer.alloc(65_536);
  let written = 0;
  while (socket.write(block) || socket.writableLength < 1_000_000) written += block.length;
  const readable = port.readable as Readable;
  readable.read(0);
  const { readAheadChunksMax } = READ_LIMITS;
  await waitFor("the read-ahead", () => readable.readableLength >= readAheadChunksMax);
  await sleep(50);
  assert.equal(readable.readableLength, readAheadChunksMax);
  assert.ok(socket.writableNeedDrain);
  let read = 0;
  for await (const { bytes } of port.readable) {
    assert.ok(bytes.length <= 1_024);
    read += bytes.length;
    if (read >= written) break;
  }
  assert.ok(read >= written);
});

test("says that nobody listens at the address", async () => {
  const refused = openTcp("tcp://127.0.0.1:1");
  await assert.rejects(refused, {
    code: "LINK_FAILED",
    message: /^tcp:\/\/127\.0\.0\.1:1 cannot be reached: .*ECONNREFUSED/,
  });
});

async function udpPort(t: TestContext) {
  const counts = newCounts();
  const probe = createSocket("udp4").bind(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  await new Promise<void>((resolve) => probe.close(resolve));
  const link = await openUdp(`udp://127.0.0.1:${port}`, counts);
  t.after(() => link.close("test over"));
  const peer = createSocket("udp4").bind(0, "127.0.0.1");
  await once(peer, "listening");
  t.after(() => peer.close());
  const name = `127.0.0.1:${peer.address().port}`;
  return { link, counts, peer, name, port };
}

test("tells each datagram with who sent it, and answers that one", async (t) => {
  const { link, counts, peer, name, port } = await udpPort(t);
  assert.ok(link.datagrams);
  const received = link.datagrams.received[Symbol.asyncIterator]();
  peer.send("hello", port, "127.0.0.1");
  const { value } = (await received.next()) as { value: Datagram };
  assert.equal(Buffer.from(value.bytes).toString(), "hello");
  assert.equal(value.peer, name);
  const answer = once(peer, "message");
  await link.datagrams.send(value.peer, Buffer.from("good day"));
  assert.equal(String((await answer)[0]), "good day");
  assert.deepEqual([counts.bytesIn, counts.bytesOut], [5, 8]);
  await assert.rejects(link.write(Buffer.from("x")), { code: "LINK_FAILED" });
});

test("lets datagrams go that nobody takes, and counts them", async (t) => {
  const { counts, peer, port } = await udpPort(t);
  await waitFor("datagrams to be let go", () => {
    for (let turn = 0; turn < 50; turn += 1) peer.send("x", port, "127.0.0.1");
    return counts.dropped > 0;
  });
  assert.ok(counts.bytesIn <= 256);
});

test("ends both streams of a UDP link when it is closed, and sends no more", async (t) => {
  const { link, name } = await udpPort(t);
  await link.close("enough");
  assert.equal(await link.closed, "enough");
  for await (const _ of link.readable) assert.fail("a chunk of nothing");
  for await (const _ of link.datagrams?.received ?? []) assert.fail("a datagram of nobody");
  const sent = link.datagrams?.send(name, Buffer.from("x"));
  await assert.rejects(sent ?? Promise.resolve(), { code: "LINK_FAILED" });
});

test("says that an address is taken", async (t) => {
  const { port } = await udpPort(t);
  await assert.rejects(openUdp(`udp://127.0.0.1:${port}`), {
    code: "LINK_FAILED",
    message: /cannot be listened on: .*EADDRINUSE/,
  });
});

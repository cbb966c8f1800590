// web-socket.test: MQTT 3.1.1 clause 6, and what a stream of bytes must do that is a WebSocket.
// Path: test. Touches: loopback.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { type TestContext, test } from "node:test";
import { WebSocket } from "ws";
import { waitFor } from "../../support/wait-for.ts";
import { BOUNDED, closed, type Opened, open, read, sample } from "./open.ts";

const CONNACK = Buffer.from("20020000", "hex");

function client(t: TestContext, opened: Opened, subprotocols = ["mqtt"]): WebSocket {
  const webSocket = new WebSocket("ws://localhost/mqtt", subprotocols, {
    createConnection: () => opened.socket(),
  });
  webSocket.on("error", () => {});
  t.after(() => webSocket.terminate());
  return webSocket;
}

/** Both ends of a WebSocket. */
async function pair(t: TestContext, limits = {}) {
  const opened = await open(t, [{ protocol: "ws" }], { limits });
  const webSocket = client(t, opened);
  const [{ stream }] = await Promise.all([opened.next(), once(webSocket, "open")]);
  return { opened, webSocket, stream };
}

async function closeCode(webSocket: WebSocket): Promise<number> {
  return webSocket.readyState === WebSocket.CLOSED ? 0 : (await once(webSocket, "close"))[0];
}

test("answers with the subprotocol mqtt, and with mqttv3.1 to who knows no other", async (t) => {
  const opened = await open(t, [{ protocol: "ws" }]);
  for (const offered of [["mqtt"], ["mqttv3.1", "mqtt"], ["chat", "mqtt"], ["mqttv3.1"]]) {
    const webSocket = client(t, opened, offered);
    await once(webSocket, "open");
    assert.equal(webSocket.protocol, offered.includes("mqtt") ? "mqtt" : "mqttv3.1");
  }
});

test("refuses with 400 who does not offer mqtt [MQTT-6.0.0-3]", BOUNDED, async (t) => {
  const opened = await open(t, [{ protocol: "ws" }]);
  for (const offered of [[], ["chat"], ["mqtt5"]]) {
    const webSocket = client(t, opened, offered);
    const [request, response] = await once(webSocket, "unexpected-response");
    assert.equal(response.statusCode, 400);
    const text = Buffer.concat(await response.toArray()).toString();
    assert.equal(text, "the WebSocket's subprotocol must be mqtt");
    request.destroy();
  }
  assert.equal(opened.refused("websocket"), 3);
  await waitFor("all sockets are closed", () => opened.open() === 0);
});

test("answers and closes what is no upgrade to a WebSocket", BOUNDED, async (t) => {
  const opened = await open(t, [{ protocol: "ws" }]);
  const requests = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n": "HTTP/1.1 426 Upgrade Required",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n":
      "HTTP/1.1 400 Bad Request",
    "\u0010\u000e\u0000\u0004MQTT\u0004\u0002\u0000\u0005\u0000\u0002hc":
      "HTTP/1.1 400 Bad Request",
  };
  for (const [request, answer] of Object.entries(requests)) {
    // A client that hears the answer out and does not close.
    const socket = connect({ ...opened.address(), allowHalfOpen: true });
    t.after(() => socket.destroy());
    socket.write(request, "latin1");
    const heard: Buffer[] = [];
    socket.on("data", (chunk) => heard.push(chunk));
    await once(socket, "end");
    const text = Buffer.concat(heard).toString("latin1");
    assert.equal(text.split("\r\n")[0], answer);
  }
  assert.equal(opened.refused("websocket"), 3);
  assert.equal(sample(opened.metrics, 'sluice_connections_total{protocol="ws"}'), 0);
  await waitFor("all sockets are closed", () => opened.open() === 0);
});

/** The answer to an upgrade from a page of this origin: 101, or the status of a refusal. */
async function upgradeFrom(t: TestContext, opened: Opened, host: string, origin?: string) {
  const socket = opened.socket();
  const headers = [
    "GET /mqtt HTTP/1.1",
    `Host: ${host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: mqtt",
    ...(origin === undefined ? [] : [`Origin: ${origin}`]),
  ];
  socket.write(`${headers.join("\r\n")}\r\n\r\n`);
  const [first] = await once(socket, "data");
  t.after(() => socket.destroy());
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(first.toString())?.[1]);
}

test(
  "lets pages of its own host connect, and of the origins that are listed",
  BOUNDED,
  async (t) => {
    const listed = ["https://app.example.com", "http://[2001:db8::1]:8080"];
    const opened = await open(t, [{ protocol: "ws", origins: listed }]);
    const answers = (host: string, origin?: string) => upgradeFrom(t, opened, host, origin);
    assert.equal(await answers("gw-001.local:8083"), 101, "no browser");
    assert.equal(await answers("gw-001.local:8083", "http://gw-001.local:8083"), 101);
    assert.equal(await answers("GW-001.local", "http://gw-001.local"), 101);
    assert.equal(await answers("gw-001.local:443", "https://gw-001.local"), 101, "443 is https's");
    for (const origin of listed) assert.equal(await answers("gw-001.local", origin), 101);
  },
);

test("refuses any other page with 403, counts it, and tells the operator", BOUNDED, async (t) => {
  const opened = await open(t, [{ protocol: "ws", origins: ["https://app.example.com"] }]);
  const strangers = [
    "https://evil.example.com",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com.evil.example",
    "http://gw-001.local:9999",
    "https://gw-001.local:8083@evil.example.com",
    "null",
    "file://",
    "not an origin",
  ];
  for (const origin of strangers) {
    assert.equal(await upgradeFrom(t, opened, "gw-001.local:8083", origin), 403, origin);
  }
  assert.equal(opened.refused("origin"), strangers.length);
  assert.equal(opened.warnings.length, 1, "logged once in a while");
  assert.match(String(opened.warnings[0]?.why), /^https:\/\/evil\.example\.com is not among/);
  await waitFor("all sockets are closed", () => opened.open() === 0);
});

test("lets pages of all origins connect with *", BOUNDED, async (t) => {
  const opened = await open(t, [{ protocol: "ws", origins: ["*"] }]);
  for (const origin of ["https://evil.example.com", "null"]) {
    assert.equal(await upgradeFrom(t, opened, "gw-001.local", origin), 101);
  }
});

test(
  "takes packets that share a message or are split over several [MQTT-6.0.0-2]",
  BOUNDED,
  async (t) => {
    const { webSocket, stream } = await pair(t);
    const bytes = Buffer.from("100e00044d5154540402000500026863c000c000", "hex");
    webSocket.send(bytes);
    assert.deepEqual(await read(stream, bytes.length), bytes);
    for (const byte of bytes) webSocket.send(Uint8Array.of(byte));
    assert.deepEqual(await read(stream, bytes.length), bytes);
    webSocket.send(bytes.subarray(0, 5), { fin: false });
    webSocket.send(bytes.subarray(5), { fin: true });
    assert.deepEqual(await read(stream, bytes.length), bytes);
  },
);

test("closes the connection at a message that is text [MQTT-6.0.0-1]", BOUNDED, async (t) => {
  const { opened, webSocket, stream } = await pair(t);
  webSocket.send("text");
  assert.equal(await closeCode(webSocket), 1003);
  await closed(stream);
  await waitFor("the socket is closed", () => opened.open() === 0);
});

test("closes the connection at a message far over packet_bytes_max", BOUNDED, async (t) => {
  const { opened, webSocket, stream } = await pair(t, { packet_bytes_max: 1_000 });
  stream.write(CONNACK);
  const largest = Buffer.alloc(60_000, 1);
  webSocket.send(largest);
  assert.deepEqual(await read(stream, largest.length), largest);
  webSocket.send(Buffer.alloc(70_000));
  assert.equal(await closeCode(webSocket), 1009);
  await closed(stream);
  await waitFor("the socket is closed", () => opened.open() === 0);
});

test("holds no large message for who has had no CONNACK", BOUNDED, async (t) => {
  const limits = { packet_before_connect_bytes_max: 1_000, packet_bytes_max: 1_000_000 };
  const large = Buffer.alloc(900_000, 7);
  const early = await pair(t, limits);
  early.webSocket.send(large);
  await Promise.all([closeCode(early.webSocket), closed(early.stream)]);
  const late = await pair(t, limits);
  const connect = Buffer.alloc(900, 1);
  late.webSocket.send(connect);
  assert.deepEqual(await read(late.stream, connect.length), connect);
  late.stream.write(CONNACK);
  late.webSocket.send(large);
  assert.deepEqual(await read(late.stream, large.length), large);
});

test("lets who has had no CONNACK send many small messages", BOUNDED, async (t) => {
  const { webSocket, stream } = await pair(t, { packet_before_connect_bytes_max: 1_000 });
  const message = Buffer.alloc(900, 1);
  const count = 500;
  for (let sent = 0; sent < count; sent += 1) webSocket.send(message);
  assert.equal((await read(stream, message.length * count)).length, message.length * count);
});

test("sends what is written together as one binary message", BOUNDED, async (t) => {
  const { webSocket, stream } = await pair(t);
  const message = once(webSocket, "message");
  stream.cork();
  for (const part of ["20", "02", "0000"]) stream.write(Buffer.from(part, "hex"));
  stream.uncork();
  assert.deepEqual(await message, [CONNACK, true]);
});

test("stops reading while nobody takes what came, and loses none of it", BOUNDED, async (t) => {
  const { webSocket, stream } = await pair(t);
  stream.write(CONNACK);
  const count = 400;
  const bytes = 65_536;
  for (let index = 0; index < count; index += 1) webSocket.send(Buffer.alloc(bytes, index % 251));
  // The client cannot get rid of it, and that stays so.
  let before = 0;
  let still = 0;
  await waitFor("the client is held back", () => {
    still = webSocket.bufferedAmount === before && before > 0 ? still + 1 : 0;
    before = webSocket.bufferedAmount;
    return still > 20;
  });
  assert.ok(stream.readableLength < 10 * bytes, `holds ${stream.readableLength} bytes`);
  for (let index = 0; index < count; index += 1) {
    const message = await read(stream, bytes);
    assert.ok(message.every((byte) => byte === index % 251));
  }
});

test("tells who writes that the client does not read, and loses none of it", BOUNDED, async (t) => {
  const { webSocket, stream } = await pair(t);
  webSocket.pause();
  const count = 400;
  const bytes = 65_536;
  let received = 0;
  webSocket.on("message", (data: Buffer) => {
    for (const byte of data) {
      if (byte !== Math.floor(received / bytes) % 251) throw new Error("out of order");
      received += 1;
    }
  });
  for (let index = 0; index < count; index += 1) stream.write(Buffer.alloc(bytes, index % 251));
  assert.ok(stream.writableNeedDrain && stream.writableLength > bytes);
  const drained = once(stream, "drain");
  webSocket.resume();
  await drained;
  await waitFor("all has come", () => received === count * bytes);
});

test("ends and closes when the client closes, after the last byte is read", BOUNDED, async (t) => {
  const { opened, webSocket, stream } = await pair(t);
  webSocket.send(CONNACK);
  webSocket.close();
  await waitFor("the socket is closed", () => opened.open() === 0);
  const ended = once(stream, "end");
  assert.deepEqual(await read(stream, CONNACK.length), CONNACK);
  stream.resume();
  await ended;
  await closed(stream);
});

test("says goodbye when it is ended, after all that was written", BOUNDED, async (t) => {
  const { opened, webSocket, stream } = await pair(t);
  const message = once(webSocket, "message");
  stream.end(CONNACK);
  const [[data], code] = await Promise.all([message, closeCode(webSocket)]);
  assert.deepEqual([data, code], [CONNACK, 1000]);
  // Nobody reads the stream: it closes all the same.
  if (!stream.closed) await once(stream, "close");
  await waitFor("the socket is closed", () => opened.open() === 0);
});

test(
  "cuts the connection when it is destroyed, also while it is being ended",
  BOUNDED,
  async (t) => {
    for (const isEnded of [false, true]) {
      const { opened, webSocket, stream } = await pair(t);
      // A client that does not answer, not even a close frame.
      webSocket.pause();
      if (isEnded) stream.end();
      stream.destroy();
      await waitFor("the socket is closed", () => opened.open() === 0);
    }
  },
);

test("answers a ping", BOUNDED, async (t) => {
  const { webSocket } = await pair(t);
  const pong = once(webSocket, "pong");
  webSocket.ping("here?");
  assert.equal(String((await pong)[0]), "here?");
});

test("owes no pongs to a client that reads none", BOUNDED, async (t) => {
  const { webSocket, stream } = await pair(t);
  const answered = once(webSocket, "message");
  stream.write(CONNACK);
  await answered;
  webSocket.pause();
  // More than the sockets' buffers take.
  const count = 200_000;
  for (let index = 0; index < count; index += 1) webSocket.ping(Buffer.alloc(125));
  webSocket.send(CONNACK);
  await read(stream, CONNACK.length);
  let pongs = 0;
  webSocket.on("pong", () => {
    pongs += 1;
  });
  stream.write(CONNACK);
  const message = once(webSocket, "message");
  webSocket.resume();
  await message;
  assert.ok(pongs > 0 && pongs < count / 2, `${pongs} pongs`);
});

// listeners.test: who is handed over, as whom, and who is refused; with sockets on loopback.
// Path: test. Touches: loopback, temporary folders, openssl, haproxy.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from "node:tls";
import { Worker } from "node:worker_threads";
import { WebSocket } from "ws";
import type { ListenerSettings } from "#runtime/settings-schema";
import type { Peer } from "../../../broker/mqtt/reception.ts";
import { type Certificates, makeCertificates } from "../../support/certificates.ts";
import { proxyHeader, sslTlv } from "../../support/proxy-header.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  BOUNDED,
  balancer,
  closed,
  connectTo,
  listener,
  type Opened,
  open,
  read,
  sample,
} from "./open.ts";

const CONNECT = Buffer.from("100e00044d5154540402000500026863", "hex");
const CONNACK = Buffer.from("20020000", "hex");

type Address = ReturnType<Opened["address"]>;

async function certificates(t: TestContext, clients: string[] = []): Promise<Certificates> {
  return makeCertificates(temporaryFolder(t), { clients });
}

function serverFiles(made: Certificates): Partial<ListenerSettings> {
  return { cert_file: made.serverCert, key_file: made.serverKey };
}

function secure(
  t: TestContext,
  address: Address,
  made: Certificates,
  client?: string,
  more: ConnectionOptions = {},
): TLSSocket {
  const pair = client === undefined ? undefined : made.clients[client];
  const socket = tlsConnect({
    ...address,
    servername: "localhost",
    ca: readFileSync(made.ca),
    ...(pair && { cert: readFileSync(pair.cert), key: readFileSync(pair.key) }),
    ...more,
  });
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  return socket;
}

/** A client for each protocol that says CONNECT and resolves with the answer to it. */
async function speak(
  t: TestContext,
  protocol: ListenerSettings["protocol"],
  address: Address,
  made: Certificates,
  client?: string,
): Promise<Buffer> {
  const isTls = protocol === "mqtts" || protocol === "wss";
  const socket = isTls ? secure(t, address, made, client) : connect(address);
  t.after(() => socket.destroy());
  if (protocol === "mqtt" || protocol === "mqtts") {
    socket.write(CONNECT);
    return read(socket, CONNACK.length);
  }
  const webSocket = new WebSocket("ws://localhost/", ["mqtt"], { createConnection: () => socket });
  t.after(() => webSocket.terminate());
  const answered = once(webSocket, "message");
  webSocket.on("open", () => webSocket.send(CONNECT));
  const [data] = await answered;
  return data;
}

/** The broker's side of speak: expects CONNECT, answers, and tells as whom the client came. */
async function answer(opened: Opened) {
  const { stream, peer } = await opened.next();
  assert.deepEqual(await read(stream, CONNECT.length), CONNECT);
  stream.write(CONNACK);
  return peer;
}

const PROTOCOLS = ["mqtt", "mqtts", "ws", "wss"] as const;

for (const protocol of PROTOCOLS) {
  test(`hands over ${protocol} on a port with the client's address`, BOUNDED, async (t) => {
    const made = await certificates(t);
    const opened = await open(t, [{ protocol, ...serverFiles(made) }]);
    assert.match(
      opened.addresses[0] ?? "",
      new RegExp(`^${protocol}://127\\.0\\.0\\.1:[1-9]\\d*$`),
    );
    const [said, peer] = await Promise.all([
      speak(t, protocol, opened.address(), made),
      answer(opened),
    ]);
    assert.deepEqual(said, CONNACK);
    assert.ok((peer.port ?? 0) > 0);
    const { port: _, ...rest } = peer;
    assert.deepEqual(rest, {
      protocol,
      ip: "127.0.0.1",
      certificateName: undefined,
      proxied: "none",
    });
    assert.equal(sample(opened.metrics, `sluice_connections_total{protocol="${protocol}"}`), 1);
  });

  test(`hands over ${protocol} on a unix socket without an address`, BOUNDED, async (t) => {
    const made = await certificates(t);
    const path = join(temporaryFolder(t), "broker.sock");
    const opened = await open(t, [{ protocol, address: `unix:${path}`, ...serverFiles(made) }]);
    assert.deepEqual(opened.addresses, [`${protocol}+unix:${path}`]);
    const [said, peer] = await Promise.all([speak(t, protocol, { path }, made), answer(opened)]);
    assert.deepEqual(said, CONNACK);
    assert.deepEqual([peer.ip, peer.port, peer.proxied], [undefined, undefined, "none"]);
  });

  test(
    `hands over ${protocol} behind a balancer as the client that it names`,
    BOUNDED,
    async (t) => {
      const made = await certificates(t);
      const folder = temporaryFolder(t);
      const header = proxyHeader({ ip: "2001:db8::7", port: 7_777 });
      for (const address of ["127.0.0.1:0", `unix:${join(folder, "broker.sock")}`]) {
        const opened = await open(t, [{ protocol, address, proxy: true, ...serverFiles(made) }]);
        const front = await balancer(t, opened.address(), header);
        const [said, peer] = await Promise.all([speak(t, protocol, front, made), answer(opened)]);
        assert.deepEqual(said, CONNACK);
        assert.deepEqual(peer, {
          protocol,
          ip: "2001:db8::7",
          port: 7_777,
          certificateName: undefined,
          proxied: "client",
        });
      }
    },
  );
}

test("tells an IPv4 client as such where it listens for IPv6 too", BOUNDED, async (t) => {
  const opened = await open(t, [{ address: "[::]:0" }]);
  assert.match(opened.addresses[0] ?? "", /^mqtt:\/\/\[::\]:\d+$/);
  const { port } = new URL(opened.addresses[0] ?? "");
  t.after(() => v4.destroy());
  const v4 = connect({ host: "127.0.0.1", port: Number(port) });
  assert.equal((await opened.next()).peer.ip, "127.0.0.1");
  const v6 = connect({ host: "::1", port: Number(port) });
  t.after(() => v6.destroy());
  assert.equal((await opened.next()).peer.ip, "::1");
});

test(
  "takes a verified client certificate's name, and lets in who shows none",
  BOUNDED,
  async (t) => {
    const made = await certificates(t, ["gw-001"]);
    const opened = await open(t, [{ protocol: "mqtts", ...serverFiles(made), ca_file: made.ca }]);
    for (const name of ["gw-001", undefined]) {
      const [, peer] = await Promise.all([
        speak(t, "mqtts", opened.address(), made, name),
        answer(opened),
      ]);
      assert.equal(peer.certificateName, name);
    }
  },
);

test("keeps the certificate's name when the client resumes its TLS session", BOUNDED, async (t) => {
  const made = await certificates(t, ["gw-001"]);
  const opened = await open(t, [{ protocol: "mqtts", ...serverFiles(made), ca_file: made.ca }]);
  for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
    const first = secure(t, opened.address(), made, "gw-001", { maxVersion });
    const [session] = await once(first, "session");
    assert.equal((await opened.next()).peer.certificateName, "gw-001");
    const second = secure(t, opened.address(), made, "gw-001", { maxVersion, session });
    await once(second, "secureConnect");
    assert.ok(second.isSessionReused());
    assert.equal((await opened.next()).peer.certificateName, "gw-001");
  }
});

test("refuses a client certificate of another CA", BOUNDED, async (t) => {
  const [made, strangers] = await Promise.all([certificates(t), certificates(t, ["gw-001"])]);
  const opened = await open(t, [{ protocol: "mqtts", ...serverFiles(made), ca_file: made.ca }]);
  const mixed = { ...made, clients: strangers.clients };
  await closed(secure(t, opened.address(), mixed, "gw-001"));
  assert.equal(opened.refused("certificate"), 1);
});

test("takes no name from a certificate that it was not asked to verify", BOUNDED, async (t) => {
  const made = await certificates(t, ["gw-001"]);
  const opened = await open(t, [{ protocol: "mqtts", ...serverFiles(made) }]);
  const [, peer] = await Promise.all([
    speak(t, "mqtts", opened.address(), made, "gw-001"),
    answer(opened),
  ]);
  assert.equal(peer.certificateName, undefined);
});

test("refuses TLS below 1.2, and what is no TLS at all", BOUNDED, async (t) => {
  const made = await certificates(t);
  const opened = await open(t, [{ protocol: "mqtts", ...serverFiles(made) }]);
  const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "ALL:@SECLEVEL=0" } as const;
  await closed(secure(t, opened.address(), made, undefined, old));
  assert.equal(opened.refused("tls"), 1);
  const plain = opened.socket();
  plain.write(CONNECT);
  await closed(plain);
  assert.equal(opened.refused("tls"), 2);
  await waitFor("no connection is open", () => opened.open() === 0);
});

test("survives clients that leave in the middle of every handshake", BOUNDED, async (t) => {
  const made = await certificates(t);
  const opened = await open(t, [
    { protocol: "mqtts", ...serverFiles(made) },
    { protocol: "ws" },
    { protocol: "wss", ...serverFiles(made) },
    { proxy: true },
  ]);
  for (const index of opened.addresses.keys()) {
    for (const leave of ["end", "destroy", "resetAndDestroy"] as const) {
      const socket = opened.socket(index);
      await once(socket, "connect");
      // The beginning of a ClientHello, of a request, of a PROXY header.
      const begun = ["160301", "474554202f", "160301", "0d0a0d0a"][index] ?? "";
      socket.write(Buffer.from(begun, "hex"));
      await waitFor("the connection is here", () => opened.open() === 1);
      socket[leave]();
      await waitFor(`${opened.addresses[index]}: gone after ${leave}`, () => opened.open() === 0);
    }
  }
  assert.equal(opened.metrics.total("sluice_connections_refused_total"), 12);
});

test("closes who has not come through all handshakes by the deadline", BOUNDED, async (t) => {
  const made = await certificates(t);
  const ways = [
    { protocol: "mqtts", ...serverFiles(made) },
    { protocol: "ws" },
    { protocol: "wss", ...serverFiles(made) },
    { proxy: true },
    { protocol: "wss", proxy: true, ...serverFiles(made) },
  ] as const;
  const opened = await open(t, ways, { limits: { connect_seconds_max: 0.05 } });
  const silent = ways.map((_, index) => opened.socket(index));
  // One that gets half-way: TLS done, no request.
  const halfway = secure(t, opened.address(2), made);
  await Promise.all([...silent, halfway].map(closed));
  assert.equal(opened.refused("deadline"), 6);
  await waitFor("no connection is open", () => opened.open() === 0);
});

test("leaves who was handed over alone when the deadline passes", BOUNDED, async (t) => {
  const opened = await open(t, [{}, { proxy: true }], { limits: { connect_seconds_max: 0.02 } });
  const client = opened.socket(0);
  const { stream } = await opened.next();
  // Another connection shows that the time has passed.
  await closed(opened.socket(1));
  client.write(CONNECT);
  assert.deepEqual(await read(stream, CONNECT.length), CONNECT);
});

test("reads a PROXY header that comes byte by byte", BOUNDED, async (t) => {
  const opened = await open(t, [{ proxy: true }]);
  const client = opened.socket();
  client.setNoDelay(true);
  const header = proxyHeader({ ip: "198.51.100.4", port: 4 });
  for (const byte of Buffer.concat([header, CONNECT])) {
    await new Promise((sent) => client.write(Uint8Array.of(byte), sent));
  }
  const { stream, peer } = await opened.next();
  assert.deepEqual([peer.ip, peer.port], ["198.51.100.4", 4]);
  assert.deepEqual(await read(stream, CONNECT.length), CONNECT);
});

test("leaves what came with the PROXY header to whoever listens for data", BOUNDED, async (t) => {
  const opened = await open(t, [{ proxy: true }]);
  opened.socket().write(Buffer.concat([proxyHeader({}), CONNECT]));
  const { stream } = await opened.next();
  const [first] = await once(stream, "data");
  assert.deepEqual(first, CONNECT);
});

test("knows a balancer's own connection from a client's", BOUNDED, async (t) => {
  const opened = await open(t, [{ proxy: true }]);
  opened.socket().write(Buffer.concat([proxyHeader({ command: "LOCAL", ip: "8.8.8.8" }), CONNECT]));
  const { stream, peer } = await opened.next();
  assert.deepEqual(
    [peer.proxied, peer.ip, peer.certificateName],
    ["balancer", "127.0.0.1", undefined],
  );
  assert.deepEqual(await read(stream, CONNECT.length), CONNECT);
});

test("takes the certificate's name from a balancer that verified it", BOUNDED, async (t) => {
  const opened = await open(t, [{ proxy: true }]);
  const tlvs = sslTlv({ client: 0x07, verify: 0, name: "gw-001" });
  opened.socket().write(proxyHeader({ tlvs }));
  assert.equal((await opened.next()).peer.certificateName, "gw-001");
});

test("does not take a balancer's certificate for the client's", BOUNDED, async (t) => {
  const made = await certificates(t, ["balancer"]);
  const files = { ...serverFiles(made), ca_file: made.ca };
  const opened = await open(t, [{ protocol: "mqtts", proxy: true, ...files }]);
  // The client spoke TLS to the balancer and showed nothing; the balancer speaks TLS to us.
  const header = proxyHeader({ tlvs: sslTlv({ client: 0x01, verify: 1 }) });
  const front = await balancer(t, opened.address(), header);
  const [, peer] = await Promise.all([speak(t, "mqtts", front, made, "balancer"), answer(opened)]);
  assert.equal(peer.certificateName, undefined);
});

test(
  "takes the client's certificate where the balancer passes its TLS through",
  BOUNDED,
  async (t) => {
    const made = await certificates(t, ["gw-001"]);
    const files = { ...serverFiles(made), ca_file: made.ca };
    const opened = await open(t, [{ protocol: "mqtts", proxy: true, ...files }]);
    const front = await balancer(t, opened.address(), proxyHeader({}));
    const [, peer] = await Promise.all([speak(t, "mqtts", front, made, "gw-001"), answer(opened)]);
    assert.deepEqual([peer.certificateName, peer.ip], ["gw-001", "192.0.2.1"]);
  },
);

test("closes at once a balancer's connection without a PROXY v2 header", BOUNDED, async (t) => {
  const opened = await open(t, [{ proxy: true }]);
  for (const bytes of [CONNECT, Buffer.from("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n")]) {
    const client = opened.socket();
    client.write(bytes);
    await closed(client);
  }
  assert.equal(opened.refused("proxy_header"), 2);
  assert.equal(opened.warnings.length, 1, "logged once in a while");
  assert.equal(opened.warnings[0]?.reason, "proxy_header");
});

test(
  "refuses a client without an IP address, which would pass for a local one",
  BOUNDED,
  async (t) => {
    const opened = await open(t, [{ proxy: true }]);
    const client = opened.socket();
    client.write(Buffer.from("0d0a0d0a000d0a515549540a21000000", "hex"));
    await closed(client);
    assert.equal(opened.refused("proxy_header"), 1);
  },
);

test("refuses a PROXY header from an address that is no balancer's", BOUNDED, async (t) => {
  const opened = await open(t, [
    { proxy: true, proxy_from: ["192.0.2.9", "::1"] },
    { proxy: true, proxy_from: ["127.0.0.1"], address: "[::]:0" },
  ]);
  const client = opened.socket(0);
  client.write(proxyHeader({}));
  await closed(client);
  assert.equal(opened.refused("proxy_from"), 1);
  assert.equal(opened.warnings[0]?.ip, "127.0.0.1");
  const { port } = new URL(opened.addresses[1] ?? "");
  const mapped = connect({ host: "127.0.0.1", port: Number(port) });
  t.after(() => mapped.destroy());
  mapped.write(proxyHeader({}));
  assert.equal((await opened.next()).peer.ip, "192.0.2.1");
});

test("takes no client for a local one because it has reset the connection", BOUNDED, async (t) => {
  const opened = await open(t, [{}, { proxy: true }]);
  const ports = [0, 1].map((index) => Number(new URL(opened.addresses[index] ?? "").port));
  const shared = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(
    `const { workerData: { ports, shared, bytes } } = require("node:worker_threads");
     const { connect } = require("node:net");
     let left = ports.length;
     for (const port of ports) {
       const socket = connect(port, "127.0.0.1", () =>
         socket.write(bytes, () => socket.resetAndDestroy()));
       socket.on("close", () => { if (--left === 0) { Atomics.store(shared, 0, 1); Atomics.notify(shared, 0); } });
     }`,
    { eval: true, workerData: { ports, shared, bytes: Buffer.concat([proxyHeader({}), CONNECT]) } },
  );
  t.after(() => worker.terminate());
  // Not a turn of the event loop passes until both clients have come, spoken and gone.
  assert.notEqual(Atomics.wait(shared, 0, 0, 10_000), "timed-out");
  await waitFor("both have left", () => opened.refused("left") === 2);
  assert.equal(opened.metrics.total("sluice_connections_total"), 0);
  assert.equal(opened.open(), 0);
});

test("closes connections over the limit of all listeners, until one leaves", BOUNDED, async (t) => {
  const opened = await open(t, [{}, {}], { limits: { connections_max: 2 } });
  const clients = [opened.socket(0), opened.socket(1)];
  await Promise.all([opened.next(), opened.next()]);
  assert.equal(opened.open(), 2);
  await Promise.all([closed(opened.socket(0)), closed(opened.socket(1))]);
  assert.equal(opened.refused("connections_max"), 2);
  assert.equal(opened.warnings.length, 1, "logged once in a while");
  clients[0]?.destroy();
  await waitFor("one has left", () => opened.open() === 1);
  opened.socket(1);
  await opened.next();
  assert.equal(opened.open(), 2);
});

test("closes connections over the limit of an address, and of no other", BOUNDED, async (t) => {
  const limits = { connections_per_address_max: 2 };
  const opened = await open(t, [{ address: "[::]:0" }, { proxy: true }], { limits });
  const { port } = new URL(opened.addresses[0] ?? "");
  const clientOf = (host: string) => connectTo(t, { host, port: Number(port) });
  const first = clientOf("127.0.0.1");
  clientOf("127.0.0.1");
  await Promise.all([opened.next(), opened.next()]);
  await closed(clientOf("127.0.0.1"));
  assert.equal(opened.refused("connections_per_address_max"), 1);
  assert.equal(opened.warnings[0]?.ip, "127.0.0.1");
  clientOf("::1");
  assert.equal((await opened.next()).peer.ip, "::1");
  assert.equal(sample(opened.metrics, "sluice_connections_per_address"), 2);
  first.destroy();
  await waitFor("one has left", () => opened.open() === 2);
  clientOf("127.0.0.1");
  await opened.next();
  await waitFor("that refused is gone", () => opened.open() === 3);
});

test("counts a client behind a balancer by the client's address", BOUNDED, async (t) => {
  const limits = { connections_per_address_max: 2 };
  const opened = await open(t, [{ proxy: true }], { limits });
  const arrive = (header: Buffer) => {
    const socket = opened.socket();
    socket.write(header);
    return socket;
  };
  for (const ip of ["192.0.2.1", "192.0.2.1", "192.0.2.2"]) {
    arrive(proxyHeader({ ip }));
    assert.equal((await opened.next()).peer.ip, ip);
  }
  await closed(arrive(proxyHeader({ ip: "192.0.2.1" })));
  assert.equal(opened.refused("connections_per_address_max"), 1);
  assert.equal(opened.warnings[0]?.ip, "192.0.2.1");
  // The balancer's own checks are no client's.
  for (let count = 0; count < 4; count += 1) {
    arrive(proxyHeader({ command: "LOCAL" }));
    assert.equal((await opened.next()).peer.proxied, "balancer");
  }
});

test("knows no address on a unix socket, so counts by none", BOUNDED, async (t) => {
  const path = join(temporaryFolder(t), "broker.sock");
  const limits = { connections_per_address_max: 1 };
  const opened = await open(t, [{ address: `unix:${path}` }], { limits });
  for (let count = 0; count < 3; count += 1) {
    opened.socket();
    await opened.next();
  }
});

test("closes who comes while too many have not logged in, until one has", BOUNDED, async (t) => {
  const limits = { connections_unauthenticated_max: 2 };
  const opened = await open(t, [{}, { proxy: true }], { limits });
  const unauthenticated = () => sample(opened.metrics, "sluice_connections_unauthenticated");
  const first = opened.socket(0);
  const { entrance } = await opened.next();
  // On its way still, which counts as well.
  const second = opened.socket(1);
  await waitFor("both are here", () => unauthenticated() === 2);
  await closed(opened.socket(0));
  assert.equal(opened.refused("connections_unauthenticated_max"), 1);
  entrance.authenticated();
  entrance.authenticated();
  assert.equal(unauthenticated(), 1, "counted once");
  opened.socket(0);
  await opened.next();
  second.destroy();
  first.destroy();
  await waitFor("both have left", () => opened.open() === 1);
  entrance.authenticated();
  assert.equal(unauthenticated(), 1);
});

test("tells since when a connection is here, handshakes included", BOUNDED, async (t) => {
  const opened = await open(t, [{ proxy: true }]);
  const client = opened.socket();
  await waitFor("it is here", () => opened.open() === 1);
  const hereAtMs = performance.now();
  client.write(proxyHeader({}));
  const { entrance } = await opened.next();
  assert.ok(entrance.acceptedAtMs <= hereAtMs);
});

test("counts each connection of each protocol until its socket is closed", BOUNDED, async (t) => {
  const made = await certificates(t);
  const opened = await open(
    t,
    PROTOCOLS.map((protocol) => ({ protocol, ...serverFiles(made) })),
  );
  const streams = [];
  for (const [index, protocol] of PROTOCOLS.entries()) {
    const spoken = speak(t, protocol, opened.address(index), made);
    const { stream } = await opened.next();
    stream.write(CONNACK);
    await spoken;
    streams.push(stream);
    assert.equal(opened.open(), index + 1);
  }
  for (const stream of streams) stream.destroy();
  await waitFor("all are closed", () => opened.open() === 0);
});

test(
  "takes new certificates for who comes from now on, and keeps who is here",
  BOUNDED,
  async (t) => {
    const [old, renewed] = await Promise.all([certificates(t), certificates(t, ["gw-001"])]);
    const settings = { protocol: "mqtts", ...serverFiles(old) } as const;
    const opened = await open(t, [settings]);
    const early = secure(t, opened.address(), old);
    const { stream } = await opened.next();
    const files = { ...serverFiles(renewed), ca_file: renewed.ca };
    opened.prepare([listener({ ...settings, ...files })])();
    early.write(CONNECT);
    assert.deepEqual(await read(stream, CONNECT.length), CONNECT);
    const [, peer] = await Promise.all([
      speak(t, "mqtts", opened.address(), renewed, "gw-001"),
      answer(opened),
    ]);
    assert.equal(peer.certificateName, "gw-001");
  },
);

test("reads a listener's files again where only their content is new", BOUNDED, async (t) => {
  const [old, renewed] = await Promise.all([certificates(t), certificates(t)]);
  const settings = listener({ protocol: "mqtts", ...serverFiles(old) });
  const opened = await open(t, [settings]);
  for (const key of ["serverCert", "serverKey"] as const) copyFileSync(renewed[key], old[key]);
  opened.prepare([settings])();
  await Promise.all([speak(t, "mqtts", opened.address(), renewed), answer(opened)]);
});

test("changes nothing when one of the new files cannot be used", BOUNDED, async (t) => {
  const made = await certificates(t);
  const settings = { protocol: "mqtts", ...serverFiles(made) } as const;
  const opened = await open(t, [{ protocol: "ws" }, settings]);
  const listeners = [
    listener({ protocol: "ws", proxy: true }),
    listener({ ...settings, key_file: made.ca }),
  ];
  assert.throws(() => opened.prepare(listeners), { code: "CERTIFICATE_UNREADABLE" });
  for (const [index, protocol] of (["ws", "mqtts"] as const).entries()) {
    await Promise.all([speak(t, protocol, opened.address(index), made), answer(opened)]);
  }
});

test("leaves a listener as it is that the new settings do not have", BOUNDED, async (t) => {
  const opened = await open(t, [{ protocol: "ws" }]);
  opened.prepare([listener({ protocol: "mqtt" }), listener({ address: "127.0.0.1:1" })])();
  await Promise.all([speak(t, "ws", opened.address(), await certificates(t)), answer(opened)]);
});

test("survives the reset of a connection that was handed over", BOUNDED, async (t) => {
  const opened = await open(t, [{}, { protocol: "ws" }]);
  const plain = opened.socket(0);
  const { stream } = await opened.next();
  plain.resetAndDestroy();
  await closed(stream);
  const socket = opened.socket(1);
  new WebSocket("ws://localhost/", ["mqtt"], { createConnection: () => socket }).on(
    "error",
    () => {},
  );
  const { stream: web } = await opened.next();
  socket.resetAndDestroy();
  web.write(CONNACK);
  await closed(web);
  await waitFor("all are closed", () => opened.open() === 0);
});

test(
  "stops accepting at close, ends who is on the way, and keeps who was handed over",
  BOUNDED,
  async (t) => {
    const opened = await open(t, [{}, { proxy: true }]);
    const client = opened.socket(0);
    const { stream } = await opened.next();
    const arriving = opened.socket(1);
    await waitFor("both are here", () => opened.open() === 2);
    await opened.close();
    await closed(arriving);
    assert.equal(opened.refused("left"), 1);
    const late = opened.socket(0);
    const [refused] = await once(late, "error");
    assert.equal(refused.code, "ECONNREFUSED");
    client.write(CONNECT);
    assert.deepEqual(await read(stream, CONNECT.length), CONNECT);
  },
);

const HAPROXY = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"].find((path) => existsSync(path));

/** Starts HAProxy, TLS in front and PROXY v2 behind; tells the port at which it listens. */
async function startHaproxy(t: TestContext, made: Certificates, target: Address): Promise<number> {
  const folder = temporaryFolder(t);
  const port = await freePort();
  const pem = join(folder, "server.pem");
  writeFileSync(pem, [made.serverCert, made.serverKey].map((path) => readFileSync(path)).join(""));
  const server = "port" in target ? `${target.host}:${target.port}` : `unix@${target.path}`;
  const text = `
    defaults
      mode tcp
      timeout connect 5s
      timeout client 60s
      timeout server 60s
    frontend front
      bind 127.0.0.1:${port} ssl crt ${pem} ca-file ${made.ca} verify optional
      default_backend brokers
    backend brokers
      option tcp-check
      tcp-check send-binary ${CONNECT.toString("hex")}
      tcp-check expect binary ${CONNACK.toString("hex")}
      server one ${server} send-proxy-v2-ssl-cn check check-send-proxy inter 100ms\n`;
  writeFileSync(join(folder, "haproxy.cfg"), text);
  const args = ["-db", "-f", join(folder, "haproxy.cfg")];
  const haproxy = spawn(HAPROXY ?? "haproxy", args, { stdio: "ignore" });
  t.after(() => haproxy.kill("SIGKILL"));
  return port;
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const bound = probe.address();
  probe.close();
  return typeof bound === "object" && bound !== null ? bound.port : 0;
}

/** As answer, for the next connection that is no health check. */
async function answerClient(opened: Opened): Promise<Peer> {
  for (;;) {
    const peer = await answer(opened);
    if (peer.proxied === "client") return peer;
  }
}

test("believes HAProxy about a client's address and certificate, and knows its health checks", {
  ...BOUNDED,
  skip: HAPROXY === undefined && "haproxy is not installed",
}, async (t) => {
  const made = await certificates(t, ["gw-001"]);
  const opened = await open(t, [{ proxy: true }]);
  const port = await startHaproxy(t, made, opened.address());
  const checked = await answer(opened);
  assert.deepEqual([checked.proxied, checked.ip], ["balancer", "127.0.0.1"]);
  for (const name of ["gw-001", undefined]) {
    const front = { port, host: "127.0.0.1" };
    const [said, peer] = await Promise.all([
      speak(t, "mqtts", front, made, name),
      answerClient(opened),
    ]);
    assert.deepEqual(said, CONNACK);
    assert.deepEqual([peer.ip, peer.certificateName], ["127.0.0.1", name]);
  }
});

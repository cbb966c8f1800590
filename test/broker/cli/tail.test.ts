// tail.test: what `sluice tail` shows of a broker's messages, and how it ends.
// Path: test. Touches: loopback, a temporary folder, child processes, openssl.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { Aedes } from "aedes";
import { MAIN, Sluice, sluice } from "./sluice-command.ts";

/** A broker that knows user anna, refuses to subscribe to no/#, and greets each new subscriber. */
class Broker {
  readonly aedes: Aedes;
  readonly sockets = new Set<Socket>();
  address = "";
  #server: Server | undefined;

  private constructor(aedes: Aedes) {
    this.aedes = aedes;
  }

  static async start(t: TestContext): Promise<Broker> {
    const aedes = await Aedes.createBroker({
      authenticate: (_client, username, password, done) => {
        const isKnown = username === undefined || `${username}:${password}` === "anna:hunter2";
        const refusal = Object.assign(new Error("bad login"), { returnCode: 4 as const });
        if (isKnown) done(null, true);
        else done(refusal as Parameters<typeof done>[0], null);
      },
      authorizeSubscribe: (_client, subscription, done) =>
        done(null, subscription.topic.startsWith("no/") ? null : subscription),
    });
    t.after(() => aedes.close());
    return new Broker(aedes);
  }

  async listen(t: TestContext, server: Server, target: string | number = 0): Promise<this> {
    server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.once("close", () => this.sockets.delete(socket));
    });
    if (typeof target === "string") server.listen(target);
    else server.listen(target, "127.0.0.1");
    await once(server, "listening");
    t.after(() => this.cut());
    this.#server = server;
    const address = server.address() as AddressInfo | string;
    this.address = typeof address === "string" ? `unix:${address}` : `127.0.0.1:${address.port}`;
    return this;
  }

  /** Stops listening and drops every connection. */
  cut(): void {
    this.#server?.close();
    for (const socket of this.sockets) socket.destroy();
  }

  async subscribed(): Promise<void> {
    await once(this.aedes, "subscribe", { signal: AbortSignal.timeout(20_000) });
  }

  publish(topic: string, payload: string | Buffer, retain = false): void {
    this.aedes.publish({ cmd: "publish", topic, payload, qos: 0, retain, dup: false }, () => {});
  }
}

async function startBroker(t: TestContext, target?: string | number): Promise<Broker> {
  const broker = await Broker.start(t);
  return broker.listen(t, createServer(broker.aedes.handle), target);
}

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "sluice-test-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

test("prints a line a message and ends with 0 after as many as it was told", async (t) => {
  const broker = await startBroker(t);
  const tail = new Sluice(t, "tail", "--address", broker.address, "--count", "2");
  await broker.subscribed();
  broker.publish("a/b", "21.5");
  broker.publish("c", Buffer.of(0xff));
  broker.publish("d", "never shown");
  const { code, stdout, stderr } = await tail.ended();
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^\S+Z a\/b 21\.5\n\S+Z c 0xff \(1 B\)\n$/);
});

test("prints objects for a program, and only what its filters select", async (t) => {
  const broker = await startBroker(t);
  broker.publish("b/kept", "x", true);
  const tail = new Sluice(t, "tail", "b/+", "--json", "--count", "2", "--address", broker.address);
  await tail.said("stdout", /\n/);
  broker.publish("a", "no");
  broker.publish("b/c", "yes");
  const { stdout } = await tail.ended();
  const lines = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    lines.map(({ at, ...rest }) => rest),
    [
      { topic: "b/kept", qos: 0, retain: true, payload: "x" },
      { topic: "b/c", qos: 0, retain: false, payload: "yes" },
    ],
  );
  assert.ok(lines.every(({ at }) => !Number.isNaN(Date.parse(at))));
});

test("connects again when the connection breaks, and says so", { timeout: 60_000 }, async (t) => {
  const broker = await startBroker(t);
  const { port } = new URL(`http://${broker.address}`);
  const tail = new Sluice(t, "tail", "--address", broker.address, "--count", "1");
  await broker.subscribed();
  broker.cut();
  await tail.said("stderr", /: connection lost, trying again\n/);
  const another = await startBroker(t, Number(port));
  await another.subscribed();
  another.publish("a", "after");
  const { code, stdout, stderr } = await tail.ended();
  assert.equal(code, 0);
  assert.match(stdout, /^\S+ a after\n$/);
  const lines = stderr.replaceAll(`sluice: ${broker.address}: `, "");
  assert.equal(lines, "connection lost, trying again\nconnected again\n");
});

test("ends with 1 and the reason when nobody listens, in one line", async (t) => {
  const broker = await startBroker(t);
  broker.cut();
  for (const address of [broker.address, "unix:/none/sluice.sock"]) {
    const { code, stdout, stderr } = await sluice(t, "tail", "--address", address);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /^sluice: no connection to \S+: connect (ECONNREFUSED|ENOENT) [^\n]+\n$/);
    assert.ok(stderr.includes(address));
  }
});

test("logs in with a password from a file; a refusal ends it with 1", async (t) => {
  const broker = await startBroker(t);
  const file = join(folderFor(t), "password");
  writeFileSync(file, "hunter2\n");
  const login = ["--address", broker.address, "--username", "anna", "--password-file", file];
  const tail = new Sluice(t, "tail", "--count", "1", ...login);
  await broker.subscribed();
  broker.publish("a", "x");
  assert.equal((await tail.ended()).code, 0);
  writeFileSync(file, "wrong\n");
  const { code, stderr } = await sluice(t, "tail", ...login);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^sluice: \S+ refuses the login: .*; --username and --password-file say who/,
  );
});

test("names the filters that the broker refuses, and ends with 1", async (t) => {
  const { address } = await startBroker(t);
  const { code, stderr } = await sluice(t, "tail", "no/a", "yes", "no/b", "--address", address);
  assert.equal(code, 1);
  assert.equal(stderr, "sluice: the broker refuses to subscribe to no/a, no/b\n");
});

test("ends with 0 at Ctrl-C and at SIGTERM", async (t) => {
  const broker = await startBroker(t);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const tail = new Sluice(t, "tail", "--address", broker.address);
    await broker.subscribed();
    tail.process.kill(signal);
    assert.deepEqual(await tail.ended(), { code: 0, stdout: "", stderr: "" });
  }
});

test("ends without a stack trace when its reader goes away", async (t) => {
  const broker = await startBroker(t);
  const command = `'${process.execPath}' '${MAIN}' tail --address ${broker.address} | head -n 1`;
  const shell = spawn("bash", ["-o", "pipefail", "-c", command], { timeout: 20_000 });
  let said = "";
  shell.stderr.on("data", (chunk) => {
    said += chunk;
  });
  await broker.subscribed();
  const ticking = setInterval(() => broker.publish("a", "x"), 20);
  const [code] = await once(shell, "close");
  clearInterval(ticking);
  assert.deepEqual([code, said], [0, ""]);
});

test("connects to a unix socket", async (t) => {
  const broker = await startBroker(t, join(folderFor(t), "broker.sock"));
  const tail = new Sluice(t, "tail", "--address", broker.address, "--count", "1");
  await broker.subscribed();
  broker.publish("a", "x");
  assert.match((await tail.ended()).stdout, / a x\n$/);
});

test("connects to the first listener of the settings without proxy", async (t) => {
  const broker = await startBroker(t);
  const config = join(folderFor(t), "sluice.toml");
  const listener = (address: string, more = "") =>
    `[[listeners]]\nprotocol = "mqtt"\naddress = "${address}"\n${more}`;
  const open = broker.address.replace("127.0.0.1", "0.0.0.0");
  writeFileSync(config, `role = "gateway"\n${listener("h:1", "proxy = true\n")}${listener(open)}`);
  const tail = new Sluice(t, "tail", "--config", config, "--count", "1");
  await broker.subscribed();
  broker.publish("a", "x");
  assert.equal((await tail.ended()).code, 0);
  writeFileSync(config, `role = "gateway"\n${listener("h:1", "proxy = true\n")}`);
  const { code, stderr } = await sluice(t, "tail", "--config", config);
  assert.equal(code, 2);
  assert.match(stderr, /has no listener without proxy = true; name one with --address\n/);
});

const skip = spawnSync("openssl", ["version"]).error ? "openssl is not installed" : false;

test("trusts over TLS whom --ca names, and nobody else", { skip }, async (t) => {
  const folder = folderFor(t);
  const [keyFile, certFile] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const make = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
  ];
  const name = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"];
  const made = spawnSync("openssl", [...make, ...name, "-keyout", keyFile, "-out", certFile]);
  assert.equal(made.status, 0, made.stderr.toString());
  const { readTlsFiles } = await import("#runtime/files");
  const broker = await Broker.start(t);
  const tls = readTlsFiles({ cert_file: certFile, key_file: keyFile });
  await broker.listen(t, createTlsServer(tls, broker.aedes.handle));
  const tail = new Sluice(t, "tail", "--ca", certFile, "--count", "1", "--address", broker.address);
  await broker.subscribed();
  broker.publish("a", "x");
  assert.equal((await tail.ended()).code, 0);
  const { code, stderr } = await sluice(t, "tail", "--tls", "--address", broker.address);
  assert.equal(code, 1);
  assert.match(stderr, /^sluice: no connection to \S+: self-signed certificate; [^\n]+\n$/);
});

test("refuses what it cannot use, with 2", async (t) => {
  const cases: [string[], RegExp][] = [
    [["a#"], /"a#": # must be the last level/],
    [["--qos", "2"], /--qos is "2"; allowed: a whole number from 0 to 1/],
    [["--count", "0"], /--count is "0"; allowed: a whole number from 1 to/],
    [["--address", "1883"], /--address is "1883"; allowed: host:port/],
    [["--ca", "/none.pem", "--address", "h:1"], /ca_file \/none\.pem cannot be used: ENOENT/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await sluice(t, "tail", ...args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, message);
  }
});

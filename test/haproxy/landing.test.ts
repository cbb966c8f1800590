// landing.test: what HAProxy asks of a gateway before it reaches the landing Redis.
// Path: gateway → [haproxy] → landing Redis. Touches: haproxy, redis-server, loopback sockets.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { LANDING_FUNCTIONS, landingKeys } from "#contract/landing";
import { loadLandingLibrary } from "../../broker/ingest/landing-library.ts";
import { Landing } from "../../broker/uplink/landing.ts";
import { ensureCertificates, issueClient, type Pair } from "../../scripts/chain/certificates.ts";
import {
  eventually,
  frontPorts,
  HEALTH_PASSWORD,
  loopbackInventory,
  startHaproxy,
  startProgram,
  TlsClient,
  tlsOptions,
  workplace,
} from "./support.ts";

const run = promisify(execFile);
const { folder, certificates, remove } = await workplace();
const port = await frontPorts();
const tls = (pair?: Pair) => tlsOptions(certificates, pair);
let haproxy: Awaited<ReturnType<typeof startHaproxy>>;
let redis: ReturnType<typeof startProgram>;
let stranger: Pair;

before(async () => {
  stranger = await issueClient(join(folder, "certs"), "gw-002");
  const users = join(folder, "users.acl");
  await writeFile(users, ACL);
  const args = ["--port", String(port.redis), "--bind", "127.0.0.1", "--save", ""];
  redis = startProgram("redis-server", [...args, "--aclfile", users]);
  haproxy = await startHaproxy(folder, loopbackInventory(port, certificates));
  await eventually("the landing is up", async () => (await ask(AUTH_OWN)).startsWith("+OK"));
});
after(async () => {
  await haproxy.stop();
  await redis.stop();
  await remove();
});

/** What gw-001's connection receives after it sent `parts`, one after the other. */
const ask = async (...parts: string[]) => {
  const client = new TlsClient(port.landing, await tls(certificates.gateway));
  client.socket.setNoDelay(true);
  for (const part of parts) {
    client.send(part);
    await sleep(1);
  }
  await eventually("an answer", () => client.received.length > 0 || client.isClosed);
  client.close();
  return client.received.toString("latin1");
};

test("lets a gateway in by its own certificate and its own name", async () => {
  assert.equal(await ask(AUTH_OWN), "+OK\r\n");
});

test("takes the first command in pieces, and in small letters", async () => {
  assert.equal(await ask(...AUTH_OWN.toLowerCase()), "+OK\r\n");
});

test("refuses another gateway's name, though its password is right", async () => {
  assert.equal(await ask(auth("gw-002", "secret-2")), "");
});

test("refuses a name that only begins with the certificate's", async () => {
  assert.equal(await ask(auth("gw-001x", "secret-1")), "");
});

test("refuses a command before AUTH, at once", async () => {
  const startedAt = Date.now();
  assert.equal(await ask("*1\r\n$4\r\nPING\r\n"), "");
  assert.equal(await ask("*2\r\n$4\r\nAUTH\r\n$8\r\nsecret-1\r\n"), "");
  assert.ok(Date.now() - startedAt < 1_500, "sooner than the time for the first packet");
});

test("refuses who has no certificate, or one of another CA", async () => {
  const other = join(folder, "other-certs");
  const forged = (await ensureCertificates(other, "gw-001")).gateway;
  const refusals = [
    [await tls(), /CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE/],
    [await tls(forged), /UNKNOWN_CA|DECRYPT_ERROR/],
  ] as const;
  for (const [options, alert] of refusals) {
    const client = new TlsClient(port.landing, options);
    client.send(AUTH_OWN);
    await client.closes();
    assert.equal(client.received.length, 0);
    assert.match(client.fault, alert);
  }
});

test("lets the next gateway in by its own certificate", async () => {
  const client = new TlsClient(port.landing, await tls(stranger));
  client.send(auth("gw-002", "secret-2"));
  await eventually("an answer", () => client.received.length > 0);
  assert.equal(client.received.toString(), "+OK\r\n");
  client.close();
});

test("a gateway may append by its own rights, up to its budget, and to no one else's stream", async () => {
  const admin = new Redis(port.redis, "127.0.0.1", { username: "admin", password: "secret-0" });
  const password_file = join(folder, "gateway.password");
  await writeFile(password_file, "secret-1\n", { mode: 0o600 });
  const { cert: cert_file, key: key_file } = certificates.gateway;
  const url = `rediss://localhost:${port.landing}`;
  const settings = { url, password_file, ca_file: certificates.ca, cert_file, key_file };
  const landing = await Landing.connect(settings, "gw-001");
  try {
    await loadLandingLibrary(admin);
    const { up, pos, down } = landingKeys("gw-001");
    await admin.call("FCALL", LANDING_FUNCTIONS.trim, 3, up, down, pos, 0, 0, "0-0", 1_000);
    const lane = { lane: "default", epoch: 7 };
    await landing.probe({ ...lane, writers: ["one"], downCursor: "0-0" });
    const frame = { ...lane, writer: "one", frame: new Uint8Array(600), sentMs: 1 };
    const first = await landing.append({ ...frame, prev: 0, last: 1 });
    assert.deepEqual(first, { status: "OK", epoch: 7, seq: 1 });
    const second = await landing.append({ ...frame, prev: 1, last: 2 });
    assert.equal(second.status, "FULL");
    assert.equal(await admin.xlen(up), 1);
  } finally {
    landing.close();
    admin.disconnect();
  }
  const other = landingKeys("gw-002");
  const refused = [
    ["FCALL", LANDING_FUNCTIONS.append, "2", other.up, other.pos, "default", "7", "0", "1", "x"],
    ["FCALL", LANDING_FUNCTIONS.trim, "3", ...Object.values(landingKeys("gw-001"))],
    ["XTRIM", landingKeys("gw-001").up, "MAXLEN", "0"],
  ];
  const client = new TlsClient(port.landing, await tls(certificates.gateway));
  client.send(AUTH_OWN + refused.map(resp).join(""));
  const answers = () => client.received.toString().split("\r\n").slice(1, -1);
  await eventually("the answers", () => answers().length === refused.length);
  client.close();
  for (const answer of answers()) assert.match(answer, /^-(NOPERM|ERR.*permission)/);
});

test("bounds the connections of one gateway, and leaves the next its own", async () => {
  const options = await tls(certificates.gateway);
  const many = Array.from({ length: 18 }, () => new TlsClient(port.landing, options));
  for (const client of many) client.send(AUTH_OWN);
  await eventually("an answer to each", () =>
    many.every((client) => client.isClosed || client.received.length > 0),
  );
  assert.equal(many.filter((client) => client.isClosed).length, 2);
  const next = new TlsClient(port.landing, await tls(stranger));
  next.send(auth("gw-002", "secret-2"));
  await eventually("an answer", () => next.received.length > 0);
  for (const client of [...many, next]) client.close();
});

test("lets gateways go when the landing is no longer the master", async () => {
  const client = new TlsClient(port.landing, await tls(certificates.gateway));
  client.send(AUTH_OWN);
  await eventually("an answer", () => client.received.length > 0);
  const replicaOf = ["replicaof", "127.0.0.1", "1"];
  const admin = ["-p", String(port.redis), "--user", "admin", "--pass", "secret-0"];
  await run("redis-cli", [...admin, ...replicaOf]);
  await client.closes();
  assert.equal(await ask(AUTH_OWN), "");
});

function resp(command: readonly string[]): string {
  const parts = command.map((part) => `$${part.length}\r\n${part}\r\n`);
  return `*${parts.length}\r\n${parts.join("")}`;
}

function auth(user: string, password: string): string {
  return `*3\r\n$4\r\nAUTH\r\n$${user.length}\r\n${user}\r\n$${password.length}\r\n${password}\r\n`;
}

const AUTH_OWN = auth("gw-001", "secret-1");

const ACL = `\
user default off
user admin on >secret-0 ~* &* +@all
user gw-001 on >secret-1 %RW~{gw-001}:up %RW~{gw-001}:pos %R~{gw-001}:down resetchannels -@all +fcall +xadd +hget +hset +time +xread +ping +hello +client|setname
user gw-002 on >secret-2 -@all +ping
user health on >${HEALTH_PASSWORD} -@all +ping +role
`;

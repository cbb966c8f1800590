// landing.test: what HAProxy asks of a gateway before it reaches the landing Redis.
// Path: gateway → [haproxy] → landing Redis. Touches: haproxy, redis-server, loopback sockets.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
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

function auth(user: string, password: string): string {
  return `*3\r\n$4\r\nAUTH\r\n$${user.length}\r\n${user}\r\n$${password.length}\r\n${password}\r\n`;
}

const AUTH_OWN = auth("gw-001", "secret-1");

const ACL = `\
user default off
user admin on >secret-0 ~* &* +@all
user gw-001 on >secret-1 -@all +ping
user gw-002 on >secret-2 -@all +ping
user health on >${HEALTH_PASSWORD} -@all +ping +role
`;

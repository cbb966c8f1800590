// limits-connections.test: how many may connect, from where, and how long they may take.
// Path: test → a gateway as a process. Touches: what that touches.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { connectPacket } from "../conformance/support/wire-build.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  assertClosedSilently,
  assertEnds,
  CODE,
  connectFrom,
  limitedGateway,
} from "./support/limited-gateway.ts";

const refused = (reason: string) => `sluice_connections_refused_total{reason="${reason}"}`;

test("connections_max: who comes beyond is not let in, until somebody leaves", async (t) => {
  const gateway = await limitedGateway(t, { connections_max: 3 });
  const first = await gateway.connect();
  const second = await gateway.connect5();
  await assertClosedSilently(await gateway.open());
  assert.equal(await gateway.metric(refused("connections_max")), 1);
  assert.equal(await gateway.metric("sluice_connections"), 3);
  await first.ping();
  await second.disconnect();
  const isLeft = async () => (await gateway.metric("sluice_connections")) === 2;
  await waitFor("one to be gone", isLeft);
  await (await gateway.connect()).ping();
  await gateway.assertOthersUnharmed();
});

test("connections_per_address_max: one address has no more, another has its own", async (t) => {
  const gateway = await limitedGateway(t, { connections_per_address_max: 3 });
  assert.equal(await connectFrom(t, gateway.port, "127.0.0.1"), "connack");
  assert.equal(await connectFrom(t, gateway.port, "127.0.0.1"), "connack");
  assert.equal(await connectFrom(t, gateway.port, "127.0.0.1"), "closed");
  assert.equal(await connectFrom(t, gateway.port, "127.0.0.2"), "connack");
  assert.equal(await gateway.metric(refused("connections_per_address_max")), 1);
  assert.equal(await gateway.metric("sluice_connections_per_address"), 3);
  await gateway.assertOthersUnharmed();
});

test("connections_unauthenticated_max: those who say nothing leave room to no more such", async (t) => {
  const gateway = await limitedGateway(t, { connections_unauthenticated_max: 2 });
  const silent = await gateway.open();
  await gateway.open();
  await assertClosedSilently(await gateway.open());
  assert.equal(await gateway.metric(refused("connections_unauthenticated_max")), 1);
  assert.equal(await gateway.metric("sluice_connections_unauthenticated"), 2);
  silent.sendConnect();
  await silent.expect("connack", { code: 0 });
  assert.equal(await gateway.metric("sluice_connections_unauthenticated"), 1);
  await gateway.assertOthersUnharmed();
});

test("connect_seconds_max: a CONNECT that is not there in time ends its connection", async (t) => {
  const gateway = await limitedGateway(t, { connect_seconds_max: 1 });
  const silent = await gateway.open();
  const slow = await gateway.open(5);
  // Every byte is sign of life, and none of them a reason to wait for longer.
  const bytes = [...connectPacket({ version: 5, clientId: "slow".repeat(50) })];
  const beganAtMs = performance.now();
  for (const byte of bytes) {
    if (slow.isClosed) break;
    slow.send(Buffer.from([byte]));
    await wait(20);
  }
  assert.ok(slow.isClosed, "before its last byte");
  assert.ok(performance.now() - beganAtMs < 3_500);
  await assertClosedSilently(slow);
  await assertClosedSilently(silent);
  await gateway.assertOthersUnharmed();
});

test("authenticate_seconds_max: a login that cannot be checked in time ends", async (t) => {
  // What a line may cost at the most: one hash takes many times as long as the deadline.
  const [salt, hash] = [randomBytes(16), randomBytes(32)].map((it) => it.toString("base64"));
  const usersFile = join(temporaryFolder(t), "users");
  writeFileSync(usersFile, `dear:scrypt:65536:8:16:${salt}:${hash}\n`, { mode: 0o600 });
  const limits = { authenticate_seconds_max: 1 };
  const gateway = await limitedGateway(t, limits, { access: { users_file: usersFile } });
  const clients = await Promise.all(Array.from({ length: 4 }, () => gateway.open(5)));
  const beganAtMs = performance.now();
  for (const client of clients) {
    client.sendConnect({ clientId: "late", username: "dear", password: "wrong" });
  }
  // The last one waits for the two hashes that are calculated at once.
  const last = clients.at(-1);
  assert.ok(last);
  await assertClosedSilently(last);
  assert.ok(performance.now() - beganAtMs < 2_500, "about when the deadline says");
  await gateway.assertOthersUnharmed();
});

test("packet_before_connect_bytes_max: a longer CONNECT is not read", async (t) => {
  const gateway = await limitedGateway(t, { packet_before_connect_bytes_max: 128 });
  const clientId = "x".repeat(200);
  for (const version of [4, 5] as const) {
    const client = await gateway.open(version);
    client.sendConnect({ clientId });
    await assertClosedSilently(client);
    // What it announces is enough.
    const liar = await gateway.open(version);
    liar.send("10 ff ff ff 7f");
    await assertClosedSilently(liar);
  }
  const small = await gateway.connect({ clientId: "x".repeat(100) });
  await small.publish("a", "x".repeat(1_000), { qos: 1 });
  await gateway.assertOthersUnharmed();
});

test("keepalive_seconds_max: MQTT 5.0 clients are told theirs, and who is silent ends", async (t) => {
  const gateway = await limitedGateway(t, { keepalive_seconds_max: 1 });
  const never = await gateway.connect5({ keepAlive: 0 });
  assert.equal(never.connack.properties.serverKeepAlive, 1);
  const more = await gateway.connect5({ keepAlive: 60 });
  assert.equal(more.connack.properties.serverKeepAlive, 1);
  const content = await gateway.connect5({ keepAlive: 1 });
  assert.equal(content.connack.properties.serverKeepAlive, undefined);
  const older = await gateway.connect({ keepAlive: 0 });
  await assertEnds(never, "disconnect", CODE.keepAliveTimeout);
  // It cannot be told, so it keeps what it asked for.
  await older.ping();
});

test("session_seconds_max: a session is kept no longer than this, whatever was asked", async (t) => {
  const gateway = await limitedGateway(t, { session_seconds_max: 1 });
  const properties = { sessionExpiryInterval: 100 };
  const modern = await gateway.connect5({ clientId: "modern", clean: false, properties });
  assert.equal(modern.connack.properties.sessionExpiryInterval, 1);
  const older = await gateway.connect({ clientId: "older", clean: false });
  await modern.disconnect();
  await older.disconnect();
  assert.equal(await gateway.metric("sluice_sessions"), 3);
  await waitFor("their end", async () => (await gateway.metric("sluice_sessions")) === 1);
  const again = await gateway.connect({ clientId: "older", clean: false });
  assert.equal(again.connack.sessionPresent, false);
  await gateway.assertOthersUnharmed();
});

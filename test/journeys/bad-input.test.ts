import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { connectAsync } from "mqtt";
import { startRedis } from "../support/redis-server.ts";
import { waitFor } from "../support/wait-for.ts";
import { freePlace, type Gateway, type Place, startGateway } from "./support/gateway.ts";

/** It ends with `code` and one line that matches, and no stack trace. */
async function endsWith(run: Gateway, code: number, line: RegExp): Promise<void> {
  assert.equal(await run.exited, code, run.output());
  const lines = run
    .output()
    .trimEnd()
    .split("\n")
    .filter((it) => !it.startsWith("{"));
  assert.equal(lines.length, 1, run.output());
  assert.match(lines[0] ?? "", line);
}

/** It keeps running, serves devices, and its status gives a reason that matches. */
async function goesOnAndSays(run: Gateway, { mqttPort }: Place, reason: RegExp): Promise<void> {
  const status = await waitFor(
    `a status with ${reason}`,
    async () => {
      const document = await run.status();
      return document?.reasons.some((it) => reason.test(it)) ? document : undefined;
    },
    15_000,
  );
  assert.equal(status.ready, true);
  const client = await connectAsync(`mqtt://127.0.0.1:${mqttPort}`, { protocolVersion: 4 });
  await client.publishAsync("kept", "1", { qos: 1 });
  await client.endAsync();
  await waitFor("the message to be kept", async () => (await run.status())?.outbox?.[0]?.lastSeq);
  assert.doesNotMatch(run.output(), /^\s+at /m, "no stack trace");
}

test("unknown settings end the start with file, line, key and the nearest known key", async (t) => {
  const run = startGateway(t, await freePlace(t), { acces: { anonymous: "all" } });
  await endsWith(run, 2, /sluice\.toml:\d+: acces is not a known key.*"access"/);
});

test("an unreadable certificate ends the start with its path", async (t) => {
  const where = await freePlace(t);
  const broken = join(where.folder, "broken.pem");
  writeFileSync(broken, "not a certificate");
  const address = `127.0.0.1:${where.mqttPort}`;
  const listener = { protocol: "mqtts", address, cert_file: broken, key_file: "/no/such.key" };
  await endsWith(startGateway(t, where, { listeners: [listener] }), 2, /broken\.pem/);
});

test("a port that is taken ends the start with its address", async (t) => {
  const where = await freePlace(t);
  const first = startGateway(t, where);
  await waitFor("the first broker", first.status, 15_000);
  const folder = join(where.folder, "second");
  mkdirSync(folder);
  const second = startGateway(t, { ...where, folder, statusPort: where.statusPort });
  await endsWith(second, 1, new RegExp(`127\\.0\\.0\\.1:${where.mqttPort}.*taken`));
});

test("a data folder that another process holds ends the start with that process", async (t) => {
  const where = await freePlace(t);
  const first = startGateway(t, where);
  await waitFor("the first broker", first.status, 15_000);
  const second = startGateway(t, { ...(await freePlace(t)), folder: where.folder });
  await endsWith(second, 1, new RegExp(`held by process ${first.child.pid} `));
  assert.ok(await first.status(), "the first one goes on");
});

test("a Redis that refuses the password is tried again, and the status says so", async (t) => {
  const redis = await startRedis(t, "--requirepass", "right");
  const where = await freePlace(t);
  const passwordFile = join(where.folder, "password");
  writeFileSync(passwordFile, "wrong\n");
  const uplink = { url: redis.url, password_file: passwordFile };
  const run = startGateway(t, where, { uplink });
  await goesOnAndSays(run, where, /refuses the user or the password/);
  const lines = run.output().split("\n");
  assert.ok(
    lines.filter((line) => line.includes("WRONGPASS")).length <= 2,
    "told once, not per try",
  );
});

test("a cloud broker whose Redis refuses the password waits, and its status says so", async (t) => {
  const redis = await startRedis(t, "--requirepass", "right");
  const where = await freePlace(t);
  const passwordFile = join(where.folder, "password");
  writeFileSync(passwordFile, "wrong\n");
  const login = { url: redis.url, password_file: passwordFile };
  const run = startGateway(t, where, { role: "cloud", landing: login, cluster: login });
  const status = await waitFor(
    "the reason",
    async () => {
      const document = await run.status();
      const isSaid = document?.reasons.some((it) => it.includes("refuses the user or"));
      return isSaid ? document : undefined;
    },
    15_000,
  );
  assert.equal(status.ready, false);
  assert.equal(run.child.exitCode, null, "it goes on trying");
  assert.doesNotMatch(run.output(), /^\s+at /m, "no stack trace");
});

test("a cloud that is not there is tried again, and the status says so", async (t) => {
  const where = await freePlace(t);
  const run = startGateway(t, where, { uplink: { url: "redis://127.0.0.1:1" } });
  await goesOnAndSays(run, where, /ECONNREFUSED/);
});

/** Without the command `faketime` itself, which would stand between us and the process. */
function inThePast(): Record<string, string> {
  const time = "@1970-01-01 00:01:00";
  const print = ["-f", time, "printenv", "LD_PRELOAD"];
  const library = execFileSync("faketime", print, { encoding: "utf8" }).trim();
  return { LD_PRELOAD: library, FAKETIME: time };
}

test("a clock in 1970 takes messages into custody all the same", async (t) => {
  const where = await freePlace(t);
  const uplink = { url: "redis://127.0.0.1:1" };
  const run = startGateway(t, where, { uplink }, inThePast());
  await goesOnAndSays(run, where, /uplink/);
  const before = (await run.status())?.outbox?.[0]?.epoch ?? 0;
  assert.ok(before < Date.UTC(1971), "the clock was in 1970");
  run.child.kill("SIGKILL");
  await run.exited;
  const after = startGateway(t, where, { uplink });
  const lane = await waitFor(
    "the restart",
    async () => (await after.status())?.outbox?.[0],
    15_000,
  );
  assert.deepEqual([lane.epoch, lane.lastSeq], [before, 1], "and keeps them when it is mended");
});

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import { stringify } from "smol-toml";
import type { StatusDocument } from "#contract/status";
import { NODE, programOf } from "../../scripts/chain/plans.ts";
import { freeRun } from "../../scripts/chain/ports.ts";
import { startRedis } from "../support/redis-server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { waitFor } from "../support/wait-for.ts";

interface Run {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  output(): string;
  status(): Promise<StatusDocument | undefined>;
}

interface Place {
  readonly folder: string;
  readonly mqttPort: number;
  readonly statusPort: number;
}

async function place(t: TestContext): Promise<Place> {
  const base = await freeRun(2);
  return { folder: temporaryFolder(t), mqttPort: base, statusPort: base + 1 };
}

/** Starts the broker with the smallest gateway settings and `more` laid over them. */
function startBroker(
  t: TestContext,
  { folder, mqttPort, statusPort }: Place,
  more: Record<string, unknown> = {},
  env: Record<string, string> = {},
): Run {
  const file = join(folder, "sluice.toml");
  const settings = {
    role: "gateway",
    name: "gw-001",
    data: join(folder, "data"),
    listeners: [{ protocol: "mqtt", address: `127.0.0.1:${mqttPort}` }],
    status: { address: `127.0.0.1:${statusPort}` },
    ...more,
  };
  writeFileSync(file, stringify(settings));
  const child = spawn(NODE, [programOf("sources", "broker"), "--config", file], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    output += chunk;
  });
  const exited = once(child, "exit").then(([code]) => code as number | null);
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
  });
  const status = async () => {
    const answer = await fetch(`http://127.0.0.1:${statusPort}/status.json`).catch(() => undefined);
    return answer && ((await answer.json()) as StatusDocument);
  };
  return { child, exited, output: () => output, status };
}

/** It ends with `code` and one line that matches, and no stack trace. */
async function endsWith(run: Run, code: number, line: RegExp): Promise<void> {
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
async function goesOnAndSays(run: Run, { mqttPort }: Place, reason: RegExp): Promise<void> {
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
  const run = startBroker(t, await place(t), { acces: { anonymous: "all" } });
  await endsWith(run, 2, /sluice\.toml:\d+: acces is not a known key.*"access"/);
});

test("an unreadable certificate ends the start with its path", async (t) => {
  const where = await place(t);
  const broken = join(where.folder, "broken.pem");
  writeFileSync(broken, "not a certificate");
  const address = `127.0.0.1:${where.mqttPort}`;
  const listener = { protocol: "mqtts", address, cert_file: broken, key_file: "/no/such.key" };
  await endsWith(startBroker(t, where, { listeners: [listener] }), 2, /broken\.pem/);
});

test("a port that is taken ends the start with its address", async (t) => {
  const where = await place(t);
  const first = startBroker(t, where);
  await waitFor("the first broker", first.status, 15_000);
  const folder = join(where.folder, "second");
  mkdirSync(folder);
  const second = startBroker(t, { ...where, folder, statusPort: where.statusPort });
  await endsWith(second, 1, new RegExp(`127\\.0\\.0\\.1:${where.mqttPort}.*taken`));
});

test("a data folder that another process holds ends the start with that process", async (t) => {
  const where = await place(t);
  const first = startBroker(t, where);
  await waitFor("the first broker", first.status, 15_000);
  const second = startBroker(t, { ...(await place(t)), folder: where.folder });
  await endsWith(second, 1, new RegExp(`held by process ${first.child.pid} `));
  assert.ok(await first.status(), "the first one goes on");
});

test("a Redis that refuses the password is tried again, and the status says so", async (t) => {
  const redis = await startRedis(t, "--requirepass", "right");
  const where = await place(t);
  const passwordFile = join(where.folder, "password");
  writeFileSync(passwordFile, "wrong\n");
  const uplink = { url: redis.url, password_file: passwordFile };
  const run = startBroker(t, where, { uplink });
  await goesOnAndSays(run, where, /refuses the user or the password/);
  const lines = run.output().split("\n");
  assert.ok(
    lines.filter((line) => line.includes("WRONGPASS")).length <= 2,
    "told once, not per try",
  );
});

test("a cloud that is not there is tried again, and the status says so", async (t) => {
  const where = await place(t);
  const run = startBroker(t, where, { uplink: { url: "redis://127.0.0.1:1" } });
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
  const where = await place(t);
  const uplink = { url: "redis://127.0.0.1:1" };
  const run = startBroker(t, where, { uplink }, inThePast());
  await goesOnAndSays(run, where, /uplink/);
  const before = (await run.status())?.outbox?.[0]?.epoch ?? 0;
  assert.ok(before < Date.UTC(1971), "the clock was in 1970");
  run.child.kill("SIGKILL");
  await run.exited;
  const after = startBroker(t, where, { uplink });
  const lane = await waitFor(
    "the restart",
    async () => (await after.status())?.outbox?.[0],
    15_000,
  );
  assert.deepEqual([lane.epoch, lane.lastSeq], [before, 1], "and keeps them when it is mended");
});

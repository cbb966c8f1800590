// part.test: a part is kept running as systemd would, and ends with whoever started it.
// Path: chain → [part] → process. Touches: processes, a temporary folder.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Part, type PartPlan } from "../../../scripts/chain/part.ts";
import { becomes } from "../../../scripts/chain/ready.ts";

const folder = await mkdtemp(join(tmpdir(), "sluice-part-"));
after(() => rm(folder, { recursive: true, force: true }));

let count = 0;

/** A part that runs a line of shell, and what was told of it. */
function shellPart(script: string, plan: Partial<PartPlan> = {}) {
  const said: string[] = [];
  const pids: number[] = [];
  const part = new Part(
    {
      name: "worker",
      command: "sh",
      args: ["-c", script],
      logFile: join(folder, `${count++}.log`),
      address: "nowhere",
      isReady: async (logged) => logged.includes("ready"),
      ...plan,
    },
    { say: (line) => said.push(line), started: (_, pid) => pids.push(pid) },
  );
  return { part, said, pids };
}

const SERVE = "echo ready; exec sleep 60";

test("is ready when its own sign says so, and has a pid until it is stopped", async () => {
  const { part, pids } = shellPart(SERVE);
  await part.start();
  assert.equal(part.pid, pids[0]);
  assert.deepEqual(await part.stop(), { code: null, signal: "SIGTERM" });
  assert.equal(part.pid, undefined);
});

test("is started again a second after it died, and says so", async () => {
  const { part, said } = shellPart(SERVE);
  await part.start();
  const first = part.pid;
  const killedAt = performance.now();
  part.kill();
  assert.deepEqual(await part.waitForExit(), { code: null, signal: "SIGKILL" });
  await part.ready();
  assert.ok(performance.now() - killedAt >= 900);
  assert.notEqual(part.pid, first);
  assert.equal(part.restartCount, 1);
  assert.match(
    said.join("\n"),
    /worker ended with SIGKILL; it starts again in 1 s\n.*started again/,
  );
  assert.match(part.tail(), /ended with SIGKILL/);
  await part.stop();
});

test("is ready after a kill only when it is back", async () => {
  const { part } = shellPart(SERVE);
  await part.start();
  part.kill("SIGTERM");
  await part.ready();
  assert.equal(part.restartCount, 1);
  await part.stop();
});

test("stays down when it is stopped while it waits for its restart", async () => {
  const { part, pids } = shellPart(SERVE);
  await part.start();
  part.kill();
  await part.waitForExit();
  assert.deepEqual(await part.stop(), { code: null, signal: "SIGKILL" });
  assert.equal(await becomes(async () => pids.length > 1, 1_300), false);
});

test("is stopped though it is frozen", async () => {
  const { part } = shellPart(SERVE);
  await part.start();
  part.kill("SIGSTOP");
  assert.deepEqual(await part.stop(), { code: null, signal: "SIGTERM" });
});

test("fails to start with the end of its log when it ends before it is ready", async () => {
  const { part } = shellPart("echo the settings are bad; exit 2");
  await assert.rejects(part.start(), /worker ended with exit code 2 .*\n.*settings are bad/);
  assert.equal(part.pid, undefined);
});

test("fails to start with the shell's words when there is no such program", async () => {
  const { part } = shellPart("", { command: "no-such-program-of-sluice" });
  await assert.rejects(part.start(), /no-such-program-of-sluice/);
});

test("starts again after it was stopped", async () => {
  const { part } = shellPart(SERVE);
  await part.start();
  await part.stop();
  await part.start();
  assert.equal(part.restartCount, 0);
  assert.ok(part.pid);
  await part.stop();
});

test("ends with the process that started it, even when that one is killed", async () => {
  const starter = spawn(process.execPath, ["--input-type=module-typescript", "-e", STARTER], {
    env: { ...process.env, LOG_FILE: join(folder, "orphan.log") },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(starter.stdout, "data");
  const pid = Number(String(line).trim());
  assert.ok(await becomes(async () => isRunning(pid), 5_000), "the part runs");
  starter.kill("SIGKILL");
  await once(starter, "exit");
  assert.ok(await becomes(async () => !isRunning(pid), 5_000), "the part has ended");
});

const STARTER = `
  import { Part } from ${JSON.stringify(join(import.meta.dirname, "../../../scripts/chain/part.ts"))};
  const part = new Part({
    name: "worker", command: "sleep", args: ["60"], address: "",
    logFile: process.env.LOG_FILE ?? "", isReady: async () => true,
  }, { say() {}, started() {} });
  await part.start();
  console.log(part.pid);
  setInterval(() => {}, 1000);
`;

function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "sleep";
  } catch {
    return false;
  }
}

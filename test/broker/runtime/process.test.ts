// process.test: how a service begins and ends: exit codes and what it says.
// Path: test. Touches: child processes, a temporary folder.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { temporaryFolder } from "./temporary-folder.ts";

const HEAD = `import { SluiceError } from "#contract/errors";
  import { createLog } from "#runtime/log";
  import { runService, settingsFromArguments } from "#runtime/process";
  const log = createLog({ level: "info", process: "test" });`;

const MODULE = ["--input-type=module-typescript", "-e"];

function run(script: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...MODULE, HEAD + script, "--", ...args],
    { encoding: "utf8", timeout: 20_000 },
  );
  return { code: status, stdout, stderr };
}

const SETTINGS = 'console.log(settingsFromArguments("usage: test").role);';

function settingsFile(t: TestContext, text: string): string {
  const path = join(temporaryFolder(t), "sluice.toml");
  writeFileSync(path, text);
  return path;
}

test("reads the settings that --config names", (t) => {
  const path = settingsFile(t, 'role = "gateway"');
  assert.deepEqual(run(SETTINGS, "--config", path), { code: 0, stdout: "gateway\n", stderr: "" });
});

test("says that settings are good, and starts nothing", (t) => {
  const path = settingsFile(t, 'role = "gateway"');
  const result = run(SETTINGS, "--config", path, "--check-config");
  assert.deepEqual(result, { code: 0, stdout: `${path}: good\n`, stderr: "" });
});

test("ends with 2 and every fault when the settings are bad", (t) => {
  const path = settingsFile(t, 'role = "gatway"\nnaem = 1\n');
  const { code, stdout, stderr } = run(SETTINGS, "--config", path);
  assert.deepEqual([code, stdout], [2, ""]);
  assert.match(stderr, /sluice\.toml:1: role .*\n.*sluice\.toml:2: naem .*\n$/);
});

test("ends with 2 and the usage when the arguments are bad", () => {
  for (const argument of ["--confg", "extra"]) {
    const { code, stderr } = run(SETTINGS, argument);
    assert.equal(code, 2);
    assert.match(stderr, RegExp(`${argument}.*usage: test\n$`, "s"));
  }
});

test("ends with 2 when a start refuses the settings, with 1 when it fails, in one line", () => {
  const codes = { SETTINGS_INVALID: 2, CERTIFICATE_UNREADABLE: 2, LISTEN_FAILED: 1, DATA_HELD: 1 };
  for (const [fault, code] of Object.entries(codes)) {
    const start = `runService(log, async () => { throw new SluiceError("${fault}", "why"); });`;
    assert.deepEqual(run(start), { code, stdout: "", stderr: "why\n" });
  }
});

test("stops on SIGTERM and on SIGINT with 0, once the service has stopped", async () => {
  const script = `${HEAD}
    const beat = setInterval(() => {}, 1000);
    runService(log, async () => ({ async stop() { clearInterval(beat); console.log("stopped"); } }))
      .then(() => console.log("started"));`;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    const child = spawn(process.execPath, [...MODULE, script], { timeout: 20_000 });
    let said = "";
    child.stdout.on("data", (chunk) => {
      said += chunk;
      if (/^started$/m.test(said) && !said.includes("stopping")) child.kill(signal);
    });
    assert.deepEqual(await once(child, "exit"), [0, null]);
    assert.match(said, RegExp(`"signal":"${signal}".*^stopped$`, "ms"));
  }
});

test("ends with 1 when a stop fails", async () => {
  const script = `${HEAD}
    runService(log, async () => ({ async stop() { throw new Error("disk"); } }))
      .then(() => process.kill(process.pid, "SIGTERM"));
    setInterval(() => {}, 1000);`;
  const { status, stdout } = spawnSync(process.execPath, [...MODULE, script], { timeout: 20_000 });
  assert.equal(status, 1);
  assert.match(stdout.toString(), /"err":"disk"/);
});

// process.test: how a service begins, reloads and ends: exit codes and what it says.
// Path: test. Touches: child processes, a temporary folder.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
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

test("says who checks the drivers, where it does not know them", (t) => {
  const path = settingsFile(t, 'role = "gateway"\n[[links]]\npath = "/dev/x"\ndriver = "oops"');
  const { code, stdout } = run(SETTINGS, "--config", path, "--check-config");
  assert.equal(code, 0);
  const who = "firmware-bridge.cjs --check-config checks the drivers of [[links]]";
  assert.equal(stdout, `${path}: good; ${who}\n`);
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

/** A service that prints which users file it is to go on by. */
function reloadingService(t: TestContext, body = "") {
  const path = settingsFile(t, 'role = "gateway"');
  const script = `${HEAD}
    setInterval(() => {}, 1000);
    const settings = settingsFromArguments("usage");
    const reload = (settings) => {
      ${body}
      console.log(JSON.stringify({ users: settings.access.users_file }));
    };
    runService(log, async () => ({ reload, async stop() {} }), settings)
      .then(() => console.log(JSON.stringify({ msg: "started" })));`;
  const args = [...MODULE, script, "--", "--config", path];
  const child = spawn(process.execPath, args, { timeout: 20_000 });
  t.after(() => child.kill("SIGKILL"));
  const lines: Record<string, unknown>[] = [];
  const output = createInterface(child.stdout);
  output.on("line", (line) => lines.push(JSON.parse(line)));
  /** The first line from the last hang-up on that has this message. */
  const said = async (what: RegExp) => {
    for (;;) {
      const line = lines.shift();
      if (line === undefined) await once(output, "line");
      else if (what.test(String(line.msg ?? line.users))) return line;
    }
  };
  const hangUp = (text: string) => {
    writeFileSync(path, text);
    child.kill("SIGHUP");
  };
  return { child, said, hangUp };
}

test("on SIGHUP hands the service what can change, and names what cannot", async (t) => {
  const { child, said, hangUp } = reloadingService(t);
  await said(/^started$/);
  hangUp('role = "gateway"\nlimits.packet_bytes_max = 1000\naccess.users_file = "/other"');
  await said(/^\/other$/);
  const { level, msg } = await said(/restart/);
  assert.deepEqual([level, msg], ["warn", "needs a restart: limits.packet_bytes_max"]);
  hangUp('role = "gateway"\nlog.level = "warn"\naccess.users_file = "/third"');
  await said(/^\/third$/);
  hangUp('role = "gateway"\nlog.level = "info"');
  await said(/^\/etc\/sluice\/users$/);
  await said(/^settings read again$/);
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("on SIGHUP tells all faults of the file, and goes on as it was", async (t) => {
  const { child, said, hangUp } = reloadingService(t);
  await said(/^started$/);
  hangUp('role = "gatway"\nnaem = 1\naccess.users_file = "/other"');
  const { level, faults } = await said(/^settings not applied/);
  assert.equal(level, "error");
  assert.match(
    (faults as string[]).join("|"),
    /sluice\.toml:1: role [^|]*\|[^|]*sluice\.toml:2: naem /,
  );
  hangUp('role = "gateway"\naccess.users_file = "/third"');
  const { users } = await said(/\//);
  assert.equal(users, "/third", "the faulty file was never handed on");
  assert.equal(child.exitCode, null);
});

test("goes on as it was when the service refuses the settings", async (t) => {
  const refuse = `if (settings.access.users_file === "/bad")
    throw new SluiceError("SETTINGS_INVALID", "/bad:1: no user");`;
  const { said, hangUp } = reloadingService(t, refuse);
  await said(/^started$/);
  hangUp('role = "gateway"\nlog.level = "error"\naccess.users_file = "/bad"');
  assert.deepEqual((await said(/^settings not applied/)).faults, ["/bad:1: no user"]);
  hangUp('role = "gateway"\naccess.users_file = "/good"');
  await said(/^\/good$/);
  await said(/^settings read again$/);
});

test("survives a SIGHUP while it starts, and one that it has no settings for", () => {
  const script = `${HEAD}
    const hangUp = () => new Promise((done) => {
      process.once("SIGHUP", () => setImmediate(done));
      process.kill(process.pid, "SIGHUP");
    });
    setInterval(() => {}, 1000);
    runService(log, async () => { await hangUp(); return { async stop() { console.log("stopped"); } }; })
      .then(hangUp)
      .then(() => process.kill(process.pid, "SIGTERM"));`;
  const { status, stdout } = spawnSync(process.execPath, [...MODULE, script], { timeout: 20_000 });
  assert.equal(status, 0);
  assert.match(stdout.toString(), /^stopped$/m);
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

// start.test: what scripts/start promises to whoever types it.
// Path: scripts/start → chain/main → [parts]. Touches: whole chains in temporary folders.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { becomes } from "../../scripts/chain/ready.ts";
import { isRunning, ownPlace, partPids, ROOT, Run, temporaryFolder } from "./support.ts";

/** What scripts/start --gateway may use of a machine: all from packages that are never missing. */
const ESSENTIAL = "setpriv script sh bash stty tty sleep uname dirname".split(" ");

test("the gateway alone brings a device's messages, with the system's essential commands only", async (t) => {
  const folder = await temporaryFolder();
  const { args } = await ownPlace(folder.path);
  const commands = join(folder.path, "bin");
  mkdirSync(commands);
  for (const name of ESSENTIAL) {
    const { stdout } = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" });
    if (stdout.trim()) symlinkSync(stdout.trim(), join(commands, name));
  }
  const run = new Run(t, ["--gateway", ...args], { PATH: commands, HOME: folder.path });
  await run.says(/serial\/sim-1\/temperature {2}\d+\.\d\n/);
  await run.says(/serial\/sim-1\/availability {2}online/);
  run.kill("SIGINT");
  assert.equal(await run.ends(), 0);
  await folder.remove();
});

test("a second start in the folder says that it runs already, by which process, and how to stop it", async (t) => {
  const folder = await temporaryFolder();
  const { args } = await ownPlace(folder.path);
  const first = new Run(t, ["--gateway", ...args]);
  await first.says(/consumer: connected/);
  const second = new Run(t, ["--gateway", ...args]);
  assert.equal(await second.ends(), 1);
  assert.match(second.output, new RegExp(`runs already in .*pid ${first.pid}\\)`));
  const hint = `scripts/start --folder ${folder.path} stop`;
  assert.ok(second.output.includes(hint), second.output);
  assert.ok(isRunning(first.pid), "the first one goes on");
  const stop = new Run(t, ["--folder", folder.path, "stop"]);
  assert.equal(await stop.ends(), 0);
  assert.equal(await first.ends(), 0);
  await folder.remove();
});

test("Ctrl-C ends everything that it started, and nothing else", async (t) => {
  const folder = await temporaryFolder();
  const { args } = await ownPlace(folder.path);
  const bystander = spawn("sleep", ["60"]);
  const run = new Run(t, ["--gateway", ...args]);
  await run.says(/consumer: connected/);
  const pids = partPids(folder.path);
  assert.equal(pids.length, 3);
  assert.ok(pids.every(isRunning));
  run.kill("SIGINT");
  assert.equal(await run.ends(), 0);
  assert.deepEqual(pids.filter(isRunning), []);
  assert.ok(isRunning(bystander.pid ?? 0));
  assert.equal(existsSync(join(folder.path, "chain.json")), false);
  bystander.kill();
  await folder.remove();
});

test("Ctrl-C while it starts ends what there is so far", async (t) => {
  const folder = await temporaryFolder();
  const { args } = await ownPlace(folder.path);
  const run = new Run(t, args);
  await run.says(/^landing /m);
  const pids = partPids(folder.path);
  run.kill("SIGINT");
  assert.equal(await run.ends(), 0);
  assert.doesNotMatch(run.output, /firmware-bridge/);
  assert.deepEqual(pids.filter(isRunning), []);
  await folder.remove();
});

test("nothing outlives a start that was killed, and the next one begins without a word", async (t) => {
  const folder = await temporaryFolder();
  const { args } = await ownPlace(folder.path);
  const killed = new Run(t, ["--gateway", ...args]);
  await killed.says(/consumer: connected/);
  const pids = partPids(folder.path);
  killed.kill("SIGKILL");
  await killed.ends();
  assert.ok(await becomes(async () => !pids.some(isRunning), 5_000), "the parts have ended");
  const next = new Run(t, ["--gateway", ...args]);
  await next.says(/consumer: connected/);
  assert.doesNotMatch(next.output, /left over/);
  next.kill("SIGINT");
  assert.equal(await next.ends(), 0);
  await folder.remove();
});

test("ports that are taken are named all at once, with who has them, before anything starts", async (t) => {
  const folder = await temporaryFolder();
  const { args, ports } = await ownPlace(folder.path);
  const holders = await Promise.all([ports.mqtts, ports.cluster].map(hold));
  const run = new Run(t, args);
  assert.equal(await run.ends(), 1);
  assert.match(run.output, new RegExp(`${ports.mqtts} \\(HAProxy, MQTTS.*pid ${process.pid}\\)`));
  assert.match(run.output, new RegExp(`${ports.cluster} \\(cluster Redis\\).*pid ${process.pid}`));
  assert.equal(existsSync(join(folder.path, "logs")), false);
  for (const holder of holders) holder.close();
  await folder.remove();
});

async function hold(port: number) {
  const server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

test("the whole chain brings a device's messages to the cloud, across a network that is pulled out", async (t) => {
  const folder = await temporaryFolder();
  const { args } = await ownPlace(folder.path);
  const run = new Run(t, args);
  await run.says(/from\/gw-001\/serial\/sim-1\/count {2}\d+\n/);

  const off = new Run(t, ["--folder", folder.path, "network", "off"]);
  assert.equal(await off.ends(), 0);
  await run.says(/consumer: cut off/);
  const status = new Run(t, ["--folder", folder.path, "status"]);
  assert.equal(await status.ends(), 0);
  assert.match(status.output, /haproxy +down/);
  const before = counts(run.output).length;

  const on = new Run(t, ["--folder", folder.path, "network", "on"]);
  assert.equal(await on.ends(), 0);
  const isBack = () => counts(run.output).length > before + 2;
  assert.ok(await becomes(async () => isBack(), 60_000), "messages come again");

  const pids = partPids(folder.path);
  run.kill("SIGINT");
  assert.equal(await run.ends(), 0);
  assert.deepEqual(pids.filter(isRunning), []);
  const seen = counts(run.output);
  const first = seen[0] ?? 0;
  assert.deepEqual(
    seen,
    seen.map((_, index) => first + index),
    "each measurement, in order",
  );
  await folder.remove();
});

/** The counter that the device sends with each measurement, as the cloud received it. */
function counts(output: string): number[] {
  return [...output.matchAll(/sim-1\/count {2}(\d+)\n/g)].map((match) => Number(match[1]));
}

test("--help says what there is, and a wrong word is refused with code 2, without setting up", () => {
  const start = (...args: string[]) =>
    spawnSync(join(ROOT, "scripts/start"), args, { encoding: "utf8" });
  assert.match(start("--help").stdout, /scripts\/start network off/);
  for (const words of [["--fast"], ["netwrok", "off"], ["network", "off", "-1"], ["stop", "now"]]) {
    const { status, stdout, stderr } = start(...words);
    assert.equal(status, 2, words.join(" "));
    assert.equal(stdout, "");
    assert.match(stderr, /--help/);
  }
});

test("status, network and stop say that nothing runs where nothing does", async (t) => {
  const folder = await temporaryFolder();
  for (const words of [["status"], ["stop"], ["network", "off"]]) {
    const run = new Run(t, ["--folder", folder.path, ...words]);
    assert.equal(await run.ends(), 1);
    assert.match(run.output, /nothing runs in/);
  }
  await folder.remove();
});

// run-file.test: one chain a folder, and nothing of a killed one stays.
// Path: chain, main → [run-file]. Touches: a temporary folder, processes.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ChainFolder } from "../../../scripts/chain/folder.ts";
import { RunFile, runningPid } from "../../../scripts/chain/run-file.ts";

async function emptyFolder(t: TestContext): Promise<ChainFolder> {
  const path = await mkdtemp(join(tmpdir(), "sluice-run-file-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return new ChainFolder(path);
}

const silent = () => {};

test("a folder that is claimed is refused to the next, until it is released", async (t) => {
  const folder = await emptyFolder(t);
  const file = RunFile.claim(folder, silent);
  assert.equal(runningPid(folder), process.pid);
  assert.throws(() => RunFile.claim(folder, silent), /runs already .*To stop it: .*start --folder/);
  file.release();
  assert.equal(runningPid(folder), undefined);
  RunFile.claim(folder, silent).release();
});

test("a part that outlived its chain is ended by the next claim, which says so", async (t) => {
  const folder = await emptyFolder(t);
  const leftover = spawn("sleep", ["60"]);
  const ended = once(leftover, "exit");
  RunFile.claim(folder, silent).record("gateway", leftover.pid ?? 0);
  pretendOwnerIsGone(folder);
  const said: string[] = [];
  const file = RunFile.claim(folder, (line) => said.push(line));
  assert.deepEqual(await ended, [null, "SIGKILL"]);
  assert.match(said.join(), new RegExp(`gateway \\(pid ${leftover.pid}\\) was left over`));
  file.release();
});

test("a process that only has the number of a part is left alone", async (t) => {
  const folder = await emptyFolder(t);
  const bystander = spawn("sleep", ["60"]);
  t.after(() => bystander.kill());
  RunFile.claim(folder, silent).record("gateway", bystander.pid ?? 0);
  const state = pretendOwnerIsGone(folder);
  state.parts[0].ticks = "1";
  writeFileSync(folder.runFile, JSON.stringify(state));
  const said: string[] = [];
  RunFile.claim(folder, (line) => said.push(line)).release();
  assert.deepEqual(said, []);
  assert.ok(existsSync(`/proc/${bystander.pid}`));
});

test("a file that was cut off while it was written stops nobody", async (t) => {
  const folder = await emptyFolder(t);
  writeFileSync(folder.runFile, '{"owner": {"pi');
  RunFile.claim(folder, silent).release();
});

/** As if the owner had been killed: its pid is another process's now. */
function pretendOwnerIsGone(folder: ChainFolder) {
  const state = JSON.parse(readFileSync(folder.runFile, "utf8"));
  state.owner.ticks = "1";
  writeFileSync(folder.runFile, JSON.stringify(state));
  return state;
}

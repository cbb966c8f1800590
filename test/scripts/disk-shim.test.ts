// disk-shim.test: the disk that tests and the torture rely on fails, slows and forgets as it says.
// Path: test → disk-shim → processes of its own. Touches: a temporary folder.

import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { ClassicLevel } from "classic-level";
import { NODE } from "../../scripts/chain/plans.ts";
import { DiskShim } from "../../scripts/disk-shim/disk-shim.ts";
import { Random } from "../../scripts/ordeal/random.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

/** Runs each line that it is told as the body of an async function, and answers with what came. */
const OBEDIENT = `
  const fs = require("node:fs");
  const { ClassicLevel } = require("classic-level");
  const open = {};
  require("node:readline").createInterface({ input: process.stdin }).on("line", async (line) => {
    const run = Object.getPrototypeOf(async () => {}).constructor("fs", "ClassicLevel", "open", line);
    const told = await run(fs, ClassicLevel, open).catch((fault) => (fault.cause ?? fault).message);
    process.stdout.write(JSON.stringify(told ?? "done") + "\\n");
  });
`;

class Obedient {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;

  constructor(t: TestContext, shim: DiskShim) {
    const options = { env: { ...process.env, ...shim.env }, cwd: shim.folder };
    const require = `module.paths.push(${JSON.stringify(join(import.meta.dirname, "../../node_modules"))});`;
    this.#child = spawn(NODE, ["-e", require + OBEDIENT], options);
    this.#child.stderr.pipe(process.stderr);
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    t.after(() => this.kill());
  }

  /** What the line returns, "done" for nothing, or the reason of its failure. */
  async do(line: string): Promise<unknown> {
    this.#child.stdin.write(`${line.replaceAll("\n", " ")}\n`);
    const { value } = await this.#answers.next();
    return value === undefined ? undefined : JSON.parse(value);
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }

  async died(): Promise<string | null> {
    if (this.#child.signalCode) return this.#child.signalCode;
    return (await once(this.#child, "exit"))[1];
  }
}

function openShim(t: TestContext): {
  shim: DiskShim;
  process: Obedient;
  at: (name: string) => string;
} {
  const folder = temporaryFolder(t);
  const shim = new DiskShim(join(folder, "disk"), join(folder, "place"));
  return { shim, process: new Obedient(t, shim), at: (name) => join(shim.folder, name) };
}

/** All is lost that can be. */
const everything = () => 0;

test("a power cut takes what was not synced, and nothing else", async (t) => {
  const { shim, process, at } = openShim(t);
  await process.do("fs.writeFileSync('never', 'abc')");
  await process.do(`const file = fs.openSync('some', 'w'); fs.writeSync(file, 'kept');
    fs.fdatasyncSync(file); fs.writeSync(file, 'lost')`);
  await process.do(`const file = fs.openSync('all', 'a'); fs.writeSync(file, 'all');
    fs.fsyncSync(file); fs.renameSync('all', 'renamed')`);
  await process.do(`fs.unlinkSync('renamed'); fs.writeFileSync('again', 'of the same inode')`);
  await process.kill();
  assert.deepEqual(shim.cutPower(everything), { files: 3, bytes: 3 + 4 + 17 });
  const left = ["never", "some", "again"].map((name) => readFileSync(at(name), "utf8"));
  assert.deepEqual(left, ["", "kept", ""]);
});

test("of what was not synced a power cut leaves as much as chance says, or zeros", async (t) => {
  const { shim, process, at } = openShim(t);
  const write = (name: string) =>
    process.do(`const file = fs.openSync('${name}', 'w'); fs.writeSync(file, 'kept');
      fs.fsyncSync(file); fs.writeSync(file, 'lost')`);
  await write("one");
  await process.kill();
  shim.cutPower(() => 3, "zeros");
  assert.equal(readFileSync(at("one"), "utf8"), "keptlos\0");
});

test("what was there before, or outlived the last cut, is not lost", async (t) => {
  const { shim, process, at } = openShim(t);
  await process.do("fs.writeFileSync('file', '0123456789')");
  await process.kill();
  shim.cutPower(() => 4);
  const next = new Obedient(t, shim);
  await next.do("fs.appendFileSync('file', 'more')");
  await next.kill();
  shim.cutPower(everything);
  assert.equal(readFileSync(at("file"), "utf8"), "0123");
  writeFileSync(at("file"), "written anew");
  const later = new DiskShim(shim.folder, join(shim.folder, "../place"));
  later.cutPower(everything);
  assert.equal(readFileSync(at("file"), "utf8"), "written anew");
});

test("it sees the streams of LevelDB: a batch is there after a cut if it was synced", async (t) => {
  const { shim, process, at } = openShim(t);
  await process.do("open.db = new ClassicLevel('db'); await open.db.open()");
  await process.do("await open.db.put('synced', '1', { sync: true })");
  await process.do("await open.db.put('not', '1', { sync: false })");
  await process.kill();
  shim.cutPower(everything);
  const database = new ClassicLevel(at("db"));
  t.after(() => database.close());
  assert.deepEqual(await database.keys().all(), ["synced"]);
});

test("a full disk takes what is left, says ENOSPC, and takes more when it has room again", async (t) => {
  const { shim, process, at } = openShim(t);
  await process.do("open.file = fs.openSync('file', 'a')");
  shim.set({ fault: "full", bytesLeft: 5 });
  assert.equal(await process.do("return fs.writeSync(open.file, '12345678')"), 5);
  assert.match(String(await process.do("fs.writeSync(open.file, '678')")), /ENOSPC/);
  assert.match(String(await process.do("fs.writevSync(open.file, [Buffer.from('6')])")), /ENOSPC/);
  assert.match(String(await process.do("fs.openSync('new', 'w')")), /ENOSPC/);
  assert.match(String(await process.do("fs.mkdirSync('folder')")), /ENOSPC/);
  assert.match(String(await process.do("fs.renameSync('file', 'other')")), /ENOSPC/);
  assert.match(String(await process.do("fs.ftruncateSync(open.file, 100)")), /ENOSPC/);
  shim.set({});
  assert.equal(await process.do("return fs.writeSync(open.file, '678')"), 3);
  assert.equal(readFileSync(at("file"), "utf8"), "12345678");
});

test("a broken disk says EIO to writes and syncs, and what failed to sync is not safe", async (t) => {
  const { shim, process, at } = openShim(t);
  await process.do("open.file = fs.openSync('file', 'a'); fs.writeSync(open.file, 'a')");
  shim.set({ fault: "io" });
  assert.match(String(await process.do("fs.writeSync(open.file, 'b')")), /EIO/);
  assert.match(String(await process.do("fs.fdatasyncSync(open.file)")), /EIO/);
  await process.kill();
  shim.cutPower(everything);
  assert.equal(statSync(at("file")).size, 0);
});

test("a disk that is read-only says EROFS to all that changes something, and reads", async (t) => {
  const { shim, process } = openShim(t);
  await process.do("fs.writeFileSync('file', 'text'); open.file = fs.openSync('file', 'a')");
  shim.set({ fault: "readonly" });
  for (const line of [
    "fs.writeSync(open.file, 'b')",
    "fs.openSync('file', 'a')",
    "fs.mkdirSync('folder')",
    "fs.unlinkSync('file')",
    "fs.renameSync('file', 'other')",
    "fs.truncateSync('file')",
  ]) {
    assert.match(String(await process.do(line)), /EROFS/, line);
  }
  assert.equal(await process.do("return fs.readFileSync('file', 'utf8')"), "text");
});

test("a slow disk syncs late, and is quick as soon as it is made quick", async (t) => {
  const { shim, process } = openShim(t);
  await process.do("open.file = fs.openSync('file', 'a'); fs.writeSync(open.file, 'a')");
  const timed = `const from = performance.now(); fs.fdatasyncSync(open.file);
    return performance.now() - from`;
  shim.set({ slowMs: 200 });
  assert.ok(Number(await process.do(timed)) >= 200);
  shim.set({ slowMs: 600_000 });
  const long = process.do(timed);
  shim.set({});
  await long;
});

test("what lies beside the folder is left alone", async (t) => {
  const { shim, process } = openShim(t);
  const beside = `${shim.folder}-beside`;
  mkdirSync(beside);
  shim.set({ fault: "readonly" });
  assert.equal(await process.do(`fs.writeFileSync('${beside}/file', 'text')`), "done");
});

test("an overwrite, which a cut is not modelled for, ends the process", async (t) => {
  const { process } = openShim(t);
  await process.do("fs.writeFileSync('file', 'text')");
  void process.do("fs.writeSync(fs.openSync('file', 'r+'), 'b', 0)");
  assert.equal(await process.died(), "SIGABRT");
});

test("one seed cuts in one way", async (t) => {
  const cuts = [];
  for (let turn = 0; turn < 2; turn += 1) {
    const { shim, process, at } = openShim(t);
    for (const name of ["a", "b", "c"]) {
      await process.do(`fs.writeFileSync('${name}', '0123456789')`);
    }
    await process.kill();
    const random = new Random(7);
    shim.cutPower((below) => random.int(below));
    cuts.push(["a", "b", "c"].map((name) => statSync(at(name)).size));
  }
  assert.deepEqual(cuts[0], cuts[1]);
});

// node-watch.test: what waiting for a device node promises.
// Path: test. Touches: a temporary folder.

import assert from "node:assert/strict";
import { closeSync, mkdirSync, openSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { appears, isThere } from "../../../firmware-bridge/links/node-watch.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";

/** No look by the clock within a test: only the kernel can tell. */
const NEVER_MS = 600_000;

function watching(t: TestContext, path: string, rescanMs = NEVER_MS) {
  const stop = new AbortController();
  let seen = false;
  const ended = appears(path, rescanMs, stop.signal).then(() => {
    seen = true;
  });
  t.after(() => stop.abort());
  return { seen: () => seen, ended, stop };
}

/** Long enough for the watch to stand, and to wrongly end. */
const settle = () => sleep(150);

test("knows a path behind symbolic links, and one whose target is gone", async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, "node"), "");
  symlinkSync("node", join(folder, "good"));
  symlinkSync("nowhere", join(folder, "dangling"));
  symlinkSync("loop", join(folder, "loop"));
  const expected = { good: true, dangling: false, loop: false, "node/below": false };
  for (const [path, there] of Object.entries(expected)) {
    assert.equal(await isThere(join(folder, path)), there, path);
  }
});

test("returns at once for what is there", async (t) => {
  await watching(t, temporaryFolder(t)).ended;
});

test("sees a node appear in its folder, and nothing else", async (t) => {
  const folder = temporaryFolder(t);
  const watch = watching(t, join(folder, "node"));
  await settle();
  writeFileSync(join(folder, "other"), "");
  await settle();
  assert.equal(watch.seen(), false);
  writeFileSync(join(folder, "node"), "");
  await waitFor("the node to be seen", watch.seen, 1_000);
});

test("sees a node whose folders appear one after the other", async (t) => {
  const folder = temporaryFolder(t);
  const watch = watching(t, join(folder, "serial", "by-id", "node"));
  for (const path of ["serial", "serial/by-id"]) {
    await settle();
    mkdirSync(join(folder, path));
  }
  await settle();
  assert.equal(watch.seen(), false);
  writeFileSync(join(folder, "serial", "by-id", "node"), "");
  await waitFor("the node to be seen", watch.seen, 1_000);
});

test("sees a node whatever it is doing when the folders and the node appear", async (t) => {
  const folder = temporaryFolder(t);
  const turns = Array.from({ length: 200 }, async (_, turn) => {
    const path = join(folder, String(turn), "by-id", "node");
    const watch = watching(t, path);
    const pause = async (ticks: number) => {
      for (let tick = 0; tick < ticks; tick += 1) await new Promise(setImmediate);
    };
    // Each turn interleaves in another way.
    await pause(turn % 20);
    mkdirSync(join(path, ".."), { recursive: true });
    await pause(turn / 20);
    writeFileSync(path, "");
    await waitFor(`node ${turn} to be seen`, watch.seen, 5_000);
  });
  await Promise.all(turns);
});

test("sees a node whose folder went away meanwhile", async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "serial", "by-id"), { recursive: true });
  const watch = watching(t, join(folder, "serial", "by-id", "node"));
  await settle();
  rmSync(join(folder, "serial"), { recursive: true });
  await settle();
  mkdirSync(join(folder, "serial", "by-id"), { recursive: true });
  writeFileSync(join(folder, "serial", "by-id", "node"), "");
  await waitFor("the node to be seen", watch.seen, 1_000);
});

test("sees the target of a symbolic link appear elsewhere", async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "elsewhere"));
  symlinkSync("elsewhere/node", join(folder, "link"));
  const watch = watching(t, join(folder, "link"));
  await settle();
  writeFileSync(join(folder, "elsewhere", "node"), "");
  await waitFor("the node to be seen", watch.seen, 1_000);
});

test("looks by the clock as well, where the kernel tells nothing", async (t) => {
  // procfs tells no watcher anything. The highest of many files is one that nobody else opens.
  const open = () => Array.from({ length: 50 }, () => openSync("/dev/null", "r"));
  const close = (files: readonly number[]) => files.forEach((file) => void closeSync(file));
  const files = open();
  close(files);
  const watch = watching(t, `/proc/self/fd/${Math.max(...files)}`, 20);
  await settle();
  assert.equal(watch.seen(), false);
  const again = open();
  t.after(() => close(again));
  await waitFor("the file to be seen", watch.seen, 1_000);
});

test("ends when it is called off", async (t) => {
  const watch = watching(t, join(temporaryFolder(t), "node"));
  await settle();
  watch.stop.abort();
  await watch.ended;
});

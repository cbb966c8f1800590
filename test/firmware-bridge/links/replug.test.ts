// replug.test: what a port promises that is unplugged and plugged in again and again at full flow.
// Path: test. Touches: pseudo-terminals, a temporary folder.

import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { LinesCodec } from "../../../firmware-bridge/drivers/lines/lines.ts";
import { StreamDriver } from "../../../firmware-bridge/drivers/stream-driver.ts";
import { Pty } from "../../support/pty.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fakeHost } from "../fake-host.ts";
import { linesSettings } from "../link-settings.ts";
import { supervised } from "./supervised.ts";

const TURNS = 200;
const WARM_UP_TURNS = 20;

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");
const HEAP_BYTES_MAX = 2 * 1024 * 1024;

/** Says numbered lines as fast as the port takes them, until it is unplugged. */
function flood(pty: Pty, turn: number): () => void {
  let said = 0;
  const timer = setInterval(() => {
    for (let count = 0; count < 20; count += 1) pty.write(`${turn} ${said++} ${"x".repeat(30)}\n`);
  }, 1);
  return () => clearInterval(timer);
}

function held(): { readonly files: number; readonly resources: number } {
  const resources = process.getActiveResourcesInfo().filter((it) => it !== "CloseReq");
  return { files: readdirSync("/proc/self/fd").length, resources: resources.length };
}

/** One link through so many turns, and its end; gives what it heard. */
async function linkThrough(t: TestContext, path: string, turns: number): Promise<string[]> {
  const host = fakeHost();
  // Nothing of a turn is kept until the test's end, or the test itself would leak.
  const ends: (() => unknown)[] = [];
  t.after(() => Promise.all(ends.map((end) => end())));
  const limits = { retryMsLeast: 5, retryMsMost: 10 };
  const link = supervised(t, { path }, { limits });
  const driver = new StreamDriver(() => new LinesCodec(linesSettings()), host);
  link.driver.run = (port) => driver.run(port);
  const { messages } = host.known("box");
  for (let turn = 0; turn < turns; turn += 1) {
    const pty = await Pty.open({ after: (end) => void ends.push(end as () => unknown) });
    await pty.linkAs(path);
    await link.is("up");
    const stop = flood(pty, turn);
    ends.push(stop);
    const heard = messages.length;
    await waitFor(`lines of turn ${turn}`, () => messages.length > heard + 50);
    // The next terminal may get the same number, and must not be opened before it is ready.
    rmSync(path);
    await pty.unplug();
    for (const end of ends.splice(0)) await end();
    await waitFor("the end", () => link.supervisor.mode !== "up", 200);
  }
  await link.supervisor.stop();
  const { opens, disconnects } = link.supervisor.counts;
  assert.deepEqual({ opens, disconnects }, { opens: turns, disconnects: turns });
  assert.deepEqual(host.faults, []);
  // So that what was heard is not kept until the test's end.
  return messages.splice(0).map(({ payload }) => Buffer.from(payload).toString());
}

test(`loses no line that came whole, and leaks nothing, in ${TURNS} times unplugged`, async (t) => {
  const path = join(temporaryFolder(t), "port");
  await linkThrough(t, path, WARM_UP_TURNS);
  collectGarbage();
  const before = held();
  const heapBefore = process.memoryUsage().heapUsed;
  assertInOrder(await linkThrough(t, path, TURNS));
  await waitFor("all to be let go", () => {
    const { files, resources } = held();
    return files <= before.files && resources <= before.resources;
  });
  collectGarbage();
  const grown = process.memoryUsage().heapUsed - heapBefore;
  assert.ok(grown < HEAP_BYTES_MAX, `the heap grew by ${grown} bytes`);
});

/** Of each turn all lines from the first one on, up to the unplugging. */
function assertInOrder(lines: readonly string[]): void {
  let expected = { turn: -1, line: 0 };
  for (const text of lines) {
    const [turn = 0, line = 0] = text.split(" ").map(Number);
    if (turn !== expected.turn) expected = { turn, line: 0 };
    assert.equal(`${turn} ${line}`, `${expected.turn} ${expected.line}`);
    expected.line += 1;
  }
}

// links.test: what the supervisor of a link promises, on real pseudo-terminals.
// Path: test. Touches: pseudo-terminals, a temporary folder.

import assert from "node:assert/strict";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openPort } from "../../../firmware-bridge/links/port.ts";
import { Pty } from "../../support/pty.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { linkSettings } from "../link-settings.ts";
import { supervised } from "./supervised.ts";

async function plugged(t: TestContext) {
  const path = join(temporaryFolder(t), "port");
  const pty = await Pty.open(t);
  await pty.linkAs(path);
  return { path, pty };
}

test("follows a port that is plugged in, out and in again", async (t) => {
  const path = join(temporaryFolder(t), "by-id", "port");
  const link = supervised(t, { path });
  await link.is("absent");
  mkdirSync(join(path, ".."));
  for (const turn of [1, 2, 3]) {
    const pty = await Pty.open(t);
    await pty.linkAs(path);
    await link.is("up", 1_000);
    pty.write(`turn ${turn};`);
    await waitFor("the driver to hear", () => link.heard.join("").endsWith(`turn ${turn};`));
    rmSync(path);
    await pty.unplug();
    await link.is("absent", 1_000);
  }
  assert.equal(link.heard.join(""), "turn 1;turn 2;turn 3;");
});

test("says at once that the port is gone, and why", async (t) => {
  const { path, pty } = await plugged(t);
  const link = supervised(t, { path });
  await link.is("up");
  const unpluggedMs = performance.now();
  await pty.unplug();
  const change = await waitFor("the change", () =>
    link.changes.find((it) => it.mode === "failing"),
  );
  assert.ok(change.atMs - unpluggedMs < 500);
  assert.match(change.why, /^unplugged$/);
});

test("opens the port again only when the driver has handed on what was read", async (t) => {
  const { path, pty } = await plugged(t);
  const handedOn = Promise.withResolvers<void>();
  const link = supervised(t, { path });
  let busy = false;
  link.driver.run = async (port) => {
    for await (const _ of port.readable) {
      busy = true;
      await handedOn.promise;
    }
  };
  await link.is("up");
  pty.write("x");
  await waitFor("the driver to be busy", () => busy);
  await pty.unplug();
  await link.is("failing");
  await (await Pty.open(t)).linkAs(path);
  assert.equal(link.changes.at(-1)?.mode, "failing");
  handedOn.resolve();
  await link.is("up");
});

test("waits for a port that somebody else holds, and says so once", async (t) => {
  const { path, pty } = await plugged(t);
  const holder = await openPort(linkSettings({ path: pty.path }));
  t.after(() => holder.close("test over"));
  const link = supervised(t, { path }, { limits: { retryMsLeast: 10, retryMsMost: 20 } });
  const tries = () => link.changes.filter(({ mode }) => mode === "opening").length;
  await waitFor("four tries", () => tries() >= 4);
  assert.equal(link.captured.count("warn", "link mode"), 1);
  assert.match(
    String(link.captured.lines.find(({ level }) => level === "warn")?.why),
    /is held by/,
  );
  await holder.close("released");
  await link.is("up");
});

test("waits longer after each failure, up to a bound", async (t) => {
  const link = supervised(
    t,
    { path: "/dev/null" },
    { limits: { retryMsLeast: 20, retryMsMost: 80 } },
  );
  const tries = () => link.changes.filter(({ mode }) => mode === "opening");
  await waitFor("six tries", () => tries().length >= 6);
  const gaps = tries().map(({ atMs }, index, all) => atMs - (all[index - 1]?.atMs ?? atMs));
  for (const [index, leastMs] of [0, 10, 20, 40, 40, 40].entries()) {
    // Timers may be a millisecond early.
    assert.ok((gaps[index] ?? 0) >= leastMs - 1, `gap ${index} is ${gaps[index]} ms`);
  }
});

test("begins with the shortest wait again after a link that was healthy", async (t) => {
  const { path } = await plugged(t);
  const limits = { retryMsLeast: 10, retryMsMost: 600_000, healthyMs: 0 };
  const link = supervised(t, { path }, { limits });
  link.driver.run = async () => {};
  const ups = () => link.changes.filter(({ mode }) => mode === "up").length;
  // The twentieth wait in a row would be an hour.
  await waitFor("twenty times up", () => ups() >= 20);
});

test("stops from every mode, and lets the port go", async (t) => {
  const { path, pty } = await plugged(t);
  const up = supervised(t, { path });
  await up.is("up");
  const failing = supervised(
    t,
    { path: "/dev/null" },
    { limits: { retryMsLeast: 600_000, retryMsMost: 600_000 } },
  );
  await failing.is("failing");
  const absent = supervised(t, { path: join(path, "..", "absent") });
  await absent.is("absent");
  await Promise.all([up, failing, absent].map(({ supervisor }) => supervisor.stop()));
  for (const { supervisor } of [up, failing, absent]) assert.equal(supervisor.mode, "stopped");
  const next = await openPort(linkSettings({ path: pty.path }));
  await next.close("test over");
});

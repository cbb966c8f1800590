// lend.test: what lending a port to a programmer promises, on real pseudo-terminals.
// Path: test. Touches: pseudo-terminals, child processes, a temporary folder.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { SluiceError } from "#contract/errors";
import { openPort } from "../../../firmware-bridge/links/port.ts";
import { Pty } from "../../support/pty.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { linkSettings } from "../link-settings.ts";
import { supervised } from "./supervised.ts";

/** Answers each line that it reads from the terminal, as a programmer talks with a board. */
const PROGRAMMER = `
  exec 3<>"$1"; stty -F "$1" 9600 raw -echo
  for turn in $(seq "$2"); do read -r line <&3 || exit 1; echo "got $line" >&3; done`;

async function up(t: TestContext) {
  const path = join(temporaryFolder(t), "port");
  const pty = await Pty.open(t);
  await pty.linkAs(path);
  const link = supervised(t, { path });
  await link.is("up");
  return { path, pty, link };
}

const failure = (message: string) => new SluiceError("USAGE", message);

test("leaves every byte to the program that has the port, and reads again after it", async (t) => {
  const { path, pty, link } = await up(t);
  pty.write("before;");
  await link.hears("before;");
  const turns = 200;
  const code = await link.supervisor.lend(async (node) => {
    assert.equal(node, path);
    const child = spawn("sh", ["-c", PROGRAMMER, "sh", node, String(turns)], { stdio: "inherit" });
    t.after(() => child.kill("SIGKILL"));
    const exited = once(child, "exit");
    for (let turn = 0; turn < turns; turn += 1) {
      pty.write(`${turn}\n`);
      await pty.hears(Array.from({ length: turn + 1 }, (_, index) => `got ${index}\n`).join(""));
    }
    return (await exited)[0];
  });
  assert.equal(code, 0);
  await link.is("up");
  pty.write("after;");
  await link.hears("after;");
  assert.equal(link.heard.join(""), "before;after;");
  const speed = execFileSync("stty", ["-F", pty.path, "speed"], { encoding: "utf8" });
  assert.equal(speed.trim(), "115200");
});

test("holds the lock while the port is lent, and says in which mode it is", async (t) => {
  const { pty, link } = await up(t);
  await link.supervisor.lend(async () => {
    assert.equal(link.supervisor.mode, "lent");
    assert.match(link.supervisor.why, /port is lent: /);
    const other = openPort(linkSettings({ path: pty.path }));
    await assert.rejects(other, /is held by another link of this process/);
    const again = link.supervisor.lend(async () => {});
    await assert.rejects(again, { code: "LINK_FAILED", message: /it is lent already/ });
  });
  const modes = link.changes.map(({ mode }) => mode);
  assert.deepEqual(modes.slice(0, 3), ["opening", "up", "lent"]);
  await link.is("up");
});

test("lets the driver hand on what was read before the port is lent", async (t) => {
  const { pty, link } = await up(t);
  const handedOn = Promise.withResolvers<void>();
  let ended = false;
  link.driver.run = async (port) => {
    for await (const _ of port.readable) await handedOn.promise;
    ended = true;
  };
  // Runs the new one.
  await link.supervisor.lend(async () => {});
  await link.is("up");
  pty.write("x");
  await waitFor("the driver to have read", () => link.supervisor.counts.bytesIn > 0);
  const lent = link.supervisor.lend(async () => ended);
  handedOn.resolve();
  assert.equal(await lent, true);
});

test("gives up lending when the driver does not let go, and takes the port back", async (t) => {
  const path = join(temporaryFolder(t), "port");
  const pty = await Pty.open(t);
  await pty.linkAs(path);
  const link = supervised(t, { path }, { limits: { handOnMsMax: 50, retryMsLeast: 10 } });
  const handedOn = Promise.withResolvers<void>();
  const { run } = link.driver;
  link.driver.run = () => handedOn.promise;
  await link.is("up");
  const lent = link.supervisor.lend(async () => {});
  await assert.rejects(lent, { code: "LINK_FAILED", message: /its driver is still handing on/ });
  link.driver.run = run;
  handedOn.resolve();
  await waitFor("the link to be opened anew", () => link.supervisor.counts.opens === 2);
  pty.write("back;");
  await link.hears("back;");
});

test("stays failing with the programmer's words until it is lent again", async (t) => {
  const { pty, link } = await up(t);
  const failed = link.supervisor.lend(() => Promise.reject(failure("avrdude: no answer")));
  await assert.rejects(failed, /avrdude: no answer/);
  await link.is("failing");
  assert.equal(link.supervisor.why, "avrdude: no answer");
  const other = openPort(linkSettings({ path: pty.path }));
  await assert.rejects(other, /is held by another link of this process/);
  assert.equal(await link.supervisor.lend(async () => "flashed"), "flashed");
  await link.is("up");
});

test("stays failing with the programmer's words until it is unplugged", async (t) => {
  const { path, pty, link } = await up(t);
  await link.supervisor.lend(() => Promise.reject(failure("no answer"))).catch(() => {});
  await link.is("failing");
  await pty.unplug();
  await waitFor("the link to look again", () => link.supervisor.why !== "no answer", 1_000);
  await (await Pty.open(t)).linkAs(path);
  await link.is("up");
});

test("lends a port whose driver has failed", async (t) => {
  const path = join(temporaryFolder(t), "port");
  const pty = await Pty.open(t);
  await pty.linkAs(path);
  const link = supervised(t, { path }, { limits: { retryMsLeast: 600_000, retryMsMost: 600_000 } });
  link.driver.run = () => Promise.reject(failure("the board does not answer"));
  await link.is("failing");
  assert.equal(await link.supervisor.lend(async (node) => node), path);
});

test("refuses to lend what is absent, held by a program, stopped, or no serial port", async (t) => {
  const refused = (link: ReturnType<typeof supervised>, message: RegExp) =>
    assert.rejects(
      link.supervisor.lend(async () => assert.fail("it was lent")),
      { code: "LINK_FAILED", message },
    );
  const absent = supervised(t, { path: join(temporaryFolder(t), "absent") });
  await absent.is("absent");
  await refused(absent, /absent cannot be lent: .*absent is not there$/);
  const { path, link } = await up(t);
  const other = supervised(
    t,
    { path },
    { limits: { retryMsLeast: 600_000, retryMsMost: 600_000 } },
  );
  await other.is("failing");
  await refused(other, /cannot be lent: .* is held by another link of this process$/);
  await link.supervisor.stop();
  await refused(link, /cannot be lent: it is stopped$/);
  const server = createServer().listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const tcp = supervised(t, { address: `tcp://127.0.0.1:${port}`, name: "x" });
  await refused(tcp, /cannot be lent: it is no serial port$/);
});

test("stops while the port is lent, without waiting for the programmer", async (t) => {
  const { link } = await up(t);
  const flashed = Promise.withResolvers<void>();
  const lent = link.supervisor.lend(() => flashed.promise);
  await link.is("lent");
  await link.supervisor.stop();
  assert.equal(link.supervisor.mode, "stopped");
  flashed.resolve();
  await lent;
});

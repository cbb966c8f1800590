// port.test: what an open serial port promises, on real pseudo-terminals.
// Path: test. Touches: pseudo-terminals.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { newCounts } from "../../../firmware-bridge/links/open-port.ts";
import { openPort, PORT_LIMITS, type SerialPort } from "../../../firmware-bridge/links/port.ts";
import { Pty } from "../../support/pty.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { linkSettings } from "../link-settings.ts";

async function open(t: TestContext, path: string): Promise<SerialPort> {
  const port = await openPort(linkSettings({ path }));
  t.after(() => port.close("test over"));
  return port;
}

async function readAll(port: SerialPort): Promise<string> {
  let text = "";
  for await (const chunk of port.readable) text += Buffer.from(chunk.bytes).toString("latin1");
  return text;
}

function refusal(path: string): Promise<unknown> {
  return openPort(linkSettings({ path })).then(
    () => assert.fail(`${path} was opened`),
    (fault: unknown) => fault,
  );
}

test("carries every byte value, both ways", async (t) => {
  const pty = await Pty.open(t);
  const port = await open(t, pty.path);
  const all = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
  await port.write(all);
  await pty.hears(all.toString("latin1"));
  pty.write(all);
  let read = Buffer.alloc(0);
  for await (const chunk of port.readable) {
    read = Buffer.concat([read, chunk.bytes]);
    if (read.length >= all.length) break;
  }
  assert.deepEqual(read, all);
});

test("keeps the order of writes that overlap", async (t) => {
  const pty = await Pty.open(t);
  const port = await open(t, pty.path);
  const words = Array.from({ length: 50 }, (_, index) => `${index}\n`);
  await Promise.all(words.map((word) => port.write(Buffer.from(word))));
  await pty.hears(words.join(""));
});

// serialport alone misses about one hang-up in six while data flows, and spins on a core from then.
test("notices every one of 40 hang-ups while data flows", async (t) => {
  for (let turn = 0; turn < 40; turn += 1) {
    const pty = await Pty.open(t);
    const port = await open(t, pty.path);
    let chunks = 0;
    const ended = (async () => {
      for await (const _ of port.readable) chunks += 1;
    })();
    const flood = setInterval(() => pty.write("x".repeat(500)), 0);
    await waitFor("data to flow", () => chunks > 2);
    await pty.unplug();
    clearInterval(flood);
    let reason = "";
    void port.closed.then((why) => {
      reason = why;
    });
    await waitFor(`hang-up ${turn + 1} to be noticed`, () => reason !== "", 200);
    await ended;
  }
});

test("hands on what was read before the hang-up", async (t) => {
  const pty = await Pty.open(t);
  const port = await open(t, pty.path);
  const chunks = port.readable[Symbol.asyncIterator]();
  pty.write("first;");
  const first = await chunks.next();
  assert.equal(Buffer.from(first.value?.bytes ?? "").toString(), "first;");
  // The port reads ahead of whoever does not ask.
  pty.write("second;");
  await waitFor("the port to read ahead", () => readAhead(port) === 1);
  await pty.unplug();
  await port.closed;
  const second = await chunks.next();
  assert.equal(Buffer.from(second.value?.bytes ?? "").toString(), "second;");
  assert.equal((await chunks.next()).done, true);
});

test("ends the reading and refuses to write once it is closed", async (t) => {
  const pty = await Pty.open(t);
  const port = await open(t, pty.path);
  const all = readAll(port);
  await port.close("enough");
  assert.equal(await port.closed, "enough");
  assert.equal(await all, "");
  await assert.rejects(port.write(Buffer.from("x")), { code: "LINK_FAILED", message: /is closed/ });
});

test("notices the hang-up also while nobody asks for what was read", async (t) => {
  const pty = await Pty.open(t);
  const port = await open(t, pty.path);
  port.readable.read(0);
  pty.write("x".repeat(100_000));
  await waitFor(
    "the port to have read ahead",
    () => readAhead(port) >= PORT_LIMITS.readAheadChunksMax,
  );
  await pty.unplug();
  let reason = "";
  void port.closed.then((why) => {
    reason = why;
  });
  await waitFor("the hang-up to be noticed", () => reason === "unplugged", 200);
});

test("hands on what is too much for once in pieces, with a turn for others between", async (t) => {
  const pty = await Pty.open(t);
  const port = await open(t, pty.path);
  pty.write("x".repeat(20_000));
  let bytes = 0;
  let turns = 0;
  const others = setInterval(() => {
    turns += 1;
  }, 1);
  t.after(() => clearInterval(others));
  for await (const chunk of port.readable) {
    assert.ok(chunk.bytes.length <= PORT_LIMITS.readBytesMax);
    bytes += chunk.bytes.length;
    const endMs = performance.now() + 2;
    while (performance.now() < endMs); // a driver that is slow
    if (bytes === 20_000) break;
  }
  assert.ok(turns >= 10, `${turns} turns`);
});

test("reads a port that flows a hundred times a second, and one that was idle at once", async (t) => {
  const pty = await Pty.open(t);
  const counts = newCounts();
  const port = await openPort(linkSettings({ path: pty.path }), { counts });
  t.after(() => port.close("test over"));
  void readAll(port);
  const flow = setInterval(() => pty.write("x".repeat(10)), 1);
  t.after(() => clearInterval(flow));
  await waitFor("the bytes to flow", () => counts.chunks > 20);
  const { chunks } = counts;
  const startedMs = performance.now();
  await sleep(500);
  const perSecond = ((counts.chunks - chunks) * 1_000) / (performance.now() - startedMs);
  assert.ok(perSecond < 200, `${perSecond} reads a second`);
  clearInterval(flow);
  assert.ok(counts.bytesIn > 0 && (counts.lastHeardAtMs ?? 0) > Date.now() - 5_000);
});

test("counts how long nothing was read for a driver that was busy", async (t) => {
  const pty = await Pty.open(t);
  const counts = newCounts();
  const port = await openPort(linkSettings({ path: pty.path }), { counts });
  t.after(() => port.close("test over"));
  port.readable.read(0);
  pty.write("x".repeat(100_000));
  await waitFor("the read-ahead", () => readAhead(port) >= PORT_LIMITS.readAheadChunksMax);
  await sleep(100);
  for await (const _ of port.readable) if (counts.heldBackMs > 0) break;
  assert.ok(counts.heldBackMs >= 90, `${counts.heldBackMs} ms`);
});

test("can be opened again once it is closed", async (t) => {
  const pty = await Pty.open(t);
  const first = await open(t, pty.path);
  await first.close("test");
  const second = await open(t, pty.path);
  await second.write(Buffer.from("again"));
  await pty.hears("again");
});

test("fails a write that the device does not take, at once while that lasts", async (t) => {
  const { pty, port, fault } = await stalled(t);
  assert.match(fault.message, /has not taken the bytes within \d+ ms; it may yet$/);
  const refused = { code: "LINK_FAILED", message: /an earlier write is still under way/ };
  await assert.rejects(port.write(Buffer.from("refused")), refused);
  pty.resume();
  await waitFor("the port to take bytes again", () => isTaken(port, "again"));
  await waitFor("the device to hear them", () => /^\.+again$/.test(pty.received.toString()));
});

test("goes on reading while the device takes nothing, and writing when it speaks", async (t) => {
  const { pty, heard } = await stalled(t);
  pty.write("alive");
  await waitFor("the device to be heard", () => heard() === "alive");
  pty.resume();
  await waitFor("the late bytes", () => pty.received.toString().endsWith("."));
});

// serialport alone takes a whole core from here on.
test("rests while nobody asks for what the device says, also when a write was late", async (t) => {
  const { pty, port, pause } = await stalled(t);
  pause();
  pty.resume();
  await waitFor("the port to take bytes again", () => isTaken(port, "again"));
  for (let turn = 0; turn < 30; turn += 1) pty.write("x".repeat(1_000));
  await waitFor(
    "the port to have read ahead",
    () => readAhead(port) >= PORT_LIMITS.readAheadChunksMax,
  );
  const before = process.cpuUsage();
  await sleep(300);
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 150_000, `${user + system} µs of 300 ms`);
});

function readAhead(port: SerialPort): number {
  return port.readable.readableLength;
}

/** A port that is being read, and on which a write is late. */
async function stalled(t: TestContext) {
  const pty = await Pty.open(t);
  const port = await openPort(linkSettings({ path: pty.path }), { writeMsMax: 50 });
  t.after(() => port.close("test over"));
  let heard = "";
  let asking = true;
  void (async () => {
    const chunks = port.readable[Symbol.asyncIterator]();
    while (asking) {
      const { done, value } = await chunks.next();
      if (done) return;
      heard += Buffer.from(value.bytes).toString();
    }
  })();
  pty.stall();
  const fault = await waitFor("the device to take nothing", () => writeFault(port, "."));
  const pause = () => {
    asking = false;
  };
  return { pty, port, fault, pause, heard: () => heard };
}

function writeFault(port: SerialPort, text: string): Promise<Error | undefined> {
  return port.write(Buffer.from(text)).then(
    () => undefined,
    (fault: Error) => fault,
  );
}

async function isTaken(port: SerialPort, text: string): Promise<boolean> {
  return (await writeFault(port, text)) === undefined;
}

test("names the program that holds the port", async (t) => {
  const pty = await Pty.open(t);
  const holder = spawn("flock", ["--exclusive", pty.path, "cat"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  t.after(async () => {
    holder.stdin.end();
    await once(holder, "close");
  });
  holder.stdin.write("locked");
  await once(holder.stdout, "data");
  const fault = (await refusal(pty.path)) as Error;
  assert.match(fault.message, new RegExp(`^${pty.path} is held by (?:flock|cat) \\(pid \\d+\\)$`));
});

test("says that another link of its own holds the port", async (t) => {
  const pty = await Pty.open(t);
  await open(t, pty.path);
  const path = join(temporaryFolder(t), "other-name");
  await pty.linkAs(path);
  const fault = (await refusal(path)) as Error;
  assert.equal(fault.message, `${path} is held by another link of this process`);
});

test("refuses in one line what is no serial port", async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, "file"), "");
  mkdirSync(join(folder, "folder"));
  for (const path of ["/dev/null", join(folder, "file"), join(folder, "folder")]) {
    assert.deepEqual(describe(await refusal(path)), `LINK_FAILED: ${path} is not a serial port`);
  }
  const absent = join(folder, "absent");
  assert.match(
    describe(await refusal(absent)),
    /^LINK_FAILED: .*no such file or directory.*absent'?$/,
  );
});

test("leaves no file open after a refusal", async () => {
  const before = readdirSync("/proc/self/fd").length;
  for (let turn = 0; turn < 20; turn += 1) await refusal("/dev/null");
  assert.ok(readdirSync("/proc/self/fd").length <= before + 1);
});

function describe(fault: unknown): string {
  const { code, message } = fault as Error & { code: string };
  return `${code}: ${message}`;
}

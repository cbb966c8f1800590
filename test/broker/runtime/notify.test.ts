// notify.test: what systemd hears of us, at a real datagram socket.
// Path: test. Touches: a temporary folder, socat.

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openNotify, watchdogPeriodMs } from "#runtime/notify";
import { temporaryFolder } from "./temporary-folder.ts";

const skip = spawnSync("socat", ["-V"]).error ? "socat is not installed" : false;
const WAIT_MS_MAX = 10_000;

/** A receiver in systemd's place; each datagram is read by itself. */
class Receiver {
  readonly path: string;
  readonly process: ChildProcess;
  #heard = "";

  /** At a path of its own, or at an abstract name (unix(7)). */
  constructor(t: TestContext, abstractName?: string) {
    const path = join(temporaryFolder(t), "notify");
    this.path = abstractName ? `@${abstractName}` : path;
    const receive = abstractName ? `ABSTRACT-RECV:${abstractName}` : `UNIX-RECV:${path}`;
    this.process = spawn("socat", ["-u", receive, "STDOUT"]);
    this.process.stdout?.on("data", (chunk) => {
      this.#heard += chunk;
    });
    t.after(() => this.process.kill("SIGKILL"));
  }

  async opened(): Promise<void> {
    await until(() => readFileSync("/proc/net/unix", "utf8").includes(` ${this.path}\n`));
  }

  /** All that was heard once `isEnough` says that it is. */
  async heard(isEnough: (heard: string) => boolean): Promise<string> {
    await until(
      () => isEnough(this.#heard),
      () => this.#heard,
    );
    return this.#heard;
  }
}

async function until(isTrue: () => boolean, shown: () => string = () => ""): Promise<void> {
  const end = Date.now() + WAIT_MS_MAX;
  while (!isTrue()) {
    if (Date.now() > end) assert.fail(`waited ${WAIT_MS_MAX} ms in vain; heard ${shown()}`);
    await sleep(5);
  }
}

test("tells systemd that the service is ready, what it does and that it stops", {
  skip,
}, async (t) => {
  const receiver = new Receiver(t);
  await receiver.opened();
  const notify = await openNotify(() => true, { NOTIFY_SOCKET: receiver.path });
  notify.ready();
  notify.status("zwölf Geräte");
  notify.stopping();
  notify.close();
  const heard = await receiver.heard((text) => text.includes("STOPPING=1"));
  assert.equal(heard, "READY=1STATUS=zwölf GeräteSTOPPING=1");
});

test("keeps a status on one line, so that it cannot pass for another message", {
  skip,
}, async (t) => {
  const receiver = new Receiver(t);
  await receiver.opened();
  const notify = await openNotify(() => true, { NOTIFY_SOCKET: receiver.path });
  notify.status("first\nREADY=1");
  assert.equal(await receiver.heard((text) => text.length > 0), "STATUS=first READY=1");
  notify.close();
});

test("feeds the watchdog only while the service is alive", { skip }, async (t) => {
  const receiver = new Receiver(t);
  await receiver.opened();
  let asked = 0;
  // Alive for three questions, and never again.
  const isAlive = () => ++asked <= 3;
  const env = { NOTIFY_SOCKET: receiver.path, WATCHDOG_USEC: "20000" };
  const notify = await openNotify(isAlive, env);
  await until(() => asked >= 10);
  notify.close();
  const heard = await receiver.heard((text) => text.length >= 30);
  assert.equal(heard, "WATCHDOG=1".repeat(3));
});

test("waits without work for a systemd that is busy, and then tells what is newest", {
  skip,
}, async (t) => {
  const receiver = new Receiver(t);
  await receiver.opened();
  receiver.process.kill("SIGSTOP");
  const notify = await openNotify(() => true, { NOTIFY_SOCKET: receiver.path });
  // More than a socket holds (net.unix.max_dgram_qlen).
  for (let index = 0; index < 2_000; index += 1) notify.status(`${index}`);
  notify.ready();
  const before = process.cpuUsage();
  await sleep(300);
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 200_000, `${user + system} µs of CPU in 300 ms of waiting`);
  receiver.process.kill("SIGCONT");
  const heard = await receiver.heard((text) => text.includes("READY=1"));
  assert.match(heard, /STATUS=1999READY=1$/);
  notify.close();
});

test("goes on when systemd is not there", async (t) => {
  const path = join(temporaryFolder(t), "gone");
  const notify = await openNotify(() => true, { NOTIFY_SOCKET: path, WATCHDOG_USEC: "2000" });
  notify.ready();
  notify.close();
});

test("is silent where systemd did not start it", async () => {
  const notify = await openNotify(() => assert.fail("asked"), { WATCHDOG_USEC: "2000" });
  notify.ready();
  notify.status("x");
  notify.stopping();
  notify.close();
});

test("refuses an address that it cannot reach, in one line", async () => {
  for (const path of ["vsock:2:1234", "run/notify"]) {
    await assert.rejects(
      openNotify(() => true, { NOTIFY_SOCKET: path }),
      {
        code: "USAGE",
        message:
          `NOTIFY_SOCKET=${path} cannot be used: ` +
          "allowed is the path of a unix socket, or @ and its abstract name",
      },
    );
  }
});

test("reaches a socket by its abstract name", { skip }, async (t) => {
  const receiver = new Receiver(t, `sluice-test-${process.pid}-${Date.now()}`);
  await receiver.opened();
  const notify = await openNotify(() => true, { NOTIFY_SOCKET: receiver.path });
  notify.ready();
  notify.close();
  assert.equal(await receiver.heard((text) => text.length > 0), "READY=1");
});

test("lets the process end once it is closed", { skip }, async (t) => {
  const receiver = new Receiver(t);
  await receiver.opened();
  const script = `import { openNotify } from "#runtime/notify";
    const notify = await openNotify(() => true);
    notify.ready();
    notify.close();`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
    env: { ...process.env, NOTIFY_SOCKET: receiver.path, WATCHDOG_USEC: "1000000" },
    timeout: WAIT_MS_MAX,
  });
  const [code] = await once(child, "exit");
  assert.equal(code, 0);
  await receiver.heard((text) => text === "READY=1");
});

test("feeds the watchdog twice in its time, and only its own", () => {
  assert.equal(watchdogPeriodMs({ WATCHDOG_USEC: "30000000" }), 15_000);
  assert.equal(watchdogPeriodMs({ WATCHDOG_USEC: "1" }), 1);
  assert.equal(watchdogPeriodMs({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "1" }), 0);
  const own = { WATCHDOG_USEC: "2000000", WATCHDOG_PID: String(process.pid) };
  assert.equal(watchdogPeriodMs(own), 1_000);
  assert.equal(watchdogPeriodMs({}), 0);
  assert.equal(watchdogPeriodMs({ WATCHDOG_USEC: "soon" }), 0);
});

// setup.test: scripts/setup gets what is missing, says so, and is silent when nothing is.
// Path: [setup] → start, test. Touches: a temporary folder with commands that only take notes.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { ROOT, temporaryFolder } from "./support.ts";

const MACHINE = "sh dirname cmp cp find mkdir chmod uname cat env sed grep sort".split(" ");

const FILES = /(need_file |python=)\/usr\//g;

/** A copy of scripts/setup beside a lockfile, on a machine with those commands and no others. */
class Machine {
  readonly folder: string;
  readonly #bin: string;
  readonly #notes: string;

  private constructor(folder: string) {
    this.folder = folder;
    this.#bin = join(folder, "bin");
    this.#notes = join(folder, "notes");
    mkdirSync(join(folder, "scripts"));
    mkdirSync(this.#bin);
    copyFileSync(join(ROOT, "scripts/node"), join(folder, "scripts/node"));
    // The packages' files are this machine's own, too: there are none but those that a test adds.
    const script = readFileSync(join(ROOT, "scripts/setup"), "utf8");
    writeFileSync(join(folder, "scripts/setup"), script.replaceAll(FILES, `$1'${folder}'/usr/`));
    writeFileSync(join(folder, "package-lock.json"), "{}");
    for (const name of MACHINE) this.#link(name);
  }

  static async with(t: TestContext, ...commands: string[]): Promise<Machine> {
    const folder = await temporaryFolder();
    t.after(folder.remove);
    const machine = new Machine(folder.path);
    for (const name of commands) machine.add(name);
    return machine;
  }

  /** A command that notes how it was called, and then does `does`. */
  add(name: string, does = ""): void {
    const script = `#!/bin/sh\necho "${name} $*" >> '${this.#notes}'\n${does}\n`;
    writeFileSync(join(this.#bin, name), script, { mode: 0o755 });
  }

  setup(purpose: string) {
    // PATH leads nowhere else but /usr/sbin, which the script adds; no test minds what is there.
    const env = { PATH: this.#bin };
    rmSync(this.#notes, { force: true });
    const script = join(this.folder, "scripts/setup");
    const { status, stdout, stderr } = spawnSync("/bin/sh", [script, purpose], {
      env,
      encoding: "utf8",
    });
    const called = existsSync(this.#notes) ? readFileSync(this.#notes, "utf8") : "";
    return { status, output: stdout + stderr, called };
  }

  #link(name: string): void {
    const { stdout } = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" });
    symlinkSync(stdout.trim(), join(this.#bin, name));
  }
}

const IS_ROOT = 'echo "0"';
const IS_USER = 'echo "1000"';
const PINNED = `node_modules/node-linux-${process.arch}/bin`;
const NPM_CI = `mkdir -p ${PINNED} && echo > ${PINNED}/node && chmod +x ${PINNED}/node`;

test("installs the packages that are missing, just those, and says which and why", async (t) => {
  const machine = await Machine.with(t, "npm", "haproxy", "openssl");
  machine.add("id", IS_ROOT);
  machine.add("npm", NPM_CI);
  machine.add("apt-get");
  const { status, output, called } = machine.setup("test");
  assert.equal(status, 0, output);
  assert.match(output, /redis-server: is the landing/);
  assert.match(output, /mosquitto-clients: is the foreign/);
  assert.doesNotMatch(output, /openssl|haproxy/);
  assert.match(called, /apt-get .*update\n/);
  const packages =
    "redis-server gcc libc6-dev mosquitto-clients socat systemd faketime git " +
    "gcc-avr avr-libc avrdude gpsbabel mbpoll arduino-core-avr libsimavr-dev libmodbus-dev " +
    "python3-gps python3-scapy";
  assert.match(called, new RegExp(`apt-get .*install ${packages}\n`));
});

test("knows a package without a command by its file", async (t) => {
  const machine = await Machine.with(t, "npm");
  machine.add("id", IS_ROOT);
  machine.add("npm", NPM_CI);
  machine.add("apt-get");
  assert.match(machine.setup("test").output, /libmodbus-dev: is the foreign Modbus slave/);
  const header = join(machine.folder, "usr/include/modbus/modbus.h");
  mkdirSync(dirname(header), { recursive: true });
  writeFileSync(header, "");
  assert.doesNotMatch(machine.setup("test").output, /libmodbus-dev/);
});

test("asks sudo where the user is not root", async (t) => {
  const machine = await Machine.with(t, "openssl", "haproxy");
  machine.add("id", IS_USER);
  machine.add("npm", NPM_CI);
  machine.add("apt-get");
  machine.add("sudo", '[ "$1" = -n ] || exec "$@"');
  const { status, output, called } = machine.setup("chain");
  assert.equal(status, 0, output);
  assert.match(called, /sudo env .*apt-get .*install redis-server\napt-get/);
});

test("says which command to run where it may not install", async (t) => {
  const machine = await Machine.with(t, "npm", "apt-get", "haproxy");
  machine.add("id", IS_USER);
  const { status, output, called } = machine.setup("chain");
  assert.equal(status, 1);
  assert.match(output, /apt-get install openssl redis-server/);
  assert.doesNotMatch(called, /apt-get/);
});

test("fails, with apt's own words, when a package cannot be installed", async (t) => {
  const machine = await Machine.with(t, "npm", "haproxy", "openssl");
  machine.add("id", IS_ROOT);
  machine.add("apt-get", 'case "$*" in *install*) echo "E: no network" >&2; exit 100 ;; esac');
  const { status, output } = machine.setup("chain");
  assert.notEqual(status, 0);
  assert.match(output, /E: no network/);
});

test("the gateway alone needs npm, and no package", async (t) => {
  const machine = await Machine.with(t);
  machine.add("npm", NPM_CI);
  const { status, called } = machine.setup("gateway");
  assert.equal(status, 0);
  assert.match(called, /^npm ci .*\n$/);
});

test("fetches the modules once, is silent from then on, and fetches anew with another lockfile", async (t) => {
  const machine = await Machine.with(t);
  machine.add("npm", NPM_CI);
  assert.match(machine.setup("gateway").called, /npm ci/);
  assert.deepEqual(machine.setup("gateway"), { status: 0, output: "", called: "" });
  appendFileSync(join(machine.folder, "package-lock.json"), "\n");
  assert.match(machine.setup("gateway").called, /npm ci/);
  assert.deepEqual(machine.setup("gateway"), { status: 0, output: "", called: "" });
});

test("leaves modules alone that a link leads to: others use them", async (t) => {
  const machine = await Machine.with(t, "npm");
  const shared = join(machine.folder, "shared");
  mkdirSync(shared);
  writeFileSync(join(shared, "module"), "");
  symlinkSync(shared, join(machine.folder, "node_modules"));
  machine.add("npm", NPM_CI);
  const { status, output, called } = machine.setup("gateway");
  assert.notEqual(status, 0);
  assert.match(output, /node_modules is a link/);
  assert.doesNotMatch(called, /npm ci/);
  assert.ok(existsSync(join(shared, "module")));
});

test("fails, with npm's own words, when the lockfile is not that of package.json", async (t) => {
  const machine = await Machine.with(t);
  machine.add("npm", 'echo "npm error Missing: mqtt@5.0.0 from lock file" >&2; exit 1');
  const { status, output } = machine.setup("gateway");
  assert.equal(status, 1);
  assert.match(output, /Missing: mqtt@5\.0\.0/);
});

test("says so when the pinned Node is not there for the machine", async (t) => {
  const machine = await Machine.with(t, "npm");
  const { status, output } = machine.setup("gateway");
  assert.equal(status, 1);
  assert.match(output, /no Node for .* in node_modules/);
});

test("says for what it can set up, when asked for something else", async (t) => {
  const machine = await Machine.with(t);
  const { status, output } = machine.setup("moon");
  assert.equal(status, 2);
  assert.match(output, /gateway, chain, torture or test/);
});

// build.test: what a build is, away from the sources and without node_modules.
// Path: test → scripts/build/*. Touches: temporary folders, the package registry when the add-ons
// of the other architecture are not in its cache.

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { buildDist, ENTRIES } from "../../scripts/build/dist.ts";
import { isAllowed, noticesOf } from "../../scripts/build/notices.ts";
import { readFromPackage } from "../../scripts/build/packages.ts";

const root = join(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "sluice-build-"));
after(() => rmSync(folder, { recursive: true }));

/** Builds, and moves the result to a folder where nothing else is. */
async function build(name: string, entries?: Record<string, string>): Promise<string> {
  const made = join(folder, name, "made");
  await buildDist(root, made, entries);
  const alone = join(folder, name, "alone");
  cpSync(made, alone, { recursive: true });
  rmSync(made, { recursive: true });
  return alone;
}

function run(program: string, args: string[] = [], env: NodeJS.ProcessEnv = {}) {
  return spawnSync(process.execPath, [program, ...args], {
    cwd: "/",
    env: { PATH: process.env.PATH, HOME: join(folder, "home"), ...env },
    encoding: "utf8",
  });
}

describe("a small program", () => {
  let dist: string;
  let program: string;
  before(async () => {
    dist = await build("small", { small: "test/scripts/build/stand-in.ts" });
    program = join(dist, "small.cjs");
  });

  test("opens LevelDB and serial ports from the bundle, and knows its version", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const { status, stdout, stderr } = run(program, [join(folder, "level-1")]);
    assert.equal(status, 0, stderr);
    assert.equal(stderr, "");
    const { msg, ...line } = JSON.parse(stdout);
    assert.equal(msg, "done");
    assert.deepEqual(line.parts, ["function", "function"]);
    assert.equal(line.version, version);
  });

  test("names the source and its line when it fails", () => {
    const { status, stderr } = run(program);
    assert.equal(status, 1);
    assert.match(stderr, /at main \(sluice:\/\/\/test\/scripts\/build\/stand-in\.ts:10:\d+\)/);
  });

  test("is compiled once, and comes from the compile cache after that", () => {
    const env = {
      NODE_COMPILE_CACHE: join(folder, "cache"),
      NODE_DEBUG_NATIVE: "COMPILE_CACHE",
    };
    const accepted = /bundles\/small\.cjs was accepted/;
    assert.doesNotMatch(run(program, [join(folder, "level-2")], env).stderr, accepted);
    assert.match(run(program, [join(folder, "level-2")], env).stderr, accepted);
  });

  test("starts where the compile cache cannot be written", () => {
    const file = join(folder, "no-folder");
    writeFileSync(file, "");
    const env = { NODE_COMPILE_CACHE: join(file, "cache"), HOME: file };
    const { status, stderr } = run(program, [join(folder, "level-3")], env);
    assert.equal(stderr, "");
    assert.equal(status, 0);
  });

  test("keeps the compile cache out of the temporary folder that all users share", () => {
    const temporary = join(folder, "temporary");
    mkdirSync(temporary);
    run(program, [join(folder, "level-4")], { TMPDIR: temporary });
    assert.deepEqual(readdirSync(temporary), []);
    assert.notDeepEqual(readdirSync(join(folder, "home/.cache/sluice")), []);
  });
});

describe("the three programs", () => {
  let dist: string;
  before(async () => {
    dist = await build("whole");
  });

  for (const name of Object.keys(ENTRIES)) {
    test(`${name} tells its usage without node_modules`, () => {
      const { status, stdout, stderr } = run(join(dist, `${name}.cjs`), ["--help"]);
      assert.equal(stderr, "");
      assert.equal(status, 0);
      assert.match(stdout, /usage/i);
    });

    test(`${name} has its source map beside its bundle`, () => {
      const text = readFileSync(join(dist, `bundles/${name}.cjs`), "utf8");
      assert.ok(text.endsWith(`//# sourceMappingURL=${name}.cjs.map\n`));
      const map = JSON.parse(readFileSync(join(dist, `bundles/${name}.cjs.map`), "utf8"));
      assert.ok(map.sources.includes(`../../${ENTRIES[name]}`));
    });
  }

  test("brings each native add-on for x64 and for arm64", () => {
    const files = readdirSync(join(dist, "native")).sort();
    const names = [...new Set(files.map((file) => file.replace(/\.linux-.*/, "")))];
    assert.ok(names.includes("classic-level") && names.includes("serialport"));
    for (const name of names) {
      assert.equal(machineOf(join(dist, `native/${name}.linux-x64.node`)), EM_X86_64);
      assert.equal(machineOf(join(dist, `native/${name}.linux-arm64.node`)), EM_AARCH64);
    }
    assert.equal(files.length, 2 * names.length);
  });

  test("tells every package and its licence, none of them GPL", () => {
    const text = readFileSync(join(dist, "THIRD-PARTY-NOTICES.txt"), "utf8");
    for (const name of ["aedes", "classic-level", "ioredis", "mqtt", "@serialport/bindings-cpp"])
      assert.match(text, new RegExp(`^${name} \\d+\\.\\d+\\.\\d+\nLicence: MIT$`, "m"));
    // classic-level compiles LevelDB and Snappy in.
    assert.match(text, /The LevelDB Authors/);
    assert.match(text, /Copyright 2011, Google Inc/);
    assert.doesNotMatch(text, /^Licence:.*GPL/m);
    assert.doesNotMatch(text, /GNU GENERAL PUBLIC LICENSE/i);
  });

  test("says nothing of the machine that built it", () => {
    for (const path of readdirSync(dist, { recursive: true, encoding: "utf8" })) {
      if (!/\.(cjs|map|txt)$/.test(path)) continue;
      const text = readFileSync(join(dist, path), "utf8");
      for (const place of [root, folder]) assert.doesNotMatch(text, asPath(place), path);
    }
  });

  /** The folder as the beginning of a path: a short one may stand inside of an address. */
  function asPath(place: string): RegExp {
    return new RegExp(`(?<![\\w.])${place.replaceAll(/[.*+?^$()[\]{}|\\]/g, "\\$&")}/`);
  }

  test("is a broker that takes custody in LevelDB", { timeout: 30_000 }, async () => {
    const socket = join(folder, "broker.sock");
    const settings = join(folder, "sluice.toml");
    writeFileSync(settings, smallestSettings(join(folder, "data"), socket));
    const broker = spawn(process.execPath, [join(dist, "broker.cjs"), "--config", settings], {
      cwd: "/",
      env: { HOME: join(folder, "home") },
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await lineOf(broker, /"msg":"ready"/);
      assert.deepEqual(await answersTo(socket, [CONNECT, PUBLISH]), [CONNACK, PUBACK]);
      broker.kill("SIGTERM");
      const [code] = await once(broker, "exit");
      assert.equal(code, 0);
    } finally {
      broker.kill("SIGKILL");
    }
  });
});

describe("a build fails, and names why,", () => {
  test("when a package's licence is not on the list", () => {
    const planted = join(folder, "planted");
    mkdirSync(planted);
    const manifest = { name: "zigbee-on-host", version: "1.2.3", license: "GPL-3.0-or-later" };
    writeFileSync(join(planted, "package.json"), JSON.stringify(manifest));
    assert.throws(() => noticesOf([planted]), {
      name: "BuildFailure",
      message: /zigbee-on-host 1\.2\.3 \(GPL-3\.0-or-later\)/,
    });
  });

  test("when it cannot tell what an expression of licences allows", () => {
    for (const allowed of ["MIT", "(MIT OR GPL-2.0-only)", "MIT AND ISC"]) {
      assert.ok(isAllowed(allowed), allowed);
    }
    for (const refused of ["", "UNLICENSED", "MIT AND GPL-2.0-only", "(MIT OR ISC) AND GPL-2.0"]) {
      assert.ok(!isAllowed(refused), refused);
    }
  });

  test("when an add-on of the other architecture is not in reach", () => {
    const tree = treeThatPins("absent", { "some-addon": "sha512-AAAA" });
    const environment = { ...process.env };
    Object.assign(process.env, {
      npm_config_registry: "http://127.0.0.1:1",
      npm_config_fetch_retries: "0",
    });
    try {
      assert.throws(() => readFromPackage(tree, "some-addon", "addon.node"), {
        name: "BuildFailure",
        message: /^some-addon@1\.0\.0 cannot be fetched \(npm says ECONNREFUSED\)/,
      });
    } finally {
      process.env = environment;
    }
  });

  test("when what was fetched is not what the lockfile pins", () => {
    const tree = treeThatPins("changed", { "some-addon": "sha512-AAAA" });
    const cache = join(tree, "node_modules/.cache/sluice-build");
    mkdirSync(cache, { recursive: true });
    writeFileSync(join(cache, "some-addon-1.0.0.tgz"), "other bytes");
    assert.throws(() => readFromPackage(tree, "some-addon", "addon.node"), {
      name: "BuildFailure",
      message: /is not the some-addon that package-lock\.json pins/,
    });
  });

  test("when the lockfile does not pin an add-on", () => {
    const tree = treeThatPins("unpinned", {});
    assert.throws(() => readFromPackage(tree, "some-addon", "addon.node"), {
      name: "BuildFailure",
      message: /^some-addon is neither installed nor in package-lock\.json/,
    });
  });

  test("when a bundle would look for a package at run time", async () => {
    const tree = join(folder, "incomplete");
    mkdirSync(tree);
    const source = 'try { require("some-package"); } catch { process.exit(1); }';
    writeFileSync(join(tree, "main.ts"), source);
    await assert.rejects(buildDist(tree, join(tree, "dist"), { program: "main.ts" }), {
      name: "BuildFailure",
      message: "program.cjs would look for some-package in node_modules",
    });
  });
});

// Of an ELF header (elf(5)): e_machine, two bytes at 18.
const EM_X86_64 = 62;
const EM_AARCH64 = 183;

function machineOf(path: string): number {
  const bytes = readFileSync(path);
  assert.equal(bytes.toString("latin1", 1, 4), "ELF", path);
  return bytes.readUInt16LE(18);
}

function treeThatPins(name: string, integrities: Record<string, string>): string {
  const tree = join(folder, name);
  mkdirSync(tree);
  const packages = Object.entries(integrities).map(([it, integrity]) => [
    `node_modules/${it}`,
    { version: "1.0.0", integrity },
  ]);
  writeFileSync(
    join(tree, "package-lock.json"),
    JSON.stringify({ packages: Object.fromEntries(packages) }),
  );
  return tree;
}

function smallestSettings(data: string, socket: string): string {
  return `role = "gateway"
name = "gw-test"
data = "${data}"
[[listeners]]
protocol = "mqtt"
address = "unix:${socket}"
[status]
address = "127.0.0.1:0"
`;
}

// MQTT 3.1.1: client "b", clean; then "x" on topic "t" at QoS 1 with packet id 1.
const CONNECT = "100d00044d515454040200000001" + "62";
const CONNACK = "20020000";
const PUBLISH = "3206000174000178";
const PUBACK = "40020001";

/** Sends each packet when the last one was answered, in hex; the answers. */
async function answersTo(path: string, packets: string[]): Promise<string[]> {
  const client = connect(path);
  const answers: string[] = [];
  for (const packet of packets) {
    client.write(Buffer.from(packet, "hex"));
    const [answer] = await once(client, "data");
    answers.push(answer.toString("hex"));
  }
  client.destroy();
  return answers;
}

async function lineOf(program: ChildProcess, pattern: RegExp): Promise<void> {
  assert.ok(program.stdout);
  for await (const line of createInterface(program.stdout)) if (pattern.test(line)) return;
  throw new Error(`the program ended before it said ${pattern}`);
}

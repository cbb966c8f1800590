// units.test: what systemd itself says of the units, and what the broker's users rely on.
// Path: test → systemd/*. Touches: a temporary folder; runs systemd-analyze, -sysusers, -tmpfiles.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { parseSettings } from "#runtime/settings";

const UNITS = ["sluice-broker.service", "sluice-firmware-bridge.service"];
const sources = join(import.meta.dirname, "../../systemd");
const folder = mkdtempSync(join(tmpdir(), "sluice-units-"));
after(() => rmSync(folder, { recursive: true }));

for (const unit of UNITS) {
  test(`systemd finds nothing to say about ${unit}`, () => {
    const { status, output } = run("systemd-analyze", "verify", "--man=no", installed(unit));
    assert.equal(output, "");
    assert.equal(status, 0);
  });

  test(`${unit} exposes no more of the machine than it did`, () => {
    // systemd's figure in tenths, 0 to 100. The bridge must reach serial ports, and name who holds one.
    const threshold = unit.includes("bridge") ? 18 : 14;
    const options = ["security", "--offline=true", `--threshold=${threshold}`, "--no-pager"];
    const { status, output } = run("systemd-analyze", ...options, installed(unit));
    assert.equal(status, 0, output);
  });

  test(`${unit} is started again for ever, but not into settings that cannot be used`, () => {
    const text = source(unit);
    for (const line of ["Restart=always", "StartLimitIntervalSec=0", "RestartPreventExitStatus=2"])
      assert.match(text, new RegExp(`^${line}$`, "m"));
  });

  test(`${unit} is reloaded by SIGHUP to its main process`, () => {
    const [, command = ""] = /^ExecReload=\/bin\/sh -c '(.+)'$/m.exec(source(unit)) ?? [];
    // As systemd hands it to the shell: $$ is one $, and MAINPID is in the environment.
    const script = command.replace("$$", "$");
    const shell = `trap 'echo reloaded' HUP; MAINPID=$$ sh -c '${script}'; true`;
    assert.equal(run("sh", "-c", shell).output, "reloaded\n");
  });

  test(`${unit} keeps the compile cache where only its own user writes`, () => {
    const text = source(unit);
    const [, cache] = /^CacheDirectory=(.+)$/m.exec(text) ?? [];
    assert.match(text, /^CacheDirectoryMode=0700$/m);
    assert.match(text, new RegExp(`^Environment=NODE_COMPILE_CACHE=%C/${cache}$`, "m"));
  });
}

test("neither service can write what the other one keeps", () => {
  const folders = UNITS.map((unit) => {
    const text = source(unit);
    assert.match(text, /^StateDirectoryMode=0700$/m);
    return ["State", "Runtime", "Cache"].map((kind) => {
      const [, name] = new RegExp(`^${kind}Directory=(.+)$`, "m").exec(text) ?? [];
      return name;
    });
  });
  assert.deepEqual(folders, [Array(3).fill("sluice"), Array(3).fill("sluice-bridge")]);
});

test("the broker has a file descriptor for each connection of the default limits", () => {
  const [, files = ""] = /^LimitNOFILE=(\d+)$/m.exec(source("sluice-broker.service")) ?? [];
  const { connections_max } = parseSettings('role = "gateway"', "defaults").limits;
  // LevelDB keeps up to 1,000 open.
  assert.ok(Number(files) > connections_max + 1_000);
});

test("the services' users are made, without a login", () => {
  const root = rootWith({ passwd: "", group: "" });
  const file = join(sources, "sluice.sysusers.conf");
  const { status, output } = run("systemd-sysusers", "--dry-run", `--root=${root}`, file);
  assert.equal(status, 0, output);
  assert.match(output, /Creating user 'sluice' /);
  assert.match(output, /Creating user 'sluice-bridge' /);
});

test("the settings' folder and the secrets in it are declared without a fault", () => {
  const root = rootWith({
    passwd: "sluice:x:995:995::/:\nsluice-bridge:x:994:994::/:\n",
    group: "sluice:x:995:\nsluice-bridge:x:994:\n",
  });
  const file = join(sources, "sluice.tmpfiles.conf");
  // --clean reads every line as --create does, and has nothing to do; it needs no root.
  const { status, output } = run("systemd-tmpfiles", "--clean", `--root=${root}`, file);
  assert.equal(output, "");
  assert.equal(status, 0);
});

test("every user, group and folder that a unit names is one that the other files make", () => {
  const made = [...source("sluice.sysusers.conf").matchAll(/^u +(\S+)/gm)].map(([, name]) => name);
  for (const unit of UNITS) {
    const text = source(unit);
    const [, user] = /^User=(.+)$/m.exec(text) ?? [];
    const [, groups = ""] = /^SupplementaryGroups=(.+)$/m.exec(text) ?? [];
    // dialout is Debian's own.
    const named = [user, ...groups.split(" ").filter((name) => name !== "" && name !== "dialout")];
    for (const name of named) assert.ok(made.includes(name), `${unit} names ${name}`);
  }
});

function source(name: string): string {
  return readFileSync(join(sources, name), "utf8");
}

/** A folder with these files in etc, for systemd to take as the root of a machine. */
function rootWith(etc: Record<string, string>): string {
  const root = mkdtempSync(join(folder, "root-"));
  mkdirSync(join(root, "etc"));
  for (const [name, text] of Object.entries(etc)) writeFileSync(join(root, "etc", name), text);
  return root;
}

/** The unit as systemd can judge it here: its program is not installed, so another stands in. */
function installed(unit: string): string {
  const path = join(folder, unit);
  const text = source(unit);
  assert.match(text, /^ExecStart=\/usr\/lib\/sluice\/node /m);
  writeFileSync(path, text.replace("/usr/lib/sluice/node", "/bin/true"));
  return path;
}

function run(program: string, ...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (error)
    throw new Error(`${program} cannot be run: install the package systemd`, { cause: error });
  return { status, output: stdout + stderr };
}

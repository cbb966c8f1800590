// user.test: what `sluice user` does to the users file, and how it takes passwords.
// Path: test. Touches: child processes, a temporary folder, script(1) for a terminal.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Users } from "#runtime/users";
import { MAIN, sluice, sluiceWith } from "./sluice-command.ts";

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "sluice-test-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

const usersFile = (t: TestContext) => join(folderFor(t), "users");

function lets(path: string, name: string, password: string): Promise<boolean> {
  return new Users(path, (why) => assert.fail(why)).verify(name, password);
}

test("adds a user with the password from a pipe, whom the broker then lets in", async (t) => {
  const path = usersFile(t);
  const added = await sluiceWith(t, "hunter2\nmore\n", "user", "add", "anna", "--users", path);
  assert.deepEqual(added, { code: 0, stdout: `anna is added to ${path}\n`, stderr: "" });
  assert.ok(await lets(path, "anna", "hunter2"));
  assert.ok(!(await lets(path, "anna", "hunter2\nmore")));
  assert.doesNotMatch(readFileSync(path, "utf8"), /hunter2/);
});

test("adds a user with the password from a file", async (t) => {
  const path = usersFile(t);
  const file = join(folderFor(t), "password");
  writeFileSync(file, "päss wörd\r\n");
  const args = ["user", "add", "Bo Ris", "--password-file", file, "--users", path];
  assert.equal((await sluice(t, ...args)).code, 0);
  assert.ok(await lets(path, "Bo Ris", "päss wörd"));
});

test("gives a user who is there another password, and says so", async (t) => {
  const path = usersFile(t);
  await sluiceWith(t, "one", "user", "add", "anna", "--users", path);
  const { code, stdout } = await sluiceWith(t, "two", "user", "add", "anna", "--users", path);
  assert.deepEqual([code, stdout], [0, `anna has another password in ${path}\n`]);
  assert.ok(await lets(path, "anna", "two"));
  assert.ok(!(await lets(path, "anna", "one")));
});

test("removes a user; one who is not there is a failure that names the nearest", async (t) => {
  const path = usersFile(t);
  await sluiceWith(t, "x", "user", "add", "anna", "--users", path);
  const none = await sluice(t, "user", "remove", "ana", "--users", path);
  assert.deepEqual([none.code, none.stdout], [1, ""]);
  assert.equal(none.stderr, `sluice: no user "ana" in ${path}; the nearest is "anna"\n`);
  const removed = await sluice(t, "user", "remove", "anna", "--users", path);
  assert.deepEqual(removed, { code: 0, stdout: `anna is removed from ${path}\n`, stderr: "" });
  const again = await sluice(t, "user", "remove", "anna", "--users", path);
  assert.match(again.stderr, /; it has no users\n$/);
});

test("lists users by name, for a person or for a program", async (t) => {
  const path = usersFile(t);
  assert.deepEqual(await sluice(t, "user", "list", "--users", path), {
    ...{ code: 0, stdout: "", stderr: "" },
  });
  for (const name of ["boris", "anna"])
    await sluiceWith(t, "x", "user", "add", name, "--users", path);
  assert.equal((await sluice(t, "user", "list", "--users", path)).stdout, "boris\nanna\n");
  const { stdout } = await sluice(t, "user", "list", "--json", "--users", path);
  assert.deepEqual(JSON.parse(stdout), [{ name: "boris" }, { name: "anna" }]);
});

test("works on the users file that the settings name", async (t) => {
  const folder = folderFor(t);
  const config = join(folder, "sluice.toml");
  const path = join(folder, "my-users");
  writeFileSync(config, `role = "gateway"\naccess.users_file = "${path}"\n`);
  const { code } = await sluiceWith(t, "x", "user", "add", "anna", "--config", config);
  assert.equal(code, 0);
  assert.ok(await lets(path, "anna", "x"));
});

test("refuses what it cannot take, with 2, and changes nothing", async (t) => {
  const path = usersFile(t);
  const cases: [string, string[], RegExp][] = [
    ["", ["add", "anna"], /^sluice: stdin holds no password on its first line\n/],
    ["\nx", ["add", "anna"], /^sluice: stdin holds no password on its first line\n/],
    ["x", ["add"], /^sluice: the user's name is missing\n/],
    ["x", ["add", "a:b"], /^sluice: the user's name holds a colon\n/],
    ["x", ["add", "anna", "hunter2"], /^sluice: unexpected argument "hunter2"\n/],
    [
      "x",
      ["add", "anna", "--password", "hunter2"],
      /^sluice: Unknown option '--password'; .*file\n/,
    ],
    ["x", ["add", "anna", "--password-file", "/none"], /^sluice: password_file \/none cannot be/],
    ["x", ["lst"], /^sluice: user can add, remove and list, not "lst"; did you mean list\?\n/],
    [
      "x".repeat(70_000),
      ["add", "anna"],
      /^sluice: the password has \d+ bytes; allowed: 1 to 65535/,
    ],
  ];
  for (const [input, args, message] of cases) {
    const { code, stdout, stderr } = await sluiceWith(t, input, "user", ...args, "--users", path);
    assert.deepEqual([code, stdout], [2, ""], args.join(" "));
    assert.match(stderr, message);
    assert.ok(!existsSync(path));
  }
});

test("names file and line of a users file that is broken, and leaves it alone", async (t) => {
  const path = usersFile(t);
  writeFileSync(path, "# first\nanna:hunter2\n");
  for (const args of [["add", "boris"], ["remove", "anna"], ["list"]]) {
    const { code, stderr } = await sluiceWith(t, "x", "user", ...args, "--users", path);
    assert.equal(code, 2);
    assert.equal(
      stderr,
      `sluice: ${path}:2: the password's scheme is not known; known is scrypt\n`,
    );
  }
  assert.equal(readFileSync(path, "utf8"), "# first\nanna:hunter2\n");
});

const skip = spawnSync("script", ["--version"]).error ? "script(1) is not installed" : false;

/** Types each of `lines` on a terminal once the next prompt is there; gives all that it showed. */
async function typed(t: TestContext, path: string, lines: readonly string[]) {
  const command = `'${process.execPath}' '${MAIN}' user add anna --users '${path}'`;
  const terminal = spawn("script", ["-qec", command, "/dev/null"], { timeout: 20_000 });
  t.after(() => terminal.kill("SIGKILL"));
  let shown = "";
  let asked = 0;
  terminal.stdout.on("data", (chunk) => {
    shown += chunk;
    const prompts = shown.match(/(password|again): /g)?.length ?? 0;
    for (; asked < prompts; asked += 1) terminal.stdin.write(lines[asked] ?? "");
  });
  const [code] = await once(terminal, "close");
  return { code, shown };
}

test("asks twice on a terminal and shows nothing of what is typed", { skip }, async (t) => {
  const path = usersFile(t);
  const { code, shown } = await typed(t, path, ["huntre\u007f\u007fer2\r", "wrong\u0015hunter2\r"]);
  assert.equal(code, 0, shown);
  assert.equal(shown, `password: \r\nagain: \r\nanna is added to ${path}\r\n`);
  assert.ok(await lets(path, "anna", "hunter2"));
});

test("takes both lines from one paste", { skip }, async (t) => {
  const path = usersFile(t);
  const { code, shown } = await typed(t, path, ["hunter2\rhunter2\r"]);
  assert.equal(code, 0, shown);
  assert.ok(await lets(path, "anna", "hunter2"));
});

test("changes nothing when the two differ, or at Ctrl-C", { skip }, async (t) => {
  const path = usersFile(t);
  const differ = await typed(t, path, ["one\r", "two\r"]);
  assert.equal(differ.code, 2);
  assert.match(differ.shown, /sluice: the two passwords differ; nothing was changed/);
  const stopped = await typed(t, path, ["one\u0003"]);
  assert.equal(stopped.code, 2);
  assert.match(stopped.shown, /sluice: interrupted/);
  assert.ok(!existsSync(path));
});

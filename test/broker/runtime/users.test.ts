// users.test: what the users file promises, in the hands of the command and of a running broker.
// Path: test. Touches: a temporary folder.

import assert from "node:assert/strict";
import { randomBytes, scryptSync } from "node:crypto";
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { SluiceError } from "#contract/errors";
import { formatHash, type PasswordHash } from "#runtime/passwords";
import { putUser, readUsers, removeUser, USERS_LIMITS, Users, userNameFault } from "#runtime/users";
import { temporaryFolder } from "./temporary-folder.ts";

/** A hash as the file holds it, of the least cost that it may have. */
function cheapHash(password: string): PasswordHash {
  const salt = randomBytes(16);
  const cost = { cost: 1_024, blockSize: 8, parallelization: 1 };
  return { ...cost, salt, hash: scryptSync(password, salt, 32, cost) };
}

function usersFile(t: TestContext, text?: string): string {
  const path = join(temporaryFolder(t), "users");
  if (text !== undefined) writeFileSync(path, text);
  return path;
}

const neverBroken = (why: string) => assert.fail(why);

test("has no users where there is no file", async (t) => {
  const path = usersFile(t);
  assert.equal(readUsers(path).size, 0);
  assert.equal(await new Users(path, neverBroken).verify("anna", "x"), false);
});

test("reads comments, blank lines, Windows line ends and names of any script", (t) => {
  const line = (name: string) => `${name}:${formatHash(cheapHash("x"))}`;
  const text = `\uFEFF# who may log in\r\n\r\n${line("anna")}\r\n  \n${line("бо рис")}\n# ${line("no")}`;
  assert.deepEqual([...readUsers(usersFile(t, text)).keys()], ["anna", "бо рис"]);
});

test("names file and line of what is broken, and quotes no secret", (t) => {
  const good = formatHash(cheapHash("x"));
  const cases: Record<string, RegExp> = {
    anna: /no user: allowed is name:scrypt:…/,
    "anna:hunter2": /the password's scheme is not known/,
    [`:${good}`]: /the user's name is empty/,
    [`a\tb:${good}`]: /the user's name holds a control character/,
    [`boris:${good}`]: /the user stands in a line before/,
  };
  for (const [line, message] of Object.entries(cases)) {
    const path = usersFile(t, `# first\nboris:${good}\n${line}\n`);
    assert.throws(
      () => readUsers(path),
      (fault: SluiceError) => {
        assert.equal(fault.code, "SETTINGS_INVALID");
        assert.ok(fault.message.startsWith(`${path}:3: `), fault.message);
        assert.match(fault.message, message);
        return !fault.message.includes("hunter2") && !fault.message.includes(good);
      },
    );
  }
});

test("names a file that cannot be read: a folder, no UTF-8, too large", (t) => {
  const folder = temporaryFolder(t);
  const latin = join(folder, "latin");
  writeFileSync(latin, Buffer.from([0xff, 0x0a]));
  const large = join(folder, "large");
  writeFileSync(large, Buffer.alloc(USERS_LIMITS.fileBytesMax + 1, "#"));
  for (const path of [folder, latin, large]) {
    assert.throws(() => readUsers(path), {
      code: "SETTINGS_INVALID",
      message: RegExp(`^users file ${path} cannot be read: .+`),
    });
  }
});

test("adds, replaces and removes users, and leaves every other line as it is", (t) => {
  const path = usersFile(t, `# devices\n\nanna:${formatHash(cheapHash("a"))}`);
  assert.equal(putUser(path, "boris", cheapHash("b")), "added");
  assert.equal(putUser(path, "anna", cheapHash("c")), "replaced");
  const names = () =>
    readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.split(":")[0]);
  assert.deepEqual(names(), ["# devices", "", "anna", "boris", ""]);
  assert.equal(removeUser(path, "anna"), true);
  assert.deepEqual(names(), ["# devices", "", "boris", ""]);
  assert.equal(removeUser(path, "anna"), false);
});

test("takes no name for another that begins like it", (t) => {
  const path = usersFile(t);
  putUser(path, "anna", cheapHash("a"));
  putUser(path, "ann", cheapHash("b"));
  assert.equal(removeUser(path, "ann"), true);
  assert.deepEqual([...readUsers(path).keys()], ["anna"]);
});

test("changes nothing in a file that is broken", (t) => {
  const path = usersFile(t, "what is this\n");
  assert.throws(() => putUser(path, "anna", cheapHash("a")), { code: "SETTINGS_INVALID" });
  assert.throws(() => removeUser(path, "anna"), { code: "SETTINGS_INVALID" });
  assert.equal(readFileSync(path, "utf8"), "what is this\n");
});

test("writes a new file for the eyes of owner and group, and leaves nothing beside it", (t) => {
  const path = usersFile(t);
  putUser(path, "anna", cheapHash("a"));
  assert.equal(statSync(path).mode & 0o777, 0o640);
  chmodSync(path, 0o666);
  putUser(path, "boris", cheapHash("b"));
  assert.equal(statSync(path).mode & 0o777, 0o640);
  assert.deepEqual(readdirSync(join(path, "..")), ["users"]);
});

test("replaces the file whole, so that a reader sees the old one or the new one", (t) => {
  const path = usersFile(t);
  putUser(path, "anna", cheapHash("a"));
  const { ino } = statSync(path);
  putUser(path, "boris", cheapHash("b"));
  assert.notEqual(statSync(path).ino, ino);
});

const skip = process.geteuid?.() === 0 ? false : "only root may give files away";

test("keeps the file's owner and group; a new one takes its folder's group", { skip }, (t) => {
  const path = usersFile(t);
  chownSync(join(path, ".."), 0, 4711);
  putUser(path, "anna", cheapHash("a"));
  assert.deepEqual([statSync(path).uid, statSync(path).gid], [0, 4711]);
  chownSync(path, 4712, 4713);
  putUser(path, "boris", cheapHash("b"));
  assert.deepEqual([statSync(path).uid, statSync(path).gid], [4712, 4713]);
});

test("follows a link to the file and leaves the link", (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "real"));
  const link = join(folder, "users");
  symlinkSync(join("real", "users"), link);
  writeFileSync(join(folder, "real", "users"), "");
  putUser(link, "anna", cheapHash("a"));
  assert.ok(lstatSync(link).isSymbolicLink());
  assert.deepEqual([...readUsers(join(folder, "real", "users")).keys()], ["anna"]);
});

test("names the file that cannot be written", (t) => {
  const path = join(temporaryFolder(t), "none", "users");
  assert.throws(() => putUser(path, "anna", cheapHash("a")), {
    code: "SETTINGS_INVALID",
    message: RegExp(`^users file ${path} cannot be written: ENOENT`),
  });
});

test("allows names of any script, without colons and control characters, up to 128 bytes", () => {
  for (const name of ["a", "gw-001/door", "Zoë", "名前", " ", "x".repeat(128), "a#"]) {
    assert.equal(userNameFault(name), undefined, name);
  }
  for (const name of [
    "",
    "a:b",
    "a\n",
    "a\u0085",
    "\ud800",
    "x".repeat(129),
    "é".repeat(65),
    "#a",
  ]) {
    assert.ok(userNameFault(name), JSON.stringify(name));
  }
});

test("lets in who has the right password, and nobody else", async (t) => {
  const path = usersFile(t);
  putUser(path, "anna", cheapHash("right"));
  const users = new Users(path, neverBroken);
  assert.equal(await users.verify("anna", Buffer.from("right")), true);
  assert.equal(await users.verify("anna", "right"), true);
  assert.equal(await users.verify("anna", "wrong"), false);
  assert.equal(await users.verify("Anna", "right"), false);
  assert.equal(await users.verify("anna", ""), false);
  assert.equal(await users.verify("toString", ""), false);
});

test("takes up what `sluice user` changes, without a signal", async (t) => {
  const path = usersFile(t);
  const users = new Users(path, neverBroken);
  putUser(path, "anna", cheapHash("one"));
  assert.equal(await users.verify("anna", "one"), true);
  putUser(path, "anna", cheapHash("two"));
  assert.equal(await users.verify("anna", "one"), false);
  assert.equal(await users.verify("anna", "two"), true);
  removeUser(path, "anna");
  assert.equal(await users.verify("anna", "two"), false);
  rmSync(path);
  assert.equal(await users.verify("anna", "two"), false);
});

test("keeps the last good users when the file breaks, and says so once", async (t) => {
  const path = usersFile(t);
  putUser(path, "anna", cheapHash("right"));
  const said: string[] = [];
  const users = new Users(path, (why) => said.push(why));
  writeFileSync(path, "broken\n");
  assert.equal(await users.verify("anna", "right"), true);
  assert.equal(await users.verify("anna", "right"), true);
  assert.deepEqual(said, [
    `${path}:1: no user: allowed is name:scrypt:…, as \`sluice user add\` writes it`,
  ]);
  writeFileSync(path, `boris:${formatHash(cheapHash("b"))}\n`);
  assert.equal(await users.verify("anna", "right"), false);
  assert.equal(await users.verify("boris", "b"), true);
  assert.equal(said.length, 1);
});

test("refuses to start with a file that is broken", (t) => {
  const path = usersFile(t, "broken\n");
  assert.throws(() => new Users(path, neverBroken), { code: "SETTINGS_INVALID" });
});

test("refuses logins beyond those that may wait, and serves again when they are through", async (t) => {
  const path = usersFile(t);
  putUser(path, "anna", cheapHash("right"));
  const users = new Users(path, neverBroken);
  const takes = USERS_LIMITS.hashesAtOnceMax + USERS_LIMITS.loginsWaitingMax;
  const flood = Array.from({ length: takes }, () => users.verify("anna", "wrong"));
  await assert.rejects(users.verify("anna", "right"), (fault) => {
    assert.ok(fault instanceof SluiceError);
    assert.match(fault.message, /^128 logins wait already/);
    return fault.code === "ACCESS_DENIED";
  });
  assert.ok((await Promise.all(flood)).every((isRight) => !isRight));
  assert.equal(await users.verify("anna", "right"), true);
});

test("lets who was let in before pass a flood of others", async (t) => {
  const path = usersFile(t);
  putUser(path, "anna", cheapHash("right"));
  const users = new Users(path, neverBroken);
  assert.equal(await users.verify("anna", "right"), true);
  const takes = USERS_LIMITS.hashesAtOnceMax + USERS_LIMITS.loginsWaitingMax;
  const flood = Array.from({ length: takes }, () => users.verify("anna", "wrong"));
  assert.equal(await users.verify("anna", "right"), true);
  await Promise.all(flood);
});

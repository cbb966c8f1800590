// access.test: who is welcome, what the others are told, and what the operator reads of them.
// Path: test. Touches: a temporary folder.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pino } from "pino";
import { SluiceError } from "#contract/errors";
import { Metrics } from "#runtime/metrics";
import { hashPassword } from "#runtime/passwords";
import { parseSettings } from "#runtime/settings";
import { putUser, Users } from "#runtime/users";
import { Access, type AccessPeer, type UserCheck } from "../../../broker/mqtt/access.ts";
import { REASON } from "../../../broker/mqtt/wire/reason-codes.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const LOCAL: AccessPeer = { ip: "127.0.0.1", certificateName: undefined };
const REMOTE: AccessPeer = { ip: "192.0.2.7", certificateName: undefined };
const UNIX: AccessPeer = { ip: undefined, certificateName: undefined };
const NOBODY = { clientId: "c", username: undefined, password: undefined };

const settingsOf = (text: string) =>
  parseSettings(`role = "gateway"\n[access]\n${text}`, "test").access;
const bytes = (text: string) => Buffer.from(text);

const METER: UserCheck = {
  verify: async (name, password) =>
    name === "meter" && Buffer.from(password).toString() === "right",
};

function accessOf(text: string, openUsers: (path: string) => UserCheck = () => METER) {
  const metrics = new Metrics();
  const lines: Record<string, unknown>[] = [];
  const log = pino({ base: null }, { write: (line) => lines.push(JSON.parse(line)) });
  const access = new Access({ settings: settingsOf(text), openUsers, log, metrics });
  const login = (username: string | undefined, password?: string) => {
    const login = { clientId: "c", username, password: password ? bytes(password) : undefined };
    return access.refusalOf(LOCAL, login);
  };
  return { access, metrics, lines, login };
}

test("anonymous clients are let in by the class of their address", async () => {
  const verdicts = async (anonymous: "never" | "loopback" | "all") => {
    const { access } = accessOf(`anonymous = "${anonymous}"`);
    return Promise.all([LOCAL, UNIX, REMOTE].map((peer) => access.refusalOf(peer, NOBODY)));
  };
  const no = REASON.notAuthorized;
  assert.deepEqual(await verdicts("never"), [no, no, no]);
  assert.deepEqual(await verdicts("loopback"), [undefined, undefined, no]);
  assert.deepEqual(await verdicts("all"), [undefined, undefined, undefined]);
});

test("a name without its password is refused, and a password without a name", async () => {
  const { login, metrics } = accessOf('anonymous = "all"');
  assert.equal(await login("meter", "right"), undefined);
  const refused = [
    ["meter", "wrong"],
    ["meter"],
    ["nobody", "right"],
    [undefined, "right"],
  ] as const;
  for (const [name, password] of refused) {
    assert.equal(await login(name, password), REASON.badUserNameOrPassword);
  }
  assert.equal(metrics.total("sluice_connects_refused_total"), 4);
});

test("a verified certificate says who it is, without a password", async () => {
  const { access } = accessOf('anonymous = "never"');
  const peer = { ...REMOTE, certificateName: "dev-1" };
  assert.equal(await access.refusalOf(peer, NOBODY), undefined);
  const login = { ...NOBODY, username: "meter", password: bytes("wrong") };
  assert.equal(await access.refusalOf(peer, login), REASON.badUserNameOrPassword);
});

test("with too many logins at once the broker is busy, and other faults are told", async () => {
  const fails = (fault: Error) =>
    accessOf("", () => ({ verify: () => Promise.reject(fault) })).login("meter", "right");
  assert.equal(await fails(new SluiceError("ACCESS_DENIED", "128 wait")), REASON.serverBusy);
  await assert.rejects(fails(new Error("no memory")), /no memory/);
});

test("a failure is logged with address and reason, never with the password", async () => {
  const { access, lines } = accessOf('anonymous = "never"');
  const username = `\u001b[31m\u202e${"m".repeat(65_000)}`;
  await access.refusalOf(REMOTE, { clientId: "c\n1", username, password: bytes("secret") });
  const [line = {}] = lines;
  const { ip, reason, clientId } = line;
  assert.deepEqual([ip, reason, clientId], ["192.0.2.7", "bad login", "c\\n1"]);
  assert.match(String(line.username), /^\\u\{1b\}\[31m\\u\{202e\}m{58}…$/);
  assert.doesNotMatch(JSON.stringify(lines), /secret/);
  access.refused(REMOTE, NOBODY, "will");
  assert.equal(lines[1]?.reason, "will");
});

test("new settings count once they are applied, for who comes then", async () => {
  const { access, login } = accessOf('anonymous = "all"');
  const identity = { clientId: "c", user: undefined, certificateName: undefined };
  const apply = access.prepare(
    settingsOf(`anonymous = "never"
      server_reference = "other.example.com:8883"
      [[access.rights]]
      publish = ["a"]`),
  );
  assert.equal(await login(undefined), undefined);
  assert.ok(access.rightsOf(identity).mayPublish("b", false));
  apply();
  assert.equal(await login(undefined), REASON.notAuthorized);
  assert.equal(access.serverReference, "other.example.com:8883");
  assert.deepEqual(
    ["a", "b"].map((topic) => access.rightsOf(identity).mayPublish(topic, false)),
    [true, false],
  );
});

test("another users file counts with the settings, a broken one changes nothing", async (t) => {
  const folder = temporaryFolder(t);
  const [one = "", two = "", broken = ""] = ["one", "two", "broken"].map((it) => join(folder, it));
  putUser(one, "first", await hashPassword("1"));
  putUser(two, "second", await hashPassword("2"));
  writeFileSync(broken, "no user");
  const open = (path: string) => new Users(path, () => {});
  const { access, login } = accessOf(`users_file = "${one}"`, open);
  assert.throws(() => access.prepare(settingsOf(`users_file = "${broken}"`)), {
    code: "SETTINGS_INVALID",
  });
  assert.equal(await login("first", "1"), undefined);
  access.prepare(settingsOf(`users_file = "${two}"`))();
  assert.equal(await login("second", "2"), undefined);
  assert.equal(await login("first", "1"), REASON.badUserNameOrPassword);
});

test("who has proved a password needs no hash after a reload", async () => {
  const opened: string[] = [];
  const { access, login } = accessOf('users_file = "/users"', (path) => {
    const isFirst = opened.push(path) === 1;
    return { verify: async () => isFirst };
  });
  access.prepare(settingsOf('users_file = "/users"'))();
  assert.equal(await login("meter", "right"), undefined, "asks what knew it before");
  assert.deepEqual(opened, ["/users", "/users"]);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { Access, type AccessPeer, RETURN_CODE } from "../../../broker/mqtt/access.ts";

const log = createLog({ level: "error", process: "test" });
const LOCAL: AccessPeer = { ip: "127.0.0.1", certificateName: undefined };
const REMOTE: AccessPeer = { ip: "192.0.2.7", certificateName: undefined };
const UNIX: AccessPeer = { ip: undefined, certificateName: undefined };
const NOBODY = { username: undefined, password: undefined };

function accessOf(anonymous: "never" | "loopback" | "all") {
  const metrics = new Metrics();
  const users = {
    verify: async (name: string, password: Uint8Array) =>
      name === "meter" && Buffer.from(password).toString() === "right",
  };
  return { access: new Access({ anonymous, users, log, metrics }), metrics };
}

test("anonymous clients are let in by the class of their address", async () => {
  const verdicts = async (anonymous: "never" | "loopback" | "all") => {
    const { access } = accessOf(anonymous);
    return Promise.all([LOCAL, UNIX, REMOTE].map((peer) => access.refusalOf(peer, NOBODY)));
  };
  const no = RETURN_CODE.notAuthorized;
  assert.deepEqual(await verdicts("never"), [no, no, no]);
  assert.deepEqual(await verdicts("loopback"), [undefined, undefined, no]);
  assert.deepEqual(await verdicts("all"), [undefined, undefined, undefined]);
});

test("a name without its password is refused with 4, wherever it comes from [MQTT table 3.1]", async () => {
  const { access, metrics } = accessOf("all");
  const login = (username: string, password?: string) =>
    access.refusalOf(LOCAL, { username, password: password ? Buffer.from(password) : undefined });
  assert.equal(await login("meter", "right"), undefined);
  for (const refused of [login("meter", "wrong"), login("meter"), login("nobody", "right")]) {
    assert.equal(await refused, RETURN_CODE.badLogin);
  }
  assert.equal(metrics.total("sluice_connects_refused_total"), 3);
});

test("a verified certificate says who it is, without a password", async () => {
  const { access } = accessOf("never");
  assert.equal(await access.refusalOf({ ...REMOTE, certificateName: "dev-1" }, NOBODY), undefined);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Identity, rightsOf } from "../../../broker/mqtt/rights.ts";

const METER: Identity = { clientId: "m-1", user: "meter", certificateName: undefined };
const grant = (more: object) => ({ publish: [], retain: undefined, subscribe: [], ...more });

test("without any table everything is allowed, with one only what it grants", () => {
  assert.ok(rightsOf([], METER).mayPublish("any", true));
  const none = rightsOf([grant({ user: "other", publish: ["#"], subscribe: ["#"] })], METER);
  assert.deepEqual(
    [none.mayPublish("a", false), none.maySubscribe("a"), none.mayReceive("a")],
    [false, false, false],
  );
});

test("tables count for those whom they name by user, client id and certificate, and add up", () => {
  const rights = [
    grant({ publish: ["all"] }),
    grant({ user: "meter", publish: ["by-user"] }),
    grant({ client_id: "m-1", publish: ["by-id"] }),
    grant({ user: "meter", client_id: "m-2", publish: ["by-both"] }),
    grant({ certificate: "m-1", publish: ["by-certificate"] }),
  ];
  const may = (identity: Identity) =>
    ["all", "by-user", "by-id", "by-both", "by-certificate"].filter((topic) =>
      rightsOf(rights, identity).mayPublish(topic, false),
    );
  assert.deepEqual(may(METER), ["all", "by-user", "by-id"]);
  assert.deepEqual(may({ ...METER, certificateName: "m-1" }).at(-1), "by-certificate");
  assert.deepEqual(may({ clientId: "x", user: undefined, certificateName: undefined }), ["all"]);
});

test("%u and %c are the client's own names, and never widen a filter", () => {
  const rights = [grant({ publish: ["%u/%c/x"], subscribe: ["of/%c/#"] })];
  assert.ok(rightsOf(rights, METER).mayPublish("meter/m-1/x", false));
  for (const clientId of ["#", "+", "a/b", ""]) {
    const own = rightsOf(rights, { ...METER, clientId });
    assert.ok(!own.mayPublish(`meter/${clientId}/x`, false), clientId);
    assert.ok(!own.maySubscribe(`of/${clientId}/#`), clientId);
  }
  // What looks like a replacement pattern is a name like any other.
  assert.ok(rightsOf(rights, { ...METER, clientId: "$&" }).mayPublish("meter/$&/x", false));
});

test("a right to retain is as wide as that to publish, unless it is named", () => {
  const plain = rightsOf([grant({ publish: ["a/#"] })], METER);
  assert.ok(plain.mayPublish("a/x", true));
  const named = rightsOf([grant({ publish: ["a/#"], retain: ["a/kept"] })], METER);
  assert.deepEqual(
    [named.mayPublish("a/kept", true), named.mayPublish("a/x", true)],
    [true, false],
  );
});

test("# grants no $-topics", () => {
  const { maySubscribe, mayReceive } = rightsOf([grant({ subscribe: ["#"] })], METER);
  assert.deepEqual([maySubscribe("$SYS/#"), mayReceive("$SYS/broker/uptime")], [false, false]);
});

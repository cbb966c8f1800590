// rights.test: what clients may do, by the tables that are meant for them.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { filterMatches } from "#contract/topics";
import type { Settings } from "#runtime/settings-schema";
import { type Identity, Rights } from "../../../broker/mqtt/rights.ts";

const METER: Identity = { clientId: "m-1", user: "meter", certificateName: undefined };
const rightsOf = (rights: Settings["access"]["rights"], identity: Identity) =>
  new Rights(rights).of(identity);
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

test("a certificate's name is its client's user, where that logs in with no other", () => {
  const rights = [grant({ user: "meter", publish: ["of/%u"] })];
  const may = (user: string | undefined) => {
    const own = rightsOf(rights, { clientId: "x", user, certificateName: "meter" });
    return own.mayPublish("of/meter", false);
  };
  assert.deepEqual([may(undefined), may("other")], [true, false]);
});

test("a name that holds a mark is no mark", () => {
  const rights = [grant({ publish: ["%u/x"] })];
  const own = rightsOf(rights, { ...METER, user: "%c" });
  assert.deepEqual([own.mayPublish("%c/x", false), own.mayPublish("m-1/x", false)], [true, false]);
});

test("# grants no $-topics, nor does a name that begins with $", () => {
  const all = rightsOf([grant({ subscribe: ["#"] })], METER);
  assert.deepEqual(
    [all.maySubscribe("$SYS/#"), all.mayReceive("$SYS/broker/uptime")],
    [false, false],
  );
  const named = rightsOf([grant({ subscribe: ["%c/#"] })], { ...METER, clientId: "$SYS" });
  assert.deepEqual(
    [named.maySubscribe("$SYS/#"), named.mayReceive("$SYS/broker/uptime")],
    [false, false],
  );
  const granted = rightsOf([grant({ subscribe: ["$SYS/broker/#"] })], METER);
  assert.ok(granted.maySubscribe("$SYS/broker/uptime"));
});

test("a shared subscription is asked for by the filter behind its group, never with it", () => {
  for (const rights of [[], [grant({ subscribe: ["#"] })]]) {
    const own = rightsOf(rights, METER);
    assert.deepEqual([own.maySubscribe("a/#"), own.maySubscribe("$share/g/a/#")], [true, false]);
  }
});

test("what may be subscribed to may be received, whatever a filter selects", () => {
  const level = fc.constantFrom("a", "b", "", "+", "$SYS");
  const filter = fc
    .tuple(fc.array(level, { minLength: 1, maxLength: 4 }), fc.boolean())
    .map(([levels, isTree]) => (isTree ? [...levels, "#"] : levels).join("/"))
    .filter((it) => it !== "");
  const topic = fc
    .array(fc.constantFrom("a", "b", "", "$SYS"), { minLength: 1, maxLength: 5 })
    .map((levels) => levels.join("/"));
  let received = 0;
  fc.assert(
    fc.property(fc.array(filter, { maxLength: 4 }), filter, topic, (subscribe, asked, heard) => {
      const own = rightsOf([grant({ subscribe })], METER);
      const isGranted = subscribe.some((it) => filterMatches(it, heard));
      assert.equal(own.mayReceive(heard), isGranted);
      if (!own.maySubscribe(asked) || !filterMatches(asked, heard)) return;
      received += 1;
      assert.ok(isGranted);
    }),
    { seed: 1, numRuns: 20_000 },
  );
  assert.ok(received > 100, `${received} cases say something`);
});

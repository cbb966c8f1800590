// topics.test: what the topic ids of one MQTT-SN client promise.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Topics } from "../../../../firmware-bridge/drivers/mqtt-sn/topics.ts";

const SHORT = { kind: "short", id: 0x6162 } as const;

function topics(countMax = 3): Topics {
  return new Topics(new Map([[7, "plant/pump"]]), countMax);
}

test("§6.5: a topic keeps its id, which is another for another topic and never reserved", () => {
  const some = topics();
  assert.deepEqual([some.register("a/1"), some.register("a/2"), some.register("a/1")], [1, 2, 1]);
  assert.equal(some.nameOf({ kind: "normal", id: 2 }), "a/2");
  assert.equal(some.nameOf({ kind: "normal", id: 3 }), undefined);
});

test("§6.7: predefined ids and short names need no registration", () => {
  const some = topics();
  assert.equal(some.nameOf({ kind: "predefined", id: 7 }), "plant/pump");
  assert.equal(some.nameOf({ kind: "predefined", id: 8 }), undefined);
  assert.equal(some.nameOf(SHORT), "ab");
  assert.equal(some.nameOf({ kind: "short", id: 0xff00 }), undefined);
  assert.deepEqual(some.referenceTo("plant/pump"), { kind: "predefined", id: 7 });
  assert.deepEqual(some.referenceTo("ab"), SHORT);
});

test("§6.10: a topic that the client was not told of needs a REGISTER, also after a new CONNECT", () => {
  const some = topics();
  assert.equal(some.referenceTo("a/1"), undefined);
  assert.equal(some.assign("a/1"), 65_534);
  assert.equal(some.referenceTo("a/1"), undefined);
  some.tell("a/1");
  assert.deepEqual(some.referenceTo("a/1"), { kind: "normal", id: 65_534 });
  some.untell();
  assert.equal(some.referenceTo("a/1"), undefined);
  assert.equal(some.nameOf({ kind: "normal", id: 65_534 }), "a/1");
});

test("takes an id of before a restart for no other topic, whatever wildcards bring meanwhile", () => {
  const before = topics(10);
  const ids = ["up/1", "up/2", "up/3"].map((name) => before.register(name) ?? 0);
  const after = topics(10);
  for (let count = 0; count < 5; count += 1) after.assign(`wild/${count}`);
  for (const id of ids) assert.equal(after.nameOf({ kind: "normal", id }), undefined);
  assert.deepEqual(after.register("up/1"), ids[0]);
});

test("gives ids without end, of each kind, and none twice at once", () => {
  const some = topics(4);
  for (let count = 0; count < 70_000; count += 1) some.assign(`wild/${count}`);
  const ids = ["a", "b", "c"].map((name) => some.register(name));
  const known = Array.from({ length: 65_536 }, (_, id) => some.nameOf({ kind: "normal", id }));
  assert.equal(known.filter((name) => name !== undefined).length, 4);
  assert.equal(new Set(ids).size, 3);
  assert.deepEqual([known[0], known[65_535]], [undefined, undefined]);
});

test("registers what the client says it does not know, predefined ids and short names included", () => {
  const some = topics();
  some.forgetId(7);
  some.forget("ab", SHORT);
  for (const name of ["plant/pump", "ab"]) {
    assert.equal(some.referenceTo(name), undefined);
    some.assign(name);
    some.tell(name);
    assert.equal(some.referenceTo(name)?.kind, "normal");
  }
});

test("is bounded: what wildcards brought makes room, what the client asked for does not", () => {
  const some = topics();
  some.register("own");
  for (let count = 0; count < 100; count += 1) some.assign(`wild/${count}`);
  assert.equal(some.size, 3);
  assert.equal(some.nameOf({ kind: "normal", id: 1 }), "own");
  some.register("own/2");
  some.register("own/3");
  assert.equal(some.register("own/4"), undefined);
  assert.equal(some.assign("wild"), undefined);
});

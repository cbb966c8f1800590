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
  assert.equal(some.assign("a/1"), 1);
  assert.equal(some.referenceTo("a/1"), undefined);
  some.tell("a/1");
  assert.deepEqual(some.referenceTo("a/1"), { kind: "normal", id: 1 });
  some.untell();
  assert.equal(some.referenceTo("a/1"), undefined);
  assert.equal(some.nameOf({ kind: "normal", id: 1 }), "a/1");
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

// json.test: what lines and frames that are JSON promise, by the codec of lines.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { says } from "../line-codec.ts";

test("has a channel for each key, with values as they were written", () => {
  const line =
    '{"t":21.50,"n":18446744073709551616,"s":"ein \u00e4","b":true,"z":null,"o":{"x":[1.0]}}\n';
  assert.deepEqual(says({ format: "json" }, line), [
    "t=21.50",
    "n=18446744073709551616",
    `s=${Buffer.from("ein ä").toString("latin1")}`,
    "b=true",
    "z=null",
    'o={"x":[1.0]}',
  ]);
});

test("publishes whole what is no object, or an empty one", () => {
  for (const line of [
    "1.50",
    '"text"',
    "[1, 2]",
    "null",
    "{}",
    ' {"a": 1} '.replace(/.*/, "{ }"),
  ]) {
    assert.deepEqual(says({ format: "json" }, `${line}\n`), [`line=${line}`]);
  }
});

test("makes keys safe as a topic level, and keeps them off the device's own topics", () => {
  const line =
    '{"a/b":1,"+":2,"#x":3,"n\\u0000l":4,"set":5,"availability":6,"result":7,"__proto__":8}\n';
  assert.deepEqual(says({ format: "json" }, line), [
    "a_b=1",
    "_=2",
    "_x=3",
    "n_l=4",
    "set_=5",
    "availability_=6",
    "result_=7",
    "__proto__=8",
  ]);
});

test("takes an object as deep as a line can hold, or says that it cannot", () => {
  for (const depth of [1_000, 32_000]) {
    const line = `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}`;
    const [first] = says({ format: "json", line_bytes_max: 65_536 }, `${line}\n`);
    assert.match(first ?? "", /^(a=\[|! a line is not json)/);
  }
});

// csv.test: what lines and frames of fields promise, by the codec of lines.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { says } from "../line-codec.ts";

test("names fields by column, then by number", () => {
  const format = "csv";
  assert.deepEqual(says({ format }, "1,2\n"), ["1=1", "2=2"]);
  assert.deepEqual(says({ format, columns: ["t", "h"] }, "21.5\n"), ["t=21.5"]);
  assert.deepEqual(says({ format, columns: ["t", "h"] }, "21.5,40,x,\n"), [
    "t=21.5",
    "h=40",
    "3=x",
    "4=",
  ]);
  assert.deepEqual(says({ format, columns: ["set"] }, "1\n"), ["set_=1"]);
});

test("reads quoted fields, by RFC 4180, and blanks around fields", () => {
  const columns = ["a", "b", "c"];
  const read = (line: string, separator = ",") =>
    says({ format: "csv", columns, separator }, `${line}\n`);
  assert.deepEqual(read('"x,y","say ""hi""",z'), ["a=x,y", 'b=say "hi"', "c=z"]);
  assert.deepEqual(read(' 1 , " 2 " ,5"'), ["a=1", "b= 2 ", 'c=5"']);
  assert.deepEqual(read('"",""'), ["a=", "b="]);
  assert.deepEqual(read("1\t\t3", "\t"), ["a=1", "b=", "c=3"]);
  assert.deepEqual(read("1;2,5", ";"), ["a=1", "b=2,5"]);
});

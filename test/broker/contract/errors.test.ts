// errors.test: what the one class of expected failures promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { reasonOf, SluiceError } from "#contract/errors";

test("carries its code and its cause", () => {
  const cause = new Error("disk");
  const fault = new SluiceError("STORE_FAILED", "cannot write", { cause });
  assert.ok(fault instanceof Error);
  assert.deepEqual(
    [fault.name, fault.code, fault.message],
    ["SluiceError", "STORE_FAILED", "cannot write"],
  );
  assert.equal(fault.cause, cause);
});

test("gives a reason on one line for whatever was thrown", () => {
  assert.equal(reasonOf(new Error("first\n  second")), "first; second");
  assert.equal(reasonOf(new TypeError("")), "TypeError");
  assert.equal(reasonOf("text"), "text");
  assert.equal(reasonOf(undefined), "undefined");
});

test("gives the reasons inside a failure that names none itself", () => {
  const both = [
    new Error("connect ECONNREFUSED ::1:1883"),
    new Error("connect ECONNREFUSED 127.0.0.1:1883"),
  ];
  assert.equal(
    reasonOf(new AggregateError(both, "")),
    "connect ECONNREFUSED ::1:1883; connect ECONNREFUSED 127.0.0.1:1883",
  );
});

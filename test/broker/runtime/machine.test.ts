// machine.test: what the machine says of itself.
// Path: test. Touches: /etc/machine-id.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { NAME_PATTERN } from "#contract/topics";
import { defaultName, isClockPlausible } from "#runtime/machine";

test("gives the machine the same name each time, fit for a topic", () => {
  assert.equal(defaultName(), defaultName());
  assert.match(defaultName(), /^gw-[0-9a-f]{8}$/);
  assert.match(defaultName(), NAME_PATTERN);
});

test("does not show the machine id", { skip: !existsSync("/etc/machine-id") }, () => {
  const id = readFileSync("/etc/machine-id", "utf8").trim();
  const digits = defaultName().slice("gw-".length);
  assert.ok(id === "" || !id.includes(digits));
});

test("tells a clock that was never set from one that runs", () => {
  assert.ok(!isClockPlausible(0));
  assert.ok(!isClockPlausible(Date.UTC(2025, 11, 31)));
  assert.ok(isClockPlausible(Date.UTC(2026, 0, 1)));
  assert.ok(isClockPlausible(Date.now()));
});

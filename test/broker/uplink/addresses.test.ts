// addresses.test: whose turn it is of several addresses.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Addresses } from "../../../broker/uplink/addresses.ts";

test("each failure passes the turn on, and says when all have failed", () => {
  const addresses = new Addresses(["a", "b", "c"]);
  const tried = Array.from({ length: 6 }, () => [addresses.url, addresses.failed()]);
  const round = [
    ["a", false],
    ["b", false],
    ["c", true],
  ];
  assert.deepEqual(tried, [...round, ...round]);
});

test("who serves keeps its turn, and all have their turn again before it is a round", () => {
  const addresses = new Addresses(["a", "b"]);
  addresses.failed();
  addresses.served();
  assert.equal(addresses.url, "b");
  assert.equal(addresses.failed(), false);
  assert.equal(addresses.url, "a");
  assert.equal(addresses.failed(), true);
});

test("of one address each failure is a round", () => {
  const addresses = new Addresses(["a"]);
  assert.deepEqual([addresses.failed(), addresses.url, addresses.failed()], [true, "a", true]);
});

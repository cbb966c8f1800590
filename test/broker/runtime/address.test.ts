// address.test: how the settings' addresses are read.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { isLoopback, parseAddress } from "#runtime/address";

test("reads host and port, brackets and socket paths", () => {
  assert.deepEqual(parseAddress("127.0.0.1:1883"), { host: "127.0.0.1", port: 1883 });
  assert.deepEqual(parseAddress("broker.local:0"), { host: "broker.local", port: 0 });
  assert.deepEqual(parseAddress("[::1]:8883"), { host: "::1", port: 8883 });
  assert.deepEqual(parseAddress("unix:/run/a:b.sock"), { path: "/run/a:b.sock" });
});

test("knows the machine's own addresses, IPv4 in IPv6 too", () => {
  for (const ip of ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::FFFF:127.0.0.1"]) {
    assert.ok(isLoopback(ip), ip);
  }
});

test("takes nobody else's address for its own", () => {
  const others = ["", "10.0.0.1", "128.0.0.1", "::", "::2", "::ffff:10.0.0.1", "fe80::1"];
  others.push("127.0.0.1.example.com", "1127.0.0.1", "::1%eth0", "localhost");
  for (const ip of others) assert.ok(!isLoopback(ip), ip);
});

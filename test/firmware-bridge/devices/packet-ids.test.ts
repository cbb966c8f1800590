// packet-ids.test: what packet identifiers promise across connections.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PacketIds } from "../../../firmware-bridge/devices/packet-ids.ts";

test("hands out each identifier from 1 to 65535 before any a second time", () => {
  const ids = new PacketIds(() => []);
  const first = Array.from({ length: 65_535 }, () => {
    const id = ids.allocate();
    ids.deallocate(id);
    return id;
  });
  assert.equal(new Set(first).size, 65_535);
  assert.deepEqual([Math.min(...first), Math.max(...first)], [1, 65_535]);
  assert.equal(ids.allocate(), 1);
});

test("never hands out what is still taken", () => {
  const ids = new PacketIds(() => []);
  const kept = [ids.allocate(), ids.allocate()];
  for (let turn = 0; turn < 70_000; turn += 1) {
    const id = ids.allocate();
    assert.ok(!kept.includes(id));
    ids.deallocate(id);
  }
});

test("gives a message the identifier that it had, and nobody else", () => {
  const held = [3];
  const ids = new PacketIds(() => held);
  for (let turn = 0; turn < 5; turn += 1) ids.allocate();
  ids.clear();
  ids.want(3);
  assert.equal(ids.allocate(), 3);
  assert.equal(ids.getLastAllocated(), 3);
  assert.equal(ids.allocate(), 4);
});

test("frees at a new connection what the last one left unanswered", () => {
  const ids = new PacketIds(() => [2]);
  for (let turn = 0; turn < 65_535; turn += 1) ids.allocate();
  ids.clear();
  assert.equal(ids.allocate(), 1);
  assert.equal(ids.allocate(), 3);
});

// bus-window.test: what stays in the stream, by bytes and by age.
// Path: test → bus-window. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { BUS_LIMITS, BusWindow } from "../../../broker/cluster/bus-window.ts";

const at = (place: number) => ({ series: 1, place });
const KIB = 1_024;

test("nothing is cut below the limits", () => {
  const window = new BusWindow();
  for (let place = 0; place < 50; place += 1) window.add(at(place), 256 * KIB, place * 1_000);
  assert.equal(window.cut(50_000), undefined);
  assert.equal(window.bytes, 50 * 256 * KIB);
});

test("over the limit of bytes the oldest entries go, no more than must", () => {
  const window = new BusWindow();
  const count = BUS_LIMITS.keptBytesMax / (256 * KIB) + 10;
  for (let place = 0; place < count; place += 1) window.add(at(place), 256 * KIB, 0);
  // Four entries to a part of a megabyte: ten too many are three parts.
  assert.deepEqual(window.cut(0), at(12));
  assert.ok(window.bytes <= BUS_LIMITS.keptBytesMax);
  assert.ok(window.bytes > BUS_LIMITS.keptBytesMax - 2 * 1_024 * KIB);
  assert.equal(window.cut(0), undefined);
});

test("what is older than the limit goes, and what is younger stays", () => {
  const window = new BusWindow();
  for (let place = 0; place < 100; place += 1) window.add(at(place), 100, place * 1_000);
  const first = window.cut(99_500);
  assert.ok(first && first.place >= 38 && first.place <= 40, `from ${first?.place} on`);
});

test("ten million entries are counted in few parts", () => {
  const window = new BusWindow();
  const before = process.memoryUsage().heapUsed;
  for (let place = 0; place < 10_000_000; place += 1) {
    window.add(at(place), 6, place / 200_000);
    if (place % 1_000_000 === 0) window.cut(place / 200_000);
  }
  assert.ok(process.memoryUsage().heapUsed - before < 16 * KIB * KIB);
});

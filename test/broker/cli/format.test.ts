// format.test: how ages, bytes, counts and tables read.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  formatAge,
  formatBytes,
  formatCounted,
  formatShare,
  formatTable,
} from "../../../broker/cli/format.ts";

test("gives an age in the two units that matter", () => {
  const ages: [number, string][] = [
    [0, "0s"],
    [-5_000, "0s"],
    [59_499, "59s"],
    [59_600, "1m 0s"],
    [192_000, "3m 12s"],
    [3_600_000, "1h 0m"],
    [86_399_000, "23h 59m"],
    [86_400_000 * 3 + 3_600_000 * 4, "3d 4h"],
    [86_400_000 * 400, "400d 0h"],
  ];
  for (const [ms, text] of ages) assert.equal(formatAge(ms), text);
});

test("gives bytes in the largest unit that fits", () => {
  const sizes: [number, string][] = [
    [0, "0 B"],
    [1_023, "1023 B"],
    [1_024, "1.0 KiB"],
    [1_048_575, "1.0 MiB"],
    [1_258_291, "1.2 MiB"],
    [2 ** 30, "1.0 GiB"],
    [2 ** 50, "1.0 PiB"],
    [2 ** 53, "8.0 PiB"],
  ];
  for (const [bytes, text] of sizes) assert.equal(formatBytes(bytes), text);
});

test("never shows a thousand and more of a unit", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (bytes) => {
      assert.match(formatBytes(bytes), /^(\d{1,4} B|(\d{1,3}|10[01]\d|102[0-3])\.\d [KMGTP]iB)$/);
    }),
    { seed: 20_260_301, numRuns: 2_000 },
  );
});

test("counts one in the singular and groups thousands", () => {
  assert.equal(formatCounted(1, "message"), "1 message");
  assert.equal(formatCounted(0, "message"), "0 messages");
  assert.equal(formatCounted(119_190, "message"), "119,190 messages");
});

test("gives a share of nothing as 0", () => {
  assert.equal(formatShare(0, 0), "0.0%");
  assert.equal(formatShare(1, 3), "33.3%");
});

test("aligns a table: the first column to the left, numbers to the right", () => {
  assert.equal(
    formatTable([
      ["lane", "waiting"],
      ["default", "1"],
    ]),
    "lane     waiting\ndefault        1\n",
  );
});

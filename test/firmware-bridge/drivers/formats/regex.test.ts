// regex.test: what lines and frames read by regular expressions promise, by the codec of lines.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { says } from "../line-codec.ts";

test("has a channel for each named group, of the first expression that fits", () => {
  const patterns = [
    "^T (?<temperature>[-0-9.]+)(?: H (?<humidity>[0-9.]+))?$",
    "^(?<event>\\p{L}+)!$",
    "(?<set>[0-9]+)",
  ];
  const lines: Record<string, string[]> = {
    "T 21.50 H 40": ["temperature=21.50", "humidity=40"],
    "T -3": ["temperature=-3"],
    "Tür!": [`event=${Buffer.from("Tür").toString("latin1")}`],
    "no 7 here": ["set_=7"],
    nothing: ["! a line is not regex", "unparsed=nothing"],
  };
  for (const [line, expected] of Object.entries(lines)) {
    assert.deepEqual(says({ format: "regex", patterns }, `${line}\n`), expected, line);
  }
});

test("takes time in proportion to the line, whatever stands in it", () => {
  for (const pattern of ["^(?<a>(?:a+)+)$", "^(?<a>.*.*.*.*=.*)$", "^(?<a>(?:a?){100}a{100})b$"]) {
    const format = "regex" as const;
    const settings = { format, patterns: [pattern], line_bytes_max: 65_536 };
    const startedMs = performance.now();
    says(settings, `${"a".repeat(65_000)}!\n`);
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs < 2_000, `${pattern} took ${tookMs} ms`);
  }
});

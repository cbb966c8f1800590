// key-value.test: what lines and frames of pairs promise, by the codec of lines.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { encode, refused, says } from "../line-codec.ts";

test("reads pairs as devices write them", () => {
  const lines: Record<string, string[]> = {
    "a=1 b=2": ["a=1", "b=2"],
    "a=1,b=2": ["a=1", "b=2"],
    "a=1;b=2;": ["a=1", "b=2"],
    "a: 1": ["a=1"],
    "T:21.5,H:40": ["T=21.5", "H=40"],
    "Temperature: 21.5 C, Humidity: 40 %": ["Temperature=21.5 C", "Humidity=40 %"],
    "a = 1": ["a=1"],
    "a= b=2": ["a=", "b=2"],
    "a=,b=2": ["a=", "b=2"],
    "at: 2026-01-01 12:30:05, n: 1": ["at=2026-01-01 12:30:05", "n=1"],
    "see: http://host:80/x?y=z": ["see=http://host:80/x?y=z"],
    'msg="hello, a=1" n=2': ["msg=hello, a=1", "n=2"],
    "\u00e9=1": ["\u00e9=1"],
    "28-ff=21.5 set=1 a/b=2": ["28-ff=21.5", "set_=1", "a_b=2"],
  };
  for (const [line, messages] of Object.entries(lines)) {
    assert.deepEqual(says({ format: "key-value" }, `${line}\n`), messages, line);
  }
});

test("takes time in proportion to the line, whatever it holds", () => {
  for (const piece of [" ", "a", "a ", "a=", "a: ", ", ", '"', ' a="', "k ".repeat(20), "a b:"]) {
    const line = piece.repeat(65_000 / piece.length);
    const startedMs = performance.now();
    says({ format: "key-value", line_bytes_max: 65_536 }, `a=1 ${line}\n`);
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs < 1_000, `${JSON.stringify(piece)} took ${tookMs} ms`);
  }
});

test("refuses what would bring a second pair with it", () => {
  for (const value of ["1 valve=1", "1,valve=1", "1;valve=1", '"1', "1\tvalve=1"]) {
    refused(/a value holds no blank/, encode({ format: "key-value" }, "led", value));
  }
  for (const channel of ["led=1 valve", "a b", "a:b c", 'a"']) {
    refused(/cannot be a key/, encode({ format: "key-value" }, channel, "1"));
  }
});

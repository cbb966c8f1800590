// landing.test: what gateway and cloud may rely on about the landing's keys and answers.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  gatewayOfKey,
  landingKeys,
  parseAppendAnswer,
  parsePosition,
  parseSentMs,
} from "#contract/landing";
import { NAME_PATTERN } from "#contract/topics";

const RUNS = { seed: 20_260_105, numRuns: 1_000 } as const;

test("reads a gateway's name back out of each of its keys", () => {
  fc.assert(
    fc.property(fc.stringMatching(NAME_PATTERN), (gateway) => {
      for (const key of Object.values(landingKeys(gateway))) {
        assert.equal(gatewayOfKey(key), gateway);
        assert.ok(key.startsWith(`{${gateway}}:`));
      }
    }),
    RUNS,
  );
});

test("takes a name from no key that a gateway cannot have", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((name) => `{${name}}:up`),
      ),
      (key) => {
        const gateway = gatewayOfKey(key);
        if (gateway !== undefined) assert.match(gateway, NAME_PATTERN);
      },
    ),
    RUNS,
  );
  for (const key of ["{a/b}:up", "{+}:up", "{}:up", "{a}:other", "{a}:up\n", "x{a}:up", "a:up"]) {
    assert.equal(gatewayOfKey(key), undefined, key);
  }
});

test("reads each answer of the functions, numbers as text or not", () => {
  for (const status of ["OK", "DUP", "GAP", "FENCED"] as const) {
    assert.deepEqual(parseAppendAnswer([status, 3, "17"]), { status, epoch: 3, seq: 17 });
    const buffers = [Buffer.from(status), Buffer.from("3"), 17];
    assert.deepEqual(parseAppendAnswer(buffers), { status, epoch: 3, seq: 17 });
  }
});

test("reads how full the landing is", () => {
  assert.deepEqual(parseAppendAnswer(["FULL", "90", "100"]), {
    status: "FULL",
    why: "the landing has no room for this gateway: it holds 90 of 100 bytes until the cloud has taken them in",
  });
});

test("refuses an answer that is not the functions', in a message of bounded length", () => {
  const replies: unknown[] = [null, undefined, "OK", [], ["OK"], ["YES", 1, 2], ["OK", 1, 2, 3]];
  replies.push(
    ["OK", "x", 1],
    ["OK", 1, "y"],
    ["OK", 1, -1],
    ["OK", 1.5, 1],
    ["OK", null, null],
    ["FULL", 1, "x"],
  );
  replies.push(["x".repeat(100_000)]);
  for (const reply of replies) {
    assert.throws(
      () => parseAppendAnswer(reply),
      (fault: Error & { code?: string }) =>
        fault.code === "CLOUD_UNREACHABLE" && fault.message.length < 300,
      JSON.stringify(reply)?.slice(0, 80),
    );
  }
});

test("reads a position, and 0 from what is none", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (epoch, seq) => {
      assert.deepEqual(parsePosition(`${epoch}:${seq}`), { epoch, seq });
    }),
    RUNS,
  );
  for (const text of ["", ":", "x:y", "nonsense"]) {
    assert.deepEqual(parsePosition(text), { epoch: 0, seq: 0 });
  }
});

test("reads when a frame was sent, and nothing from what is no time", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (sentMs) => {
      assert.equal(parseSentMs(String(sentMs)), sentMs);
    }),
    RUNS,
  );
  for (const text of ["", "-1", "1.5", "1e9", "nan", "inf", "0x10", "9".repeat(16), "x"]) {
    assert.equal(parseSentMs(text), undefined, text);
  }
});

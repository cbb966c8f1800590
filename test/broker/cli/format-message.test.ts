// format-message.test: what a line of `sluice tail` promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatJson, formatMessage } from "../../../broker/cli/format-message.ts";

const AT = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const message = (payload: string | Uint8Array, topic = "a/b") => ({
  ...{ topic, payload, qos: 1, retain: false },
});
const shown = (payload: string | Uint8Array) => formatMessage(message(payload), AT).slice(29);

test("shows time, topic and text", () => {
  assert.equal(formatMessage(message("21.5 °C"), AT), "2026-01-02T03:04:05.678Z a/b 21.5 °C");
});

test("shows what is no text in hex, with its size", () => {
  assert.equal(shown(Uint8Array.of(0xff, 0x00, 0x10)), "0xff0010 (3 B)");
  assert.equal(shown(Uint8Array.of(0, 1, 2)), "0x000102 (3 B)");
  assert.equal(shown(""), "(0 B)");
});

test("keeps a message on its line, whatever topic and payload hold", () => {
  assert.equal(shown("a\nb\tc\r\n"), "a\\nb\\tc\\r\\n");
  assert.equal(formatMessage(message("x", "a\nb\u001b[2J"), AT).slice(25), "a\\nb\\u{1b}[2J x");
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 3_000 }),
      fc.string({ unit: "binary" }),
      (payload, topic) => {
        const line = formatMessage(message(payload, topic), AT);
        assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      },
    ),
    { seed: 20_260_302, numRuns: 500 },
  );
});

test("cuts what is long, between characters, and says how long it is", () => {
  assert.equal(shown("x".repeat(1_024)), "x".repeat(1_024));
  assert.equal(shown("x".repeat(2_048)), `${"x".repeat(1_024)}… (2.0 KiB)`);
  assert.equal(shown(`${"x".repeat(1_023)}😀`), `${"x".repeat(1_023)}… (1.0 KiB)`);
  assert.equal(shown(new Uint8Array(512)), `0x${"00".repeat(512)} (512 B)`);
  assert.equal(shown(new Uint8Array(5_000)), `0x${"00".repeat(512)}… (4.9 KiB)`);
});

test("gives a program the whole payload: as text if it is UTF-8, else in base64", () => {
  const at = "2026-01-02T03:04:05.678Z";
  assert.deepEqual(JSON.parse(formatJson(message("é\n\u0000"), AT)), {
    ...{ at, topic: "a/b", qos: 1, retain: false, payload: "é\n\u0000" },
  });
  assert.deepEqual(JSON.parse(formatJson(message(Uint8Array.of(0xff)), AT)), {
    ...{ at, topic: "a/b", qos: 1, retain: false, payload_base64: "/w==" },
  });
});

test("gives a program each payload back as it was, on one line", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (payload) => {
      const line = formatJson(message(payload), AT);
      assert.ok(!line.includes("\n"));
      const { payload: text, payload_base64: base64 } = JSON.parse(line);
      const read = text === undefined ? Buffer.from(base64, "base64") : Buffer.from(text, "utf8");
      assert.deepEqual(Uint8Array.from(read), payload);
    }),
    { seed: 20_260_303, numRuns: 1_000 },
  );
});

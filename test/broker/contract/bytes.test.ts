// bytes.test: what the varints and the reader of records and frames promise.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ByteReader, varintBytes, writeVarint } from "#contract/bytes";
import { assertOnlyFrameInvalid } from "./frame-invalid.ts";

const RUNS = { seed: 20_260_101, numRuns: 500 } as const;
const wholeNumbers = fc.oneof(
  fc.nat({ max: 70_000 }),
  fc.maxSafeNat(),
  fc.constantFrom(0, 0x7f, 0x80, 0x3fff, 0x4000, 2 ** 32, 2 ** 49, Number.MAX_SAFE_INTEGER),
);

test("reads back each whole number that it wrote, in the bytes that it announced", () => {
  fc.assert(
    fc.property(fc.array(wholeNumbers, { maxLength: 20 }), (values) => {
      const bytes = new Uint8Array(values.reduce((sum, value) => sum + varintBytes(value), 0));
      let at = 0;
      for (const value of values) at = writeVarint(bytes, at, value);
      assert.equal(at, bytes.length);
      const reader = new ByteReader(bytes);
      for (const value of values) assert.equal(reader.varint(), value);
      assert.equal(reader.left, 0);
    }),
    RUNS,
  );
});

test("puts the least significant seven bits first", () => {
  const bytes = new Uint8Array(2);
  assert.equal(writeVarint(bytes, 0, 300), 2);
  assert.deepEqual([...bytes], [0xac, 0x02]);
});

test("refuses a number over 2^53 - 1, however it is spelt", () => {
  const over = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
  for (const bytes of [over, Array(8).fill(0xff), [...Array(8).fill(0x80), 0x01]]) {
    assert.throws(() => new ByteReader(Uint8Array.from(bytes)).varint(), {
      name: "SluiceError",
      code: "FRAME_INVALID",
      message: "holds a number over 2^53 - 1",
    });
  }
});

test("refuses to read past the end and says what it wanted", () => {
  const reader = new ByteReader(Uint8Array.of(1, 2));
  assert.throws(() => reader.take(3), { code: "FRAME_INVALID", message: "wants 3 bytes, has 2" });
  assert.deepEqual([...reader.take(2)], [1, 2]);
  assert.throws(() => reader.byte(), { code: "FRAME_INVALID" });
});

test("takes a view, not a copy", () => {
  const bytes = Uint8Array.of(1, 2, 3);
  const view = new ByteReader(bytes).take(3);
  bytes[1] = 9;
  assert.equal(view[1], 9);
});

test("answers arbitrary bytes with a safe whole number or FRAME_INVALID", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 12 }), (bytes) => {
      assertOnlyFrameInvalid(() => {
        const value = new ByteReader(bytes).varint();
        assert.ok(Number.isSafeInteger(value) && value >= 0);
      });
    }),
    RUNS,
  );
});

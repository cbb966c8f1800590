// frame.test: what frames promise: all of a run of records, each with its place, or a refusal.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeFrame, encodeFrame, FRAME_LIMITS, type Sequenced } from "#contract/frame";
import { encodeGap, encodeMessage } from "#contract/message";
import { assertOnlyFrameInvalid } from "./frame-invalid.ts";

const RUNS = { seed: 20_260_103, numRuns: 500 } as const;

const message = {
  topic: "a",
  payload: Uint8Array.of(7),
  qos: 1,
  retain: false,
  takenAtMs: 1,
} as const;

/** A run of records from `firstSeq` on: null is a message, a number a gap that is that long. */
function run(firstSeq: number, shape: readonly (number | null)[]) {
  const places: Sequenced[] = [];
  const bytes: Uint8Array[] = [];
  let next = firstSeq;
  for (const long of shape) {
    const last = next + (long ?? 1) - 1;
    const gap = { from: next, to: last, count: long ?? 0, reason: "limit" };
    bytes.push(long === null ? encodeMessage(message) : encodeGap(gap));
    const record =
      long === null ? { kind: "message" as const, message } : { kind: "gap" as const, gap };
    places.push({ first: next, last, record });
    next = last + 1;
  }
  return { places, bytes };
}

const shapes = fc.array(fc.option(fc.integer({ min: 1, max: 1_000_000 })), {
  minLength: 1,
  maxLength: FRAME_LIMITS.recordsMax,
});

test("reads back each run of records with the places that they have", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 44 }), shapes, (firstSeq, shape) => {
      const { places, bytes } = run(firstSeq, shape);
      assert.deepEqual(decodeFrame(encodeFrame(firstSeq, bytes)), places);
    }),
    RUNS,
  );
});

test("keeps the layout that lies in the landing", () => {
  const frame = encodeFrame(300, [Uint8Array.of(0x01, 0x00, 0x00)]);
  assert.equal(Buffer.from(frame).toString("hex"), "01ac0203010000");
});

test("reads a frame in a slice of a larger buffer", () => {
  const frame = encodeFrame(5, [encodeMessage(message)]);
  const larger = Buffer.concat([Buffer.from("xx"), frame, Buffer.from("yy")]);
  assert.deepEqual(
    decodeFrame(new Uint8Array(larger.buffer, larger.byteOffset + 2, frame.length)),
    decodeFrame(frame),
  );
});

test("refuses a frame that is empty, of another version, without a record or cut off", () => {
  const whole = encodeFrame(1, [encodeMessage(message), encodeMessage(message)]);
  const refusals: [Uint8Array, RegExp][] = [
    [new Uint8Array(), /ends in the middle/],
    [Uint8Array.of(2, ...whole.subarray(1)), /^frame version 2, knows 1$/],
    [encodeFrame(1, []), /^frame without a record$/],
    [encodeFrame(1, [new Uint8Array()]), /ends in the middle/],
    [whole.subarray(0, whole.length - 1), /wants \d+ bytes, has \d+/],
  ];
  for (const [bytes, wanted] of refusals) {
    assert.throws(() => decodeFrame(bytes), { code: "FRAME_INVALID", message: wanted });
  }
});

test("refuses a gap that does not begin at its own place", () => {
  const gap = encodeGap({ from: 8, to: 9, count: 2, reason: "limit" });
  assert.throws(() => decodeFrame(encodeFrame(7, [gap])), {
    code: "FRAME_INVALID",
    message: "gap from 8 stands at 7",
  });
});

test("refuses sequence 0, which stands for none, and sequences beyond 2^53 - 1", () => {
  const record = encodeMessage(message);
  assert.throws(() => decodeFrame(encodeFrame(0, [record])), { code: "FRAME_INVALID" });
  const last = Number.MAX_SAFE_INTEGER;
  assert.equal(decodeFrame(encodeFrame(last, [record]))[0]?.last, last);
  assert.throws(() => decodeFrame(encodeFrame(last, [record, record])), { code: "FRAME_INVALID" });
});

test("answers arbitrary bytes with a run of consecutive records or FRAME_INVALID", () => {
  const framed = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 5 });
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.uint8Array({ maxLength: 80 }).map((rest) => Uint8Array.of(1, ...rest)),
    fc.tuple(fc.maxSafeNat(), framed).map(([firstSeq, records]) => encodeFrame(firstSeq, records)),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      assertOnlyFrameInvalid(() => assertConsecutive(decodeFrame(input)));
    }),
    { ...RUNS, numRuns: 5_000 },
  );
});

test("answers a frame with a flipped bit with consecutive records or FRAME_INVALID", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 44 }), shapes, fc.nat(), (firstSeq, shape, at) => {
      const frame = encodeFrame(firstSeq, run(firstSeq, shape).bytes);
      const index = (at >> 3) % frame.length;
      frame[index] = (frame[index] ?? 0) ^ (1 << (at & 7));
      assertOnlyFrameInvalid(() => assertConsecutive(decodeFrame(frame)));
    }),
    RUNS,
  );
});

function assertConsecutive(records: readonly Sequenced[]): void {
  assert.ok(records.length > 0);
  for (const [index, { first, last }] of records.entries()) {
    assert.ok(Number.isSafeInteger(last) && first >= 1 && first <= last);
    if (index > 0) assert.equal(first, (records[index - 1]?.last ?? 0) + 1);
  }
}

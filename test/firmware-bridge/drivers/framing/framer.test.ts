// framer.test: what SLIP and COBS promise, alike: frames come back whole, whatever is around them.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cobs } from "../../../../firmware-bridge/drivers/framing/cobs.ts";
import { type Framed, Framer } from "../../../../firmware-bridge/drivers/framing/framer.ts";
import { slip } from "../../../../firmware-bridge/drivers/framing/slip.ts";

const RUNS = { seed: 20_260_104, numRuns: 500 } as const;
const FRAMINGS = { slip, cobs } as const;
const BYTES_MAX = 600;

// Bytes that matter to a framing, among any others; long enough for COBS' groups of 254.
const byteOf = fc.oneof(
  fc.constantFrom(0x00, 0xc0, 0xdb, 0xdc, 0xdd, 0xff),
  fc.integer({ min: 0, max: 255 }),
);
const bytesOf = (least: number, most: number) =>
  fc
    .oneof(
      fc.array(byteOf, { minLength: least, maxLength: most }),
      fc.integer({ min: least, max: most }).map((length) => Array(length).fill(1)),
    )
    .map((bytes) => Buffer.from(bytes));
const frameOf = bytesOf(1, BYTES_MAX);

function frames(framed: readonly Framed[]): (Buffer | string)[] {
  return framed.map((it) => (it.kind === "frame" ? Buffer.from(it.bytes) : it.reason));
}

for (const [name, stuffing] of Object.entries(FRAMINGS)) {
  const framer = (bytesMax = BYTES_MAX) => new Framer(stuffing, bytesMax);
  const stuffed = (...all: Uint8Array[]) => Buffer.concat(all.map((it) => stuffing.stuff(it)));

  test(`${name}: gives each frame back, wherever the bytes are cut`, () => {
    fc.assert(
      fc.property(fc.array(frameOf, { maxLength: 5 }), fc.array(fc.nat(3_000)), (all, cuts) => {
        const bytes = stuffed(...all);
        const places = [0, ...cuts.filter((cut) => cut < bytes.length), bytes.length].sort(
          (a, b) => a - b,
        );
        const reader = framer();
        const read = places.flatMap((place, index) =>
          reader.push(bytes.subarray(places[index - 1] ?? 0, place)),
        );
        assert.deepEqual(frames(read), all);
      }),
      RUNS,
    );
  });

  test(`${name}: loses to garbage no frame that comes after it`, () => {
    fc.assert(
      fc.property(bytesOf(0, 2_000), frameOf, (garbage, frame) => {
        const reader = framer();
        reader.push(garbage);
        assert.deepEqual(frames(reader.push(stuffed(frame))).at(-1), frame);
      }),
      RUNS,
    );
  });

  test(`${name}: has the delimiter nowhere in a frame, and no more bytes than it says`, () => {
    fc.assert(
      fc.property(frameOf, (frame) => {
        const bytes = Buffer.from(stuffing.stuff(frame));
        const inner = bytes.subarray(1, -1);
        assert.equal(bytes[0], stuffing.delimiter);
        assert.equal(bytes.at(-1), stuffing.delimiter);
        assert.ok(!inner.includes(stuffing.delimiter));
        assert.ok(inner.length <= stuffing.stuffedMax(frame.length));
      }),
      RUNS,
    );
  });

  test(`${name}: takes any bytes, and gives no frame that is empty or too long`, () => {
    fc.assert(
      fc.property(bytesOf(0, 3_000), fc.integer({ min: 1, max: 300 }), (bytes, bytesMax) => {
        for (const framed of framer(bytesMax).push(bytes)) {
          if (framed.kind === "frame") assert.ok(framed.bytes.length <= bytesMax);
        }
      }),
      RUNS,
    );
  });

  test(`${name}: lets a frame go that is longer than its bound, and only that one`, () => {
    const reader = framer(3);
    const bytes = [4, 400, 3].map((length) => Buffer.alloc(length, 1));
    assert.deepEqual(frames(reader.push(stuffed(...bytes))), [
      "a frame is longer than 3 bytes",
      "a frame is longer than 3 bytes",
      Buffer.alloc(3, 1),
    ]);
  });

  test(`${name}: holds one frame at the most, however long the device goes on`, () => {
    const reader = framer();
    const chunk = Buffer.alloc(65_536, 1);
    const before = process.memoryUsage().arrayBuffers;
    let faults = 0;
    for (let turn = 0; turn < 1_000; turn += 1) faults += reader.push(chunk).length;
    assert.equal(faults, 1);
    assert.ok(process.memoryUsage().arrayBuffers - before < 1_000_000);
    const frame = Buffer.from("next");
    assert.deepEqual(frames(reader.push(stuffed(frame))), [frame]);
  });
}

test("slip: is written as in RFC 1055, and read with an END before it or without", () => {
  const frame = Buffer.from("01c002db03", "hex");
  assert.equal(Buffer.from(slip.stuff(frame)).toString("hex"), "c001dbdc02dbdd03c0");
  for (const bytes of ["01dbdc02dbdd03c0", "c001dbdc02dbdd03c0", "c0c0c001dbdc02dbdd03c0c0"]) {
    assert.deepEqual(frames(new Framer(slip, 9).push(Buffer.from(bytes, "hex"))), [frame]);
  }
});

test("slip: is broken by an ESC before another byte, or at the end", () => {
  for (const bytes of ["01db02c0", "01dbc0"]) {
    const read = new Framer(slip, 9).push(Buffer.from(bytes, "hex"));
    assert.deepEqual(frames(read), ["a frame is broken"]);
  }
});

test("cobs: is written as in the article's examples", () => {
  const run = (from: number, to: number) =>
    Buffer.from(Array.from({ length: to - from + 1 }, (_, index) => from + index)).toString("hex");
  const examples: Readonly<Record<string, string>> = {
    "00": "0101",
    "0000": "010101",
    "001100": "01021101",
    "11220033": "0311220233",
    "11223344": "0511223344",
    "11000000": "0211010101",
    [run(0x01, 0xfe)]: `ff${run(0x01, 0xfe)}`,
    [`00${run(0x01, 0xfe)}`]: `01ff${run(0x01, 0xfe)}`,
    [run(0x01, 0xff)]: `ff${run(0x01, 0xfe)}02ff`,
    [`${run(0x02, 0xff)}00`]: `ff${run(0x02, 0xff)}0101`,
    [`${run(0x03, 0xff)}0001`]: `fe${run(0x03, 0xff)}0201`,
  };
  for (const [frame, bytes] of Object.entries(examples)) {
    const stuffed = Buffer.from(cobs.stuff(Buffer.from(frame, "hex"))).toString("hex");
    assert.equal(stuffed, `00${bytes}00`);
  }
});

test("cobs: is broken by a code that points behind the frame's end", () => {
  const read = new Framer(cobs, 9).push(Buffer.from("0511223300", "hex"));
  assert.deepEqual(frames(read), ["a frame is broken"]);
});

// progress.test: what is read from programmers' output, in whatever pieces it comes.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LastWords, ProgressReader } from "../../../firmware-bridge/flash/progress.ts";
import { AVRDUDE_BAD, AVRDUDE_GOOD } from "./avrdude-output.ts";

function read(pieces: readonly string[]) {
  const words = new LastWords();
  const reader = new ProgressReader(words);
  const found = pieces.flatMap((piece) => reader.push(piece));
  reader.end();
  return { found: found.map(({ step, percent }) => `${step} ${percent}`), words: words.text };
}

test("follows avrdude's bars # by #, and knows verifying from reading", () => {
  const { found, words } = read(AVRDUDE_GOOD);
  const steps = (step: string) => Array.from({ length: 51 }, (_, index) => `${step} ${index * 2}`);
  assert.deepEqual(found, [...steps("writing"), ...steps("verifying")]);
  assert.match(words, /avrdude: 6028 bytes of flash verified$/);
});

test("follows the bars that avrdude draws on a terminal", () => {
  const bar = (percent: number) =>
    `\rWriting | ${"#".repeat(percent / 2).padEnd(50)} | ${percent}% 0.10s`;
  assert.deepEqual(read(["\n", bar(0), bar(50), bar(100), "\n"]).found, [
    "writing 0",
    "writing 50",
    "writing 100",
  ]);
});

test("takes what is read before anything is written for reading", () => {
  assert.deepEqual(read(["Reading | ## | 100% 0.00s\n\n", "Writing | #"]).found, [
    "reading 100",
    "writing 2",
  ]);
});

test("has avrdude's own words for a failure, and none of its courtesies", () => {
  const { found, words } = read([AVRDUDE_BAD]);
  assert.deepEqual(found, []);
  assert.equal(
    words,
    "avrdude: stk500_getsync() attempt 9 of 10: not in sync: resp=0x00; " +
      "avrdude: stk500_getsync() attempt 10 of 10: not in sync: resp=0x00; " +
      "avrdude error: unable to open programmer arduino on port /dev/ttyUSB0",
  );
});

test("follows esptool 4 and 5", () => {
  const four = ["Writing at 0x00010000... (50 %)\n", "Writing at 0x00014000... (100 %)\n"];
  const five = [
    "\rWriting at 0x00010000 [==============>               ]  50.0% 4096/8192 bytes... \n",
    "\r\x1b[KWriting at 0x00011000 [==============================] 100.0% 8192/8192 bytes... \n",
  ];
  for (const lines of [four, five]) {
    const { found, words } = read([...lines, "Hash of data verified.\n", "Leaving...\n"]);
    assert.deepEqual(found, ["writing 50", "writing 100", "verifying 100"]);
    assert.equal(words, "");
  }
  const fatal = "A fatal error occurred: Failed to connect to ESP32: No serial data received.\n";
  assert.equal(read([fatal]).words, fatal.trim());
});

test("reads the same from whatever pieces the output comes in", () => {
  const text = AVRDUDE_GOOD.join("") + AVRDUDE_BAD;
  const whole = read([...text]);
  fc.assert(
    fc.property(fc.array(fc.nat(text.length), { maxLength: 40 }), (cuts) => {
      const ends = [...cuts, text.length].toSorted((a, b) => a - b);
      const pieces = ends.map((end, index) => text.slice(ends[index - 1] ?? 0, end));
      const { found, words } = read(pieces);
      assert.equal(words, whole.words);
      // A larger piece tells fewer steps, but no other ones, and the last of them.
      assert.ok(found.every((step) => whole.found.includes(step)));
      assert.equal(found.at(-1), whole.found.at(-1));
    }),
    { seed: 20_261_125, numRuns: 300 },
  );
});

test("holds no more than it may of a program that never ends a line", () => {
  const words = new LastWords();
  const reader = new ProgressReader(words);
  reader.push("the beginning ");
  for (let count = 0; count < 1_000; count++) reader.push("x".repeat(10_000));
  reader.end();
  assert.equal(words.text, `g ${"x".repeat(498)}`);
  for (let count = 0; count < 100; count++) words.add("y".repeat(500));
  assert.equal(words.text.length, 500);
});

test("takes whatever bytes come, and tells no more than 100 per cent", () => {
  const piece = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("Writing | ", "#".repeat(80), " | 999%", "\n", "\r", "\x1b[K", "Writing at 0x"),
  );
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      const reader = new ProgressReader(new LastWords());
      for (const text of pieces) {
        for (const { percent } of reader.push(text)) assert.ok(percent >= 0 && percent <= 100);
      }
    }),
    { seed: 20_261_125, numRuns: 1_000 },
  );
});

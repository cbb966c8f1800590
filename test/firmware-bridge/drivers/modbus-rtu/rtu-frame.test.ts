// rtu-frame.test: frames are those of the specification, and are found among other bytes.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  readRequest,
  writeCoil,
  writeRegisters,
} from "../../../../firmware-bridge/drivers/modbus-rtu/pdu.ts";
import {
  beginsLike,
  findFrame,
  rtuFrame,
  silenceMs,
} from "../../../../firmware-bridge/drivers/modbus-rtu/rtu-frame.ts";
import { answerFrame } from "./fake-bus.ts";

const RUNS = { seed: 5, numRuns: 1_000 };

test("computes the check sum of the specification's example", () => {
  // Modbus over Serial Line V1.02 §6.2.2: 02 07 gives 0x1241, sent as 41 12.
  const frame = rtuFrame({ unit: 2, pdu: Buffer.from([7]) });
  assert.equal(frame.toString("hex"), "02074112");
});

test("makes the frames that data sheets show", () => {
  const hex = (request: Parameters<typeof rtuFrame>[0]) => rtuFrame(request).toString("hex");
  // An SDM630's voltage; the reads and writes of the Application Protocol's own examples (§6).
  assert.equal(hex(readRequest(1, "input", 0, 2)), "01040000000271cb");
  assert.equal(readRequest(1, "coil", 0x13, 0x13).pdu.toString("hex"), "0100130013");
  assert.equal(readRequest(1, "discrete", 0xc4, 0x16).pdu.toString("hex"), "0200c40016");
  assert.equal(readRequest(1, "holding", 0x6b, 3).pdu.toString("hex"), "03006b0003");
  assert.equal(writeCoil(1, 0xac, true, false).pdu.toString("hex"), "0500acff00");
  assert.equal(writeCoil(1, 0x13, true, true).pdu.toString("hex"), "0f001300010101");
  const one = Buffer.from([0, 3]);
  assert.equal(writeRegisters(1, 1, one, false).pdu.toString("hex"), "0600010003");
  assert.equal(writeRegisters(1, 1, one, true).pdu.toString("hex"), "1000010001020003");
  const two = Buffer.from([0, 10, 1, 2]);
  assert.equal(writeRegisters(1, 1, two, false).pdu.toString("hex"), "100001000204000a0102");
});

test("waits 3.5 characters between frames, and 1.75 ms at the least", () => {
  assert.equal(silenceMs(9_600).toFixed(2), "4.01");
  assert.equal(silenceMs(115_200), 1.75);
  assert.equal(silenceMs(undefined), 0);
});

test("finds an answer among any other bytes, wherever it is cut", () => {
  const request = readRequest(7, "holding", 10, 2);
  const answer = answerFrame(7, 3, 4, 1, 2, 3, 4);
  const anyBytes = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(anyBytes, anyBytes, fc.nat(answer.length - 1), (before, after, cut) => {
      const whole = Buffer.concat([before, answer, after]);
      const found = findFrame(whole, [request]) ?? assert.fail();
      assert.equal(found.pdu.toString("hex"), "030401020304");
      assert.equal(found.start, before.length);
      assert.equal(found.end, before.length + answer.length);
      const half = whole.subarray(0, before.length + cut);
      assert.equal(findFrame(half, [request]), undefined);
    }),
    RUNS,
  );
});

test("takes nothing for an answer that is another slave's, another function's or broken", () => {
  const request = readRequest(7, "holding", 10, 2);
  const others = [
    answerFrame(8, 3, 4, 1, 2, 3, 4),
    answerFrame(7, 4, 4, 1, 2, 3, 4),
    answerFrame(7, 3, 2, 1, 2),
    answerFrame(7, 3, 6, 1, 2, 3, 4, 5, 6),
    answerFrame(8, 0x83, 2),
    answerFrame(7, 0x84, 2),
    rtuFrame(request),
  ];
  for (const frame of others) assert.equal(findFrame(frame, [request]), undefined);
  const right = answerFrame(7, 3, 4, 1, 2, 3, 4);
  const anyFlip = fc.tuple(fc.nat(right.length - 1), fc.integer({ min: 1, max: 255 }));
  fc.assert(
    fc.property(anyFlip, ([index, mask]) => {
      const broken = Buffer.from(right);
      broken[index] = (broken[index] ?? 0) ^ mask;
      assert.equal(findFrame(broken, [request]), undefined);
    }),
    RUNS,
  );
});

test("takes an answer to a write for one only where it repeats what was written", () => {
  const request = writeRegisters(1, 100, Buffer.from([0, 5]), false);
  assert.ok(findFrame(answerFrame(1, 6, 0, 100, 0, 5), [request]));
  assert.equal(findFrame(answerFrame(1, 6, 0, 100, 0, 6), [request]), undefined);
  assert.equal(findFrame(answerFrame(1, 6, 0, 101, 0, 5), [request]), undefined);
});

test("knows an answer that did not come to its end", () => {
  const request = readRequest(7, "holding", 10, 2);
  assert.equal(beginsLike(Buffer.from([7, 3]), request), true);
  assert.equal(beginsLike(Buffer.from([7, 0x83, 1]), request), true);
  assert.equal(beginsLike(Buffer.from([7]), request), false);
  assert.equal(beginsLike(Buffer.from([0, 7, 3]), request), false);
});

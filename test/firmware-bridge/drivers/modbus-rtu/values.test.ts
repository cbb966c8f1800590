// values.test: what registers hold is read and written as the data sheet says, to the last digit.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  decodeRegisters,
  encodeRegisters,
  NUMBER_TYPES,
  TYPES,
  type ValueLayout,
  widthOf,
} from "../../../../firmware-bridge/drivers/modbus-rtu/values.ts";

const RUNS = { seed: 5, numRuns: 1_000 };

function layout(some: Partial<ValueLayout>): ValueLayout {
  const standard = { byteOrder: "big", wordOrder: "big", scale: 1, offset: 0 } as const;
  return { type: "uint16", ...standard, ...some };
}

function decode(hex: string, some: Partial<ValueLayout>): string | undefined {
  return decodeRegisters(layout(some), Buffer.from(hex, "hex"));
}

function encode(text: string, some: Partial<ValueLayout> = {}): string {
  const encoded = encodeRegisters(layout(some), Buffer.from(text));
  return encoded.kind === "bytes" ? encoded.bytes.toString("hex") : encoded.reason;
}

const anyOrder = fc.record({
  byteOrder: fc.constantFrom("big", "little"),
  wordOrder: fc.constantFrom("big", "little"),
});

test("knows the four orders of 21.5 as float32", () => {
  assert.equal(decode("41ac0000", { type: "float32" }), "21.5");
  assert.equal(decode("000041ac", { type: "float32", wordOrder: "little" }), "21.5");
  assert.equal(decode("ac410000", { type: "float32", byteOrder: "little" }), "21.5");
  const both = { byteOrder: "little", wordOrder: "little" } as const;
  assert.equal(decode("0000ac41", { type: "float32", ...both }), "21.5");
});

test("reads each type", () => {
  const cases: [string, Partial<ValueLayout>, string][] = [
    ["fffb", { type: "uint16" }, "65531"],
    ["fffb", { type: "int16" }, "-5"],
    ["fffe1dc0", { type: "int32" }, "-123456"],
    ["ee6b2800", { type: "uint32" }, "4000000000"],
    ["ffffffffffffffff", { type: "uint64" }, "18446744073709551615"],
    ["8000000000000000", { type: "int64" }, "-9223372036854775808"],
    ["406cc80000000000", { type: "float64" }, "230.25"],
    ["1234", { type: "bcd16" }, "1234"],
    ["00123456", { type: "bcd32" }, "123456"],
    ["0001", { type: "bool" }, "true"],
    ["0000", { type: "bool" }, "false"],
    ["8001", { type: "bit", bit: 15 }, "true"],
    ["8001", { type: "bit", bit: 0 }, "true"],
    ["8001", { type: "bit", bit: 1 }, "false"],
    ["4d45544552203031", { type: "string", length: 8 }, "METER 01"],
    ["4d4500002020", { type: "string", length: 6 }, "ME"],
    ["4d452020", { type: "string", length: 3 }, "ME"],
    ["454d4554", { type: "string", length: 4, byteOrder: "little" }, "METE"],
  ];
  for (const [hex, some, value] of cases) assert.equal(decode(hex, some), value, hex);
});

test("scales without a trace of floating point", () => {
  assert.equal(decode("00e7", { scale: 0.1 }), "23.1");
  assert.equal(decode("0003", { scale: 0.1 }), "0.3");
  assert.equal(decode("ffff", { type: "int16", scale: 0.01, offset: -40 }), "-40.01");
  assert.equal(decode("7fffffffffffffff", { type: "int64", scale: 0.001 }), "9223372036854775.807");
});

test("tells a float32 by the digits that it has", () => {
  assert.equal(decode("4366199a", { type: "float32" }), "230.1");
  assert.equal(decode("43661999", { type: "float32" }), "230.09999");
  assert.equal(decode("4366199a", { type: "float32", scale: 0.001 }), "0.2301");
});

test("says null for what is no number, and nothing for what is not of the type", () => {
  for (const hex of ["7fc00000", "ffc00000", "7f800000", "ff800000"]) {
    assert.equal(decode(hex, { type: "float32" }), "null");
  }
  assert.equal(decode("7ff8000000000000", { type: "float64" }), "null");
  assert.equal(decode("12f4", { type: "bcd16" }), undefined);
});

test("what is read can be written, bit by bit, in all types and orders", () => {
  for (const type of NUMBER_TYPES) {
    const bytes = widthOf({ type }) * 2;
    const anyRegisters = fc.uint8Array({ minLength: bytes, maxLength: bytes });
    fc.assert(
      fc.property(anyRegisters, anyOrder, (registers, order) => {
        const it = layout({ type, ...order });
        const value = decodeRegisters(it, registers);
        if (value === undefined || value === "null") return;
        const encoded = encodeRegisters(it, Buffer.from(value));
        assert.ok(encoded.kind === "bytes", `${type} ${value}`);
        const again = decodeRegisters(it, encoded.bytes);
        assert.equal(again, value);
        // A float has two zeros.
        if (value !== "0") assert.equal(encoded.bytes.toString("hex"), hexOf(registers));
      }),
      RUNS,
    );
  }
});

test("what is scaled can be written, bit by bit", () => {
  const anyScale = fc.constantFrom(0.1, 0.001, 10, -0.5, 3, 1e-9);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), anyScale, (registers, scale) => {
      for (const offset of [0, -40.05]) {
        const it = layout({ type: "int64", scale, offset });
        const value = decodeRegisters(it, registers) ?? "";
        assert.equal(encode(value, it), hexOf(registers), value);
      }
    }),
    RUNS,
  );
});

test("texts come back as they were written", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 20 }), anyOrder, (written, order) => {
      const text = written.replaceAll("\0", "").trimEnd();
      const it = layout({ type: "string", length: 20, ...order });
      const encoded = encodeRegisters(it, Buffer.from(text));
      assert.ok(encoded.kind === "bytes");
      assert.equal(decodeRegisters(it, encoded.bytes), text);
    }),
    RUNS,
  );
});

test("writes numbers, words and texts", () => {
  assert.equal(encode("21.5", { type: "float32" }), "41ac0000");
  assert.equal(encode(" 21.5\n", { scale: 0.1 }), "00d7");
  assert.equal(encode("2.15e1", { scale: 0.1 }), "00d7");
  assert.equal(encode("-5", { type: "int16" }), "fffb");
  assert.equal(encode("ON", { type: "bool" }), "0001");
  assert.equal(encode("false", { type: "bool" }), "0000");
  assert.equal(encode("ab", { type: "string", length: 4 }), "61620000");
});

test("refuses what the register cannot hold, and says why", () => {
  assert.match(encode("21.55", { scale: 0.1 }), /21.55 lies between two steps of 0.1/);
  assert.match(encode("65536"), /too large for uint16/);
  assert.match(encode("-1"), /too large for uint16/);
  assert.match(encode("32768", { type: "int16" }), /too large for int16/);
  assert.match(encode("1e39", { type: "float32" }), /too large for float32/);
  assert.match(encode("10000", { type: "bcd16" }), /too large for bcd16/);
  assert.match(encode("4", { min: 5 }), /4 is less than 5/);
  assert.match(encode("30.1", { max: 30, scale: 0.1 }), /30.1 is more than 30/);
  assert.match(encode("warm"), /"warm" is not a number/);
  assert.match(encode("1e999999999"), /is not a number/);
  assert.match(encode("maybe", { type: "bool" }), /"maybe" is not true or false/);
  assert.match(encode("hello", { type: "string", length: 4 }), /longer than 4 bytes/);
});

test("never throws, whatever it is told to write", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(...TYPES), (payload, type) => {
      const it = layout({ type, ...(type === "string" ? { length: 9 } : {}) });
      const encoded = encodeRegisters(it, payload);
      if (encoded.kind === "bytes") assert.equal(encoded.bytes.length, widthOf(it) * 2);
    }),
    RUNS,
  );
});

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

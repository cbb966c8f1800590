// decimal.test: numbers keep every digit that they were written with.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  compare,
  type Decimal,
  decimal,
  decimalOf,
  formatDecimal,
  minus,
  nearestQuotient,
  parseDecimal,
  plus,
  times,
  wholeQuotient,
} from "../../../../firmware-bridge/drivers/modbus-rtu/decimal.ts";

const RUNS = { seed: 5, numRuns: 500 };

const anyDecimal = fc
  .tuple(fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }), fc.integer({ min: -60, max: 60 }))
  .map(([digits, exponent]) => decimal(digits, exponent));

function of(text: string): Decimal {
  return parseDecimal(text) ?? assert.fail(`${text} is a number`);
}

test("a tenth of 231 is 23.1", () => {
  assert.equal(formatDecimal(times(of("231"), of("0.1"))), "23.1");
  assert.equal(formatDecimal(plus(times(of("3"), of("0.1")), of("-0.3"))), "0");
});

test("writes numbers as they are read, to the last digit", () => {
  const same = ["0", "-1", "18446744073709551615", "0.001", "-12.5", "1e60", "1.5e-60", "1000"];
  for (const text of same) assert.equal(formatDecimal(of(text)), text);
  assert.equal(formatDecimal(of("+1.500")), "1.5");
  assert.equal(formatDecimal(of("1e3")), "1000");
  fc.assert(
    fc.property(anyDecimal, (it) => {
      assert.deepEqual(parseDecimal(formatDecimal(it)), it);
      assert.equal(typeof JSON.parse(formatDecimal(it)), "number");
    }),
    RUNS,
  );
});

test("writes any float64 so that it is read as the same one", () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (number) => {
      const it = decimalOf(number) ?? assert.fail();
      assert.equal(Number(formatDecimal(it)), number === 0 ? 0 : number);
    }),
    RUNS,
  );
  assert.equal(decimalOf(Number.NaN), undefined);
  assert.equal(decimalOf(Number.POSITIVE_INFINITY), undefined);
});

test("adds, subtracts and compares without loss", () => {
  fc.assert(
    fc.property(anyDecimal, anyDecimal, (a, b) => {
      assert.deepEqual(minus(plus(a, b), b), a);
      assert.equal(compare(a, b), -compare(b, a));
      assert.equal(compare(a, a), 0);
    }),
    RUNS,
  );
});

test("divides back what was multiplied, and says when there is a rest", () => {
  const scale = fc.constantFrom("0.1", "0.001", "10", "-0.5", "3").map(of);
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n }), scale, (raw, by) => {
      assert.equal(wholeQuotient(times(decimal(raw), by), by), raw);
    }),
    RUNS,
  );
  assert.equal(wholeQuotient(of("21.55"), of("0.1")), undefined);
  assert.equal(nearestQuotient(of("1"), of("3")), 1 / 3);
  assert.equal(nearestQuotient(of("2.5"), of("0.1")), 25);
});

test("refuses what is no number, and numbers out of all measure", () => {
  const not = [
    "",
    "x",
    "1.",
    ".5",
    "1,5",
    "0x10",
    "NaN",
    "Infinity",
    "1e999999999",
    "1e401",
    "--1",
  ];
  for (const text of [...not, "1".repeat(65)]) assert.equal(parseDecimal(text), undefined, text);
});

// blocks.test: registers are read together as far as the limits go, and each of them once.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Block,
  blocksOf,
  splitBlock,
} from "../../../../firmware-bridge/drivers/modbus-rtu/blocks.ts";
import { widthOfRegister } from "../../../../firmware-bridge/drivers/modbus-rtu/register.ts";
import { type RegisterInput, registerSettings } from "./settings-for.ts";

const RUNS = { seed: 5, numRuns: 500 };
const STANDARD = { gapMax: 0, registersMax: 125 };

function registers(...some: Partial<RegisterInput>[]) {
  return some.map((it, index) => registerSettings({ channel: `c${index}`, ...it }));
}

/** As `holding 0+4 c0 c1`. */
function shown(blocks: readonly Block[]): string[] {
  return blocks.map(({ table, address, count, registers: inside }) => {
    return `${table} ${address}+${count} ${inside.map(({ channel }) => channel).join(" ")}`;
  });
}

const anyRegisters = fc
  .array(
    fc.record({
      function: fc.constantFrom("holding", "input", "coil", "discrete"),
      address: fc.oneof(fc.nat(300), fc.nat(5_000), fc.constant(65_532)),
      type: fc.constantFrom("uint16", "float32", "int64"),
    }),
    { maxLength: 60 },
  )
  .map((some) => registers(...some));
const anyLimits = fc.record({
  gapMax: fc.nat(124),
  registersMax: fc.integer({ min: 4, max: 125 }),
});

test("merges what lies side by side, and nothing else", () => {
  const float = { function: "input", type: "float32" } as const;
  const blocks = blocksOf(
    registers(
      { ...float, address: 6 },
      { ...float, address: 0 },
      { ...float, address: 2 },
      { address: 4 },
      { function: "coil", address: 4 },
    ),
    STANDARD,
  );
  assert.deepEqual(shown(blocks), [
    "coil 4+1 c4",
    "holding 4+1 c3",
    "input 0+4 c1 c2",
    "input 6+2 c0",
  ]);
});

test("reads over a gap that is allowed", () => {
  const some = registers({ address: 0 }, { address: 3 }, { address: 7 });
  assert.deepEqual(shown(blocksOf(some, { ...STANDARD, gapMax: 2 })), [
    "holding 0+4 c0 c1",
    "holding 7+1 c2",
  ]);
});

test("reads bits of one register once", () => {
  const bits = [0, 1, 2].map((bit) => ({ type: "bit", bit, address: 9 }) as const);
  const blocks = blocksOf(registers(...bits), STANDARD);
  assert.deepEqual(shown(blocks), ["holding 9+1 c0 c1 c2"]);
  assert.deepEqual(shown(blocks.flatMap(splitBlock)), ["holding 9+1 c0 c1 c2"]);
});

test("every register lies in one block, whole, and each block within its bounds", () => {
  fc.assert(
    fc.property(anyRegisters, anyLimits, (some, limits) => {
      const blocks = blocksOf(some, limits);
      const read = blocks.flatMap((block) => block.registers.map(({ channel }) => channel));
      assert.deepEqual(read.toSorted(), some.map(({ channel }) => channel).toSorted());
      for (const block of blocks) {
        const isBits = block.table === "coil" || block.table === "discrete";
        assert.ok(block.count >= 1 && block.count <= (isBits ? 2_000 : limits.registersMax));
        assert.ok(block.address + block.count <= 65_536);
        for (const register of block.registers) {
          assert.equal(register.function, block.table);
          assert.ok(register.address >= block.address);
          const end = register.address + widthOfRegister(register);
          assert.ok(end <= block.address + block.count);
        }
      }
    }),
    RUNS,
  );
});

test("a split block still reads every register once", () => {
  fc.assert(
    fc.property(anyRegisters, anyLimits, (some, limits) => {
      const parts = blocksOf(some, limits).flatMap(splitBlock);
      const read = parts.flatMap((block) => block.registers.map(({ channel }) => channel));
      assert.deepEqual(read.toSorted(), some.map(({ channel }) => channel).toSorted());
      for (const { count, address, registers: inside } of parts) {
        for (const register of inside) {
          assert.equal(register.address, address);
          assert.equal(widthOfRegister(register), count);
        }
      }
    }),
    RUNS,
  );
});

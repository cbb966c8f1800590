// blocks: which registers of a slave are read together, in one question.
// Path: register → [blocks] → schedule. Touches: nothing.

import { isBits, READ_MAX, type Table } from "./pdu.ts";
import { widthOfRegister } from "./register.ts";
import type { RegisterSettings } from "./settings-schema.ts";

/** One read, and the registers that lie in it. */
export interface Block {
  readonly table: Table;
  readonly address: number;
  /** In registers, or coils. */
  readonly count: number;
  readonly registers: readonly RegisterSettings[];
}

export interface MergeLimits {
  /** What may lie unused between two registers of one read. */
  readonly gapMax: number;
  /** Of one read; coils have the limit of the specification. */
  readonly registersMax: number;
}

/** The fewest reads, within the limits, that hold each of the registers once. */
export function blocksOf(registers: readonly RegisterSettings[], limits: MergeLimits): Block[] {
  const inOrder = registers.toSorted(
    (a, b) => a.function.localeCompare(b.function) || a.address - b.address,
  );
  const blocks: Block[] = [];
  for (const register of inOrder) {
    const last = blocks.at(-1);
    const merged = last && merge(last, register, limits);
    if (merged) blocks[blocks.length - 1] = merged;
    else blocks.push(single(register));
  }
  return blocks;
}

/** A read for each register; those in the same place, as bits of one register, share theirs. */
export function splitBlock({ registers }: Block): Block[] {
  const places = Map.groupBy(registers, (it) => `${it.address} ${widthOfRegister(it)}`);
  return [...places.values()].flatMap((group) => {
    const [first] = group;
    return first ? [{ ...single(first), registers: group }] : [];
  });
}

function single(register: RegisterSettings): Block {
  const { function: table, address } = register;
  return { table, address, count: widthOfRegister(register), registers: [register] };
}

function merge(block: Block, register: RegisterSettings, limits: MergeLimits): Block | undefined {
  const end = block.address + block.count;
  const nextEnd = Math.max(end, register.address + widthOfRegister(register));
  const max = isBits(block.table) ? READ_MAX[block.table] : limits.registersMax;
  if (register.function !== block.table) return undefined;
  if (register.address - end > limits.gapMax || nextEnd - block.address > max) return undefined;
  return {
    ...block,
    count: nextEnd - block.address,
    registers: [...block.registers, register],
  };
}

// settings-schema: every key of [links.modbus-rtu] with its default and what it allows.
// Path: settings → [settings-schema]. Touches: nothing.

import * as v from "valibot";
import { flag, name, oneOf, text, whole } from "#runtime/settings-values";
import { TYPES } from "./values.ts";

const SLAVES_MAX = 247;
const REGISTERS_MAX = 1_000;

const number = v.pipe(v.number("allowed: a number"), v.finite("allowed: a number"));
const period = whole(10, 86_400_000);

const Register = v.strictObject({
  channel: name,
  function: v.optional(oneOf("holding", "input", "coil", "discrete"), "holding"),
  address: whole(0, 65_535),
  type: v.optional(oneOf(...TYPES), "uint16"),
  bit: v.optional(whole(0, 15), 0),
  length: v.optional(whole(1, 246)),
  byte_order: v.optional(oneOf("big", "little"), "big"),
  word_order: v.optional(oneOf("big", "little"), "big"),
  scale: v.optional(
    v.pipe(
      number,
      v.check((value) => value !== 0, "allowed: a number that is not 0"),
    ),
    1,
  ),
  offset: v.optional(number, 0),
  unit: v.optional(text),
  group: v.optional(name),
  every_ms: v.optional(period),
  report: v.optional(oneOf("change", "always"), "change"),
  dead_band: v.optional(
    v.pipe(
      number,
      v.check((value) => value >= 0, "allowed: 0 or more"),
    ),
    0,
  ),
  poll: v.optional(flag(), true),
  writable: v.optional(flag(), false),
  min: v.optional(number),
  max: v.optional(number),
  read_back: v.optional(flag(), true),
  write_multiple: v.optional(flag(), false),
});

const Slave = v.strictObject({
  device: name,
  address: v.optional(whole(0, 255), 1),
  model: v.optional(text),
  misses_max: v.optional(whole(1, 1_000), 3),
  merge_gap_registers: v.optional(whole(0, 124), 0),
  read_registers_max: v.optional(whole(1, 125), 125),
  registers: v.pipe(
    v.array(Register, "allowed: tables, [[links.modbus-rtu.slaves.registers]]"),
    v.minLength(1, "allowed: at least one register"),
    v.maxLength(REGISTERS_MAX, `allowed: at most ${REGISTERS_MAX} registers`),
  ),
});

const Group = v.strictObject({ name, every_ms: period });

/** Each key by itself; what must hold between them is settings.ts's. */
export const Keys = v.strictObject({
  framing: v.optional(oneOf("rtu", "tcp"), "rtu"),
  timeout_ms: v.optional(whole(10, 60_000), 500),
  retries_max: v.optional(whole(0, 10), 1),
  gap_ms: v.optional(whole(0, 1_000)),
  turnaround_ms: v.optional(whole(0, 10_000), 200),
  echo: v.optional(flag(), false),
  every_ms: v.optional(period, 10_000),
  silent_ms_max: v.optional(whole(1_000, 3_600_000), 60_000),
  groups: v.optional(v.array(Group, "allowed: tables, [[links.modbus-rtu.groups]]"), []),
  slaves: v.pipe(
    v.array(Slave, "allowed: tables, [[links.modbus-rtu.slaves]]"),
    v.minLength(1, "allowed: at least one slave"),
    v.maxLength(SLAVES_MAX, `allowed: at most ${SLAVES_MAX} slaves`),
  ),
});

export type ModbusSettings = Readonly<v.InferOutput<typeof Keys>>;
export type SlaveSettings = ModbusSettings["slaves"][number];
export type RegisterSettings = SlaveSettings["registers"][number];

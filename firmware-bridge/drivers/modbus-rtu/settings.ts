// settings: the table [links.modbus-rtu], checked whole: what must hold between its keys.
// Path: settings file → [settings] → modbus-rtu. Touches: nothing.

import * as v from "valibot";
import { channelOf } from "../../driver.ts";
import { isBits } from "./pdu.ts";
import { widthOfRegister } from "./register.ts";
import { Keys, type ModbusSettings, type RegisterSettings } from "./settings-schema.ts";
import { kindOf } from "./values.ts";

/** The topic of a device's own faults. */
export const ERROR_CHANNEL = "error";

const ADDRESS_MAX = 65_535;
/** Over a serial line, 248 to 255 are nobody (Modbus over Serial Line V1.02 §2.2). */
const SERIAL_ADDRESS_MAX = 247;

interface Conflict {
  readonly keys: readonly (string | number)[];
  readonly message: string;
}

export const ModbusTable = v.pipe(
  Keys,
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const table = dataset.value;
    for (const { keys, message } of conflicts(table)) {
      addIssue({ message, path: issuePath(table, keys) });
    }
  }),
);

function conflicts(table: ModbusSettings): Conflict[] {
  const { slaves, groups } = table;
  return [
    ...repeats(groups, "name", "groups"),
    ...repeats(slaves, "device", "slaves"),
    ...repeats(slaves, "address", "slaves"),
    ...slaves.flatMap((slave, index) => [
      ...addressConflicts(table, index),
      ...repeats(slave.registers, "channel", "slaves", index, "registers"),
      ...slave.registers.flatMap((register, at) =>
        registerConflicts(table, register).map(([key, message]) => ({
          keys: ["slaves", index, "registers", at, key],
          message,
        })),
      ),
    ]),
  ];
}

/** Tables of an array that have the same as one before them. */
function repeats<K extends string>(
  tables: readonly Readonly<Record<K, unknown>>[],
  key: K,
  ...place: (string | number)[]
): Conflict[] {
  const values = tables.map((table) => table[key]);
  return [...values.keys()]
    .filter((index) => values.indexOf(values[index]) < index)
    .map((index) => ({ keys: [...place, index, key], message: `allowed: each ${key} once` }));
}

/** To 0 all slaves of a serial line listen, and none answers (Modbus over Serial Line §2.1). */
function addressConflicts({ framing, slaves }: ModbusSettings, index: number): Conflict[] {
  const slave = slaves[index];
  if (!slave || framing === "tcp") return [];
  const keys = ["slaves", index, "address"];
  if (slave.address > SERIAL_ADDRESS_MAX) {
    return [{ keys, message: 'allowed: 1 to 247, and to 255 with framing = "tcp"' }];
  }
  const onlyListens = slave.registers.every((it) => !it.poll && !it.read_back);
  if (slave.address > 0 || onlyListens) return [];
  return [{ keys, message: "allowed: 1 to 247; with 0, poll and read_back must be false" }];
}

type RegisterConflict = readonly [key: keyof RegisterSettings, message: string];

function registerConflicts(table: ModbusSettings, it: RegisterSettings): RegisterConflict[] {
  const isNumber = !isBits(it.function) && kindOf(it.type) === "number";
  const rules: readonly (readonly [boolean, ...RegisterConflict])[] = [
    [
      channelOf(it.channel) !== it.channel || it.channel === ERROR_CHANNEL,
      "channel",
      "allowed: another name; this one is a topic of every device",
    ],
    [
      it.address + widthOfRegister(it) > ADDRESS_MAX + 1,
      "address",
      "allowed: all of the value below 65536",
    ],
    [
      it.type === "string" && it.length === undefined,
      "length",
      'allowed: its bytes, 1 to 246, with type = "string"',
    ],
    [
      it.group !== undefined && !table.groups.some(({ name }) => name === it.group),
      "group",
      "allowed: the name of one of [[links.modbus-rtu.groups]]",
    ],
    [it.bit > 0 && it.type !== "bit", "bit", 'allowed: with type = "bit" only'],
    ...writeRules(it),
    [it.min !== undefined && !isNumber, "min", "allowed: for numbers alone"],
    [it.max !== undefined && !isNumber, "max", "allowed: for numbers alone"],
    [(it.min ?? it.max ?? 0) > (it.max ?? it.min ?? 0), "max", "allowed: not less than min"],
  ];
  return rules.filter(([isWrong]) => isWrong).map(([, key, message]) => [key, message]);
}

function writeRules(it: RegisterSettings): (readonly [boolean, ...RegisterConflict])[] {
  const isReadOnly = it.function === "input" || it.function === "discrete";
  return [
    [
      it.writable && isReadOnly,
      "writable",
      'allowed: true with function = "holding" or "coil" alone',
    ],
    [
      it.writable && it.type === "bit" && !isBits(it.function),
      "writable",
      "allowed: false; writing one bit would write the fifteen beside it",
    ],
    [!it.writable && !it.poll, "poll", "allowed: false with writable = true alone"],
  ];
}

function issuePath(root: unknown, keys: Conflict["keys"]) {
  let input = root as Record<string | number, unknown>;
  const items = keys.map((key) => {
    const value = input?.[key];
    const item = { type: "unknown", origin: "value", input, key, value } as v.UnknownPathItem;
    input = value as Record<string | number, unknown>;
    return item;
  });
  return items as [v.UnknownPathItem, ...v.UnknownPathItem[]];
}

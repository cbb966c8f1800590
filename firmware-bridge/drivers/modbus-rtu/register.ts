// register: one value of a slave: where it is, what it means, how it is told.
// Path: settings → [register] → blocks, slave. Touches: nothing.

import type { Channel } from "../../driver.ts";
import { bitAt, isBits, type Request, writeCoil, writeRegisters } from "./pdu.ts";
import type { ModbusSettings, RegisterSettings } from "./settings-schema.ts";
import {
  decodeRegisters,
  encodeRegisters,
  kindOf,
  notA,
  parseSwitch,
  type Refused,
  type ValueLayout,
  widthOf,
} from "./values.ts";

function layoutOf(settings: RegisterSettings): ValueLayout {
  const { byte_order: byteOrder, word_order: wordOrder } = settings;
  return { ...settings, byteOrder, wordOrder };
}

/** In registers, or coils. */
export function widthOfRegister(settings: RegisterSettings): number {
  return isBits(settings.function) ? 1 : widthOf(settings);
}

export function periodOf(settings: RegisterSettings, table: ModbusSettings): number {
  const group = table.groups.find(({ name }) => name === settings.group);
  return settings.every_ms ?? group?.every_ms ?? table.every_ms;
}

export function channelAbout(settings: RegisterSettings): Channel {
  const { channel, unit, writable, report, dead_band: deadBand } = settings;
  return {
    name: channel,
    kind: isBits(settings.function) ? "boolean" : kindOf(settings.type),
    writable,
    ...(unit === undefined ? {} : { unit }),
    ...(report === "change" ? { policy: { deadBand } } : {}),
  };
}

/**
 * The value as text, from the content of a read that began at address `from`; undefined when the
 * device holds what is not of the type.
 */
export function valueIn(
  settings: RegisterSettings,
  content: Buffer,
  from: number,
): string | undefined {
  const index = settings.address - from;
  if (isBits(settings.function)) return String(bitAt(content, index));
  const bytes = content.subarray(index * 2, (index + widthOfRegister(settings)) * 2);
  return decodeRegisters(layoutOf(settings), bytes);
}

export type Write =
  /** `value` is what the register then holds, as it will be read. */
  { readonly kind: "write"; readonly request: Request; readonly value: string } | Refused;

/** What makes the register hold what a command says. */
export function writeOf(settings: RegisterSettings, unit: number, payload: Uint8Array): Write {
  const { address, write_multiple: many } = settings;
  if (isBits(settings.function)) {
    const text = Buffer.from(payload.subarray(0, 80)).toString();
    const on = parseSwitch(text);
    if (on === undefined) return notA("true or false", text);
    return { kind: "write", request: writeCoil(unit, address, on, many), value: String(on) };
  }
  const layout = layoutOf(settings);
  const encoded = encodeRegisters(layout, payload);
  if (encoded.kind === "refused") return encoded;
  const request = writeRegisters(unit, address, encoded.bytes, many);
  return { kind: "write", request, value: decodeRegisters(layout, encoded.bytes) ?? "" };
}

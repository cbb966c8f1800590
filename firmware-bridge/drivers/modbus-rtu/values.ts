// values: what the registers hold ↔ the value as text, by the type that the data sheet gives.
// Path: pdu → [values] → slave. Touches: nothing.

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
} from "./decimal.ts";

/** Bytes of each type of number; a register has two. */
const INTEGERS = {
  uint16: { bytes: 2, isSigned: false },
  int16: { bytes: 2, isSigned: true },
  uint32: { bytes: 4, isSigned: false },
  int32: { bytes: 4, isSigned: true },
  uint64: { bytes: 8, isSigned: false },
  int64: { bytes: 8, isSigned: true },
} as const;
const FLOATS = { float32: 4, float64: 8 } as const;
const BCDS = { bcd16: 2, bcd32: 4 } as const;

export const NUMBER_TYPES = [
  "uint16",
  "int16",
  "uint32",
  "int32",
  "uint64",
  "int64",
  "float32",
  "float64",
  "bcd16",
  "bcd32",
] as const;
export const TYPES = [...NUMBER_TYPES, "bool", "bit", "string"] as const;

export type ValueType = (typeof TYPES)[number];
type NumberType = (typeof NUMBER_TYPES)[number];

/** What settings say of a value. */
export interface ValueLayout {
  readonly type: ValueType;
  /** Which bit of a register, from 0, the least significant. */
  readonly bit?: number | undefined;
  /** Of a string, in bytes. */
  readonly length?: number | undefined;
  readonly byteOrder: "big" | "little";
  readonly wordOrder: "big" | "little";
  readonly scale: number;
  readonly offset: number;
  readonly min?: number | undefined;
  readonly max?: number | undefined;
}

/** Why a payload cannot be written. */
export interface Refused {
  readonly kind: "refused";
  readonly reason: string;
}

export type Encoding = { readonly kind: "bytes"; readonly bytes: Buffer } | Refused;

/** How many registers (of a coil: coils) the value takes. */
export function widthOf({ type, length = 1 }: Pick<ValueLayout, "type" | "length">): number {
  if (type === "string") return Math.ceil(length / 2);
  return isNumber(type) ? bytesOf(type) / 2 : 1;
}

export function kindOf(type: ValueType): "number" | "boolean" | "text" {
  if (type === "string") return "text";
  return isNumber(type) ? "number" : "boolean";
}

/**
 * The value of registers as they came; `null` for what is no number (NaN, the infinities), which
 * many meters send for what they do not measure. Undefined when the bytes are not of the type.
 */
export function decodeRegisters(layout: ValueLayout, bytes: Uint8Array): string | undefined {
  const ordered = inOrder(layout, bytes);
  const { type } = layout;
  if (type === "string") return decodeText(ordered.subarray(0, layout.length));
  if (type === "bool") return String(ordered.some((byte) => byte !== 0));
  if (type === "bit") return String(((ordered.readUInt16BE() >> (layout.bit ?? 0)) & 1) === 1);
  const raw = decodeNumber(type, ordered);
  if (raw === "none") return "null";
  if (raw === undefined) return undefined;
  const { scale, offset } = factors(layout);
  return formatDecimal(plus(times(raw, scale), offset));
}

/** The registers that hold the value, or why they cannot. */
export function encodeRegisters(layout: ValueLayout, payload: Uint8Array): Encoding {
  const text = Buffer.from(payload.subarray(0, PAYLOAD_BYTES_MAX)).toString();
  if (layout.type === "string") return encodeText(layout, payload);
  if (!isNumber(layout.type)) {
    const state = parseSwitch(text);
    if (state === undefined) return notA("true or false", text);
    return bytes(inOrder(layout, Buffer.from([0, state ? 1 : 0])));
  }
  const value = parseDecimal(text.trim());
  if (!value) return notA("a number", text);
  const outside = outsideOf(layout, value);
  if (outside) return refused(outside);
  const encoding = encodeNumber(layout, layout.type, value);
  return encoding.kind === "bytes" ? bytes(inOrder(layout, encoding.bytes)) : encoding;
}

/** What a command says to a coil or a bool; undefined when it is none of the words. */
export function parseSwitch(text: string): boolean | undefined {
  const word = text.trim().toLowerCase();
  if (["true", "1", "on"].includes(word)) return true;
  return ["false", "0", "off"].includes(word) ? false : undefined;
}

/** Beyond it no command is a number or a word. */
const PAYLOAD_BYTES_MAX = 80;
/** How much of a payload a reason shows. */
const SHOWN_LENGTH_MAX = 40;

export function notA(what: string, payload: string): Refused {
  return refused(`${JSON.stringify(payload.slice(0, SHOWN_LENGTH_MAX))} is not ${what}`);
}

function isNumber(type: ValueType): type is NumberType {
  return (NUMBER_TYPES as readonly string[]).includes(type);
}

function bytesOf(type: NumberType): number {
  if (isInteger(type)) return INTEGERS[type].bytes;
  return isFloat(type) ? FLOATS[type] : BCDS[type];
}

function isInteger(type: NumberType): type is keyof typeof INTEGERS {
  return Object.hasOwn(INTEGERS, type);
}

function isFloat(type: NumberType): type is keyof typeof FLOATS {
  return Object.hasOwn(FLOATS, type);
}

/** Big-endian whatever the device does, and back: each of the two turns is its own inverse. */
function inOrder({ type, byteOrder, wordOrder }: ValueLayout, bytes: Uint8Array): Buffer {
  const ordered = Buffer.from(bytes);
  if (byteOrder === "little") ordered.swap16();
  // The characters of a text stand one after the other, whatever the order of numbers.
  if (wordOrder === "little" && type !== "string") ordered.reverse().swap16();
  return ordered;
}

/** "none" is what a float holds that is no number. */
function decodeNumber(type: NumberType, bytes: Buffer): Decimal | "none" | undefined {
  if (isInteger(type)) {
    const unsigned = BigInt(`0x${bytes.toString("hex")}`);
    const { isSigned } = INTEGERS[type];
    return decimal(isSigned ? BigInt.asIntN(bytes.length * 8, unsigned) : unsigned);
  }
  if (type === "float32") return shortestSingle(bytes.readFloatBE()) ?? "none";
  if (type === "float64") return decimalOf(bytes.readDoubleBE()) ?? "none";
  const digits = bytes.toString("hex");
  return /^\d+$/.test(digits) ? decimal(BigInt(digits)) : undefined;
}

/** 230.1 and not 230.10000610351562: the shortest decimal that is the same float32. */
function shortestSingle(value: number): Decimal | undefined {
  // Nine digits tell any two of them apart (IEEE 754-2019 §5.12.2).
  for (let digits = 6; digits < 9; digits += 1) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return parseDecimal(text);
  }
  return parseDecimal(value.toPrecision(9));
}

function encodeNumber(layout: ValueLayout, type: NumberType, value: Decimal): Encoding {
  const { scale, offset } = factors(layout);
  const shifted = minus(value, offset);
  if (isFloat(type)) return encodeFloat(type, nearestQuotient(shifted, scale));
  const raw = wholeQuotient(shifted, scale);
  if (raw === undefined) {
    return refused(`${formatDecimal(value)} lies between two steps of ${layout.scale}`);
  }
  return isInteger(type) ? encodeInteger(type, raw) : encodeBcd(type, raw);
}

function encodeFloat(type: keyof typeof FLOATS, value: number): Encoding {
  const buffer = Buffer.alloc(FLOATS[type]);
  if (type === "float64") buffer.writeDoubleBE(value);
  else buffer.writeFloatBE(value);
  const fits = Number.isFinite(type === "float64" ? value : Math.fround(value));
  return fits ? bytes(buffer) : refused(`the value is too large for ${type}`);
}

function encodeInteger(type: keyof typeof INTEGERS, raw: bigint): Encoding {
  const { bytes: length, isSigned } = INTEGERS[type];
  const bits = length * 8;
  const fits = (isSigned ? BigInt.asIntN(bits, raw) : BigInt.asUintN(bits, raw)) === raw;
  if (!fits) return refused(`${raw} in the register is too large for ${type}`);
  return bytes(hexBytes(BigInt.asUintN(bits, raw).toString(16), length));
}

function encodeBcd(type: keyof typeof BCDS, raw: bigint): Encoding {
  const length = BCDS[type];
  const fits = raw >= 0n && String(raw).length <= length * 2;
  return fits
    ? bytes(hexBytes(String(raw), length))
    : refused(`${raw} in the register is too large for ${type}`);
}

function hexBytes(hex: string, length: number): Buffer {
  return Buffer.from(hex.padStart(length * 2, "0"), "hex");
}

/** Devices fill the rest of their texts with zeros or blanks. */
function decodeText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end < 0 ? bytes.length : end).trimEnd();
}

function encodeText(layout: ValueLayout, payload: Uint8Array): Encoding {
  const { length = 1 } = layout;
  if (payload.length > length) return refused(`the text is longer than ${length} bytes`);
  const padded = Buffer.alloc(widthOf(layout) * 2);
  padded.set(payload);
  return bytes(inOrder(layout, padded));
}

function factors({ scale, offset }: ValueLayout) {
  const zero = decimal(0n);
  return { scale: decimalOf(scale) ?? zero, offset: decimalOf(offset) ?? zero };
}

function outsideOf({ min, max }: ValueLayout, value: Decimal): string | undefined {
  const least = min === undefined ? undefined : decimalOf(min);
  const most = max === undefined ? undefined : decimalOf(max);
  if (least && compare(value, least) < 0) return `${formatDecimal(value)} is less than ${min}`;
  if (most && compare(value, most) > 0) return `${formatDecimal(value)} is more than ${max}`;
  return undefined;
}

function bytes(content: Buffer): Encoding {
  return { kind: "bytes", bytes: content };
}

function refused(reason: string): Refused {
  return { kind: "refused", reason };
}

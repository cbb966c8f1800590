// bytes: reading and writing the unsigned variable-length integers of records and frames.
// Path: message, frame. Touches: nothing.

import { SluiceError } from "./errors.ts";

/** Longest varint that holds Number.MAX_SAFE_INTEGER: 53 bits, 7 a byte. */
const VARINT_BYTES_MAX = 8;

/** How many bytes `value` takes as a varint (LEB128, least significant group first). */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes += 1;
  return bytes;
}

/** Writes `value` at `offset` and returns the offset after it. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  while (rest >= 0x80) {
    target[at++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  target[at++] = rest;
  return at;
}

/** A cursor over bytes that refuses, with FRAME_INVALID, to read past their end. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  byte(): number {
    const value = this.#bytes[this.#offset];
    if (value === undefined)
      throw new SluiceError("FRAME_INVALID", "ends in the middle of a field");
    this.#offset += 1;
    return value;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let index = 0; index < VARINT_BYTES_MAX; index += 1) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER) break;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
    throw new SluiceError("FRAME_INVALID", "holds a number over 2^53 - 1");
  }

  /** A view of the next `length` bytes, not a copy. */
  take(length: number): Uint8Array {
    if (length > this.left) {
      throw new SluiceError("FRAME_INVALID", `wants ${length} bytes, has ${this.left}`);
    }
    this.#offset += length;
    return this.#bytes.subarray(this.#offset - length, this.#offset);
  }
}

// checksums: the sums by which a line, a frame or a telegram shows that it came whole.
// Path: chunk → framer → [checksums] → codec. Touches: nothing.

import { crc32 } from "node:zlib";

/** One way to sum up bytes. */
export interface Checksum {
  /** How many bytes the sum has. */
  readonly size: number;
  /** The sum, an unsigned number of `size` bytes. */
  of(bytes: Uint8Array): number;
}

/**
 * By the names that settings have for them. The CRCs are those of the catalogue of parametrised CRC
 * algorithms: CRC-16/MODBUS, CRC-16/ARC, CRC-16/KERMIT, CRC-16/IBM-3740 (the one that most call
 * CCITT, of 0xFFFF at the start), CRC-16/XMODEM and CRC-32/ISO-HDLC.
 */
export const CHECKSUMS = {
  xor: { size: 1, of: (bytes) => bytes.reduce((sum, byte) => sum ^ byte, 0) },
  sum8: { size: 1, of: (bytes) => bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0) },
  "crc16-modbus": reflectedCrc16(0xa001, 0xffff),
  "crc16-arc": reflectedCrc16(0xa001, 0),
  "crc16-kermit": reflectedCrc16(0x8408, 0),
  "crc16-ccitt": straightCrc16(0x1021, 0xffff),
  "crc16-xmodem": straightCrc16(0x1021, 0),
  crc32: { size: 4, of: (bytes) => crc32(bytes) },
} as const satisfies Readonly<Record<string, Checksum>>;

/** The name of a sum that settings may ask for. */
export type ChecksumName = keyof typeof CHECKSUMS;

/** The sum of an NMEA 0183 sentence: of all between its `$` or `!` and its `*`. */
export function nmeaChecksum(sentence: Uint8Array): number {
  const first = sentence[0];
  const begins = first === 0x24 || first === 0x21;
  return CHECKSUMS.xor.of(begins ? sentence.subarray(1) : sentence);
}

/** Least significant bit first; `polynomial` is written that way round, too. */
function reflectedCrc16(polynomial: number, start: number): Checksum {
  const table = tableOf((byte) => {
    let rest = byte;
    for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? (rest >>> 1) ^ polynomial : rest >>> 1;
    return rest;
  });
  return {
    size: 2,
    of: (bytes) =>
      bytes.reduce((sum, byte) => (sum >>> 8) ^ (table[(sum ^ byte) & 0xff] ?? 0), start),
  };
}

/** Most significant bit first. */
function straightCrc16(polynomial: number, start: number): Checksum {
  const table = tableOf((byte) => {
    let rest = byte << 8;
    for (let bit = 0; bit < 8; bit += 1)
      rest = rest & 0x8000 ? (rest << 1) ^ polynomial : rest << 1;
    return rest;
  });
  return {
    size: 2,
    of: (bytes) =>
      bytes.reduce((sum, byte) => ((sum << 8) ^ (table[(sum >>> 8) ^ byte] ?? 0)) & 0xffff, start),
  };
}

function tableOf(entry: (byte: number) => number): Uint16Array {
  return Uint16Array.from({ length: 256 }, (_, byte) => entry(byte));
}

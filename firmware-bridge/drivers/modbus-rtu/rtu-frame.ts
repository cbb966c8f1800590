// rtu-frame: a frame of Modbus over a serial line, and how it is found among other bytes.
// Path: pdu → [rtu-frame] → rtu-line. Touches: nothing.
//
// Clauses are those of Modbus over Serial Line V1.02.

import { CHECKSUMS } from "../framing/checksums.ts";
import { EXCEPTION_BIT, type Request } from "./pdu.ts";

/** The slave's number before, the check sum behind (§2.3). */
const AROUND_BYTES = 3;
const EXCEPTION_PDU_BYTES = 2;
/** §2.5.1. */
export const FRAME_BYTES_MAX = 256;
/** §2.5.1.2. */
const CRC = CHECKSUMS["crc16-modbus"];

/** How many characters of silence end a frame, and for how long at most (§2.5.1.1). */
const SILENT_CHARACTERS = 3.5;
const CHARACTER_BITS = 11;
const SILENT_MS_LEAST = 1.75;

/** What a frame has to look like to be an answer: of this slave, to this question. */
export type Expected = Pick<Request, "unit" | "answerPrefix" | "answerBytes">;

export interface Found<T extends Expected> {
  readonly expected: T;
  readonly pdu: Buffer;
  /** Where the frame begins, and where what follows it does. */
  readonly start: number;
  readonly end: number;
}

/** The silence between two frames, in ms. */
export function silenceMs(baudRate: number | undefined): number {
  if (baudRate === undefined) return 0;
  return Math.max(SILENT_MS_LEAST, (SILENT_CHARACTERS * CHARACTER_BITS * 1_000) / baudRate);
}

export function rtuFrame({ unit, pdu }: Pick<Request, "unit" | "pdu">): Buffer {
  const frame = Buffer.alloc(pdu.length + AROUND_BYTES);
  frame.writeUInt8(unit);
  pdu.copy(frame, 1);
  frame.writeUInt16LE(CRC.of(frame.subarray(0, -2)), frame.length - 2);
  return frame;
}

/**
 * The first whole frame in `bytes` that is one of those expected, wherever it begins. Adapters cut
 * frames into pieces with pauses of their own, so a frame ends where its length and its check sum
 * say so, and silence is no sign.
 */
export function findFrame<T extends Expected>(
  bytes: Buffer,
  expectations: readonly T[],
): Found<T> | undefined {
  for (let start = 0; start + AROUND_BYTES + EXCEPTION_PDU_BYTES <= bytes.length; start += 1) {
    for (const expected of expectations) {
      const found = frameAt(bytes, start, expected);
      if (found) return found;
    }
  }
  return undefined;
}

/** Whether the bytes begin as an answer would that did not come to its end, or came broken. */
export function beginsLike(bytes: Buffer, { unit, answerPrefix }: Expected): boolean {
  const code = answerPrefix[0] ?? 0;
  return bytes[0] === unit && ((bytes[1] ?? 0) & ~EXCEPTION_BIT) === code;
}

function frameAt<T extends Expected>(
  bytes: Buffer,
  start: number,
  expected: T,
): Found<T> | undefined {
  const { unit, answerPrefix, answerBytes } = expected;
  if (bytes[start] !== unit) return undefined;
  const at = start + 1;
  const isException = bytes[at] === ((answerPrefix[0] ?? 0) | EXCEPTION_BIT);
  const length = isException ? EXCEPTION_PDU_BYTES : answerBytes;
  const end = at + length + 2;
  if (end > bytes.length) return undefined;
  const pdu = bytes.subarray(at, at + length);
  if (!isException && !pdu.subarray(0, answerPrefix.length).equals(answerPrefix)) return undefined;
  if (bytes.readUInt16LE(end - 2) !== CRC.of(bytes.subarray(start, end - 2))) return undefined;
  return { expected, pdu, start, end };
}

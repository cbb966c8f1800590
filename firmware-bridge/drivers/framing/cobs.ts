// cobs: frames that end with a zero and hold none, by Consistent Overhead Byte Stuffing (Cheshire
// and Baker, IEEE/ACM Transactions on Networking 7(2), 1999).
// Path: chunk → framer → [cobs]; and the other way. Touches: nothing.

import type { Stuffing } from "./framer.ts";

/** The code of a group of 254 bytes that no zero follows. */
const FULL = 0xff;

export const cobs: Stuffing = {
  delimiter: 0,
  stuffedMax: (length) => length + Math.floor(length / (FULL - 1)) + 1,

  /** With a zero before it, too, which ends what noise has begun. */
  stuff(frame) {
    const stuffed = Buffer.alloc(cobs.stuffedMax(frame.length) + 2);
    let codeAt = 1;
    let at = 2;
    for (const [index, byte] of frame.entries()) {
      if (byte !== 0) at = stuffed.writeUInt8(byte, at);
      const isFull = at - codeAt === FULL;
      if (byte !== 0 && !(isFull && index + 1 < frame.length)) continue;
      stuffed.writeUInt8(at - codeAt, codeAt);
      codeAt = at;
      at += 1;
    }
    stuffed.writeUInt8(at - codeAt, codeAt);
    return stuffed.subarray(0, at + 1);
  },

  /** A code that points behind the end shows that bytes are missing. */
  unstuff(stuffed) {
    const frame = Buffer.allocUnsafe(stuffed.length);
    let length = 0;
    for (let at = 0; at < stuffed.length; ) {
      const code = stuffed[at] ?? 0;
      const next = at + code;
      if (code === 0 || next > stuffed.length) return undefined;
      frame.set(stuffed.subarray(at + 1, next), length);
      length += code - 1;
      // The zero that each group stands for, but for the last one's, and a full one's.
      if (code !== FULL && next < stuffed.length) length = frame.writeUInt8(0, length);
      at = next;
    }
    return frame.subarray(0, length);
  },
};

// slip: frames between END bytes, by RFC 1055.
// Path: chunk → framer → [slip]; and the other way. Touches: nothing.

import type { Stuffing } from "./framer.ts";

const END = 0xc0;
const ESC = 0xdb;
const ESC_END = 0xdc;
const ESC_ESC = 0xdd;

export const slip: Stuffing = {
  delimiter: END,
  stuffedMax: (length) => 2 * length,

  /** With an END before it, too, which ends what noise has begun (RFC 1055, "Protocol"). */
  stuff(frame) {
    const stuffed = Buffer.allocUnsafe(2 * frame.length + 2);
    let at = stuffed.writeUInt8(END, 0);
    for (const byte of frame) {
      if (byte === END || byte === ESC) {
        at = stuffed.writeUInt8(ESC, at);
        at = stuffed.writeUInt8(byte === END ? ESC_END : ESC_ESC, at);
      } else at = stuffed.writeUInt8(byte, at);
    }
    at = stuffed.writeUInt8(END, at);
    return stuffed.subarray(0, at);
  },

  /** RFC 1055 leaves open what an ESC before any other byte means: here the frame is broken. */
  unstuff(stuffed) {
    const frame = Buffer.allocUnsafe(stuffed.length);
    let length = 0;
    for (let at = 0; at < stuffed.length; at += 1) {
      let byte = stuffed[at];
      if (byte === ESC) {
        at += 1;
        const escaped = stuffed[at];
        if (escaped !== ESC_END && escaped !== ESC_ESC) return undefined;
        byte = escaped === ESC_END ? END : ESC;
      }
      length = frame.writeUInt8(byte ?? 0, length);
    }
    return frame.subarray(0, length);
  },
};

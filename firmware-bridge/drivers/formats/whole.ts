// whole: a line or frame that is taken as it is.
// Path: content → [whole]. Touches: nothing.

import { assignment, type Format } from "./format.ts";

/** The bytes, unread, on one channel. */
export function wholeFormat(channel: string): Format {
  return {
    decode: (bytes) => [{ channel, payload: bytes }],
    fields: (bytes) => [[channel, bytes]],
    encode: assignment,
  };
}

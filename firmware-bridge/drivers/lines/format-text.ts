// format-text: a line that is taken as it is.
// Path: format → [format-text]. Touches: nothing.

import { assignment, type Format, LINE_CHANNEL } from "./format.ts";

/** The bytes of the line, unread, on one channel. */
export const textFormat: Format = {
  decode: (line) => [{ channel: LINE_CHANNEL, payload: line }],
  encode: assignment,
};

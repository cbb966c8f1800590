// format: what each format of a line can do, and the text that most of them are.
// Path: line-splitter → [format] → lines. Touches: nothing.

import type { Encoded, Message } from "../../driver.ts";

/** One way to write messages and commands as a line. */
export interface Format {
  /** What the line says; undefined where it is not of this format. */
  decode(line: Uint8Array): Message[] | undefined;
  /** The line, without its end, that gives `payload` to `channel`. */
  encode(channel: string, payload: Uint8Array): Encoded;
}

/** The channel of lines that say nothing more precise. */
export const LINE_CHANNEL = "line";

const decoder = new TextDecoder("utf-8", { fatal: true });

/** The bytes as text; undefined where they are not UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Bytes to write. */
export function bytes(content: string | Uint8Array): Encoded {
  return { kind: "bytes", bytes: Buffer.from(content) };
}

export function refused(reason: string): Encoded {
  return { kind: "refused", reason };
}

/** `<channel>=<payload>`, with the payload's bytes as they are. */
export function assignment(channel: string, payload: Uint8Array): Encoded {
  return bytes(Buffer.concat([Buffer.from(`${channel}=`), payload]));
}

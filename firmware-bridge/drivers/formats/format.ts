// format: what each format of a line or frame can do, and the text that most of them are.
// Path: content → [format] → each format. Touches: nothing.

import { isUtf8 } from "node:buffer";
import { channelOf, type Encoded, type Message } from "../../driver.ts";

/** A value by the name that the line or frame has for it. */
export type Field = readonly [name: string, value: string | Uint8Array];

/** One way to write messages and commands as bytes. */
export interface Format {
  /** What the bytes say, each field on a channel; undefined where they are not of this format. */
  decode(bytes: Uint8Array): Message[] | undefined;
  /** The same by the names that the bytes have, for templates. */
  fields(bytes: Uint8Array): Field[] | undefined;
  /** What gives `payload` to `channel`. */
  encode(channel: string, payload: Uint8Array): Encoded;
}

/** A format of text, by what it makes of it; undefined where the text is not of the format. */
export function fieldFormat(
  fieldsOf: (text: string) => Field[] | undefined,
  encode: Format["encode"],
): Format {
  const fields = (bytes: Uint8Array) => {
    const text = textOf(bytes);
    return text === undefined ? undefined : fieldsOf(text);
  };
  return {
    decode: (bytes) => messagesOf(fields(bytes)),
    fields,
    encode,
  };
}

/** A message for each field; undefined where one has a name that no channel can have. */
export function messagesOf(fields: readonly Field[] | undefined): Message[] | undefined {
  if (!fields) return undefined;
  const messages: Message[] = [];
  for (const [name, value] of fields) {
    const channel = channelOf(name);
    if (channel === undefined) return undefined;
    messages.push({ channel, payload: typeof value === "string" ? Buffer.from(value) : value });
  }
  return messages;
}

/** The bytes as text, without a byte order mark; undefined where they are not UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  // Asked first: noise would cost an exception a line.
  if (!isUtf8(bytes)) return undefined;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
  return text.startsWith("\ufeff") ? text.slice(1) : text;
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

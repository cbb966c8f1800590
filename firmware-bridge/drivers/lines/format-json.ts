// format-json: a line that is a JSON value; an object has a channel for each of its keys.
// Path: format → [format-json]. Touches: nothing.

import { channelOf, type Message } from "../../driver.ts";
import { bytes, type Format, LINE_CHANNEL, refused, textOf } from "./format.ts";

/** JSON with the source text of numbers (ECMAScript 2026), which TypeScript does not know yet. */
interface SourceJson {
  parse(
    text: string,
    revive: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ): unknown;
  rawJSON(source: string): unknown;
}

const { parse, rawJSON } = JSON as unknown as SourceJson;

export const jsonFormat: Format = {
  decode(line) {
    const text = textOf(line)?.trim();
    const value = text === undefined ? undefined : parseExactly(text);
    if (text === undefined || value === undefined) return undefined;
    const entries = text.startsWith("{") ? Object.entries(value as object) : [];
    if (entries.length === 0) return [{ channel: LINE_CHANNEL, payload: line }];
    return messagesOf(entries);
  },

  encode(channel, payload) {
    const text = textOf(payload);
    if (text === undefined) return refused("the payload is not UTF-8");
    const value = parseExactly(text);
    return bytes(JSON.stringify({ [channel]: value === undefined ? text : value }));
  },
};

/** The value with its numbers as they were written, for 1.0 and 2^64 to stay so; else undefined. */
function parseExactly(text: string): unknown {
  try {
    const value = parse(text, (_key, value, { source }) =>
      typeof value === "number" && source !== undefined ? rawJSON(source) : value,
    );
    // Nested so deep that it cannot be written again: as if it could not be read.
    JSON.stringify(value);
    return value;
  } catch {
    return undefined;
  }
}

function messagesOf(entries: readonly (readonly [string, unknown])[]): Message[] | undefined {
  const messages: Message[] = [];
  for (const [key, value] of entries) {
    const channel = channelOf(key);
    if (channel === undefined) return undefined;
    const text = typeof value === "string" ? value : JSON.stringify(value);
    messages.push({ channel, payload: Buffer.from(text) });
  }
  return messages;
}

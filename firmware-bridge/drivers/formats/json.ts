// json: a line or frame that is a JSON value; an object has a channel for each of its keys.
// Path: content → [json]. Touches: nothing.

import type { Encoded } from "../../driver.ts";
import { bytes, type Field, type Format, fieldFormat, refused, textOf } from "./format.ts";

/** JSON with the source text of numbers (ECMAScript 2026), which TypeScript does not know yet. */
interface SourceJson {
  parse(
    text: string,
    revive: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ): unknown;
  rawJSON(source: string): unknown;
}

/** What a value ends with, by its beginning. */
const ENDS: Readonly<Record<string, string>> = { "{": "}", "[": "]", '"': '"' };

const { parse, rawJSON } = JSON as unknown as SourceJson;

/** What is no object, or an empty one, is whole on the channel `whole`. */
export function jsonFormat(whole: string): Format {
  return fieldFormat((text) => fieldsOf(text, whole), encode);
}

function fieldsOf(text: string, whole: string): Field[] | undefined {
  const trimmed = text.trim();
  const value = parseExactly(trimmed);
  if (value === undefined) return undefined;
  const entries = trimmed.startsWith("{") ? Object.entries(value as object) : [];
  if (entries.length === 0) return [[whole, text]];
  return entries.map(([key, it]) => [key, typeof it === "string" ? it : JSON.stringify(it)]);
}

function encode(channel: string, payload: Uint8Array): Encoded {
  const text = textOf(payload);
  if (text === undefined) return refused("the payload is not UTF-8");
  const value = parseExactly(text);
  return bytes(JSON.stringify({ [channel]: value === undefined ? text : value }));
}

/** False for most of what noise is: it would cost an exception a line. */
function looksLikeJson(text: string): boolean {
  const first = text.charAt(0);
  const end = ENDS[first];
  return end === undefined ? /[-0-9tfn]/.test(first) : text.length > 1 && text.endsWith(end);
}

/** The value with its numbers as they were written, for 1.0 and 2^64 to stay so; else undefined. */
function parseExactly(text: string): unknown {
  if (!looksLikeJson(text.trim())) return undefined;
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

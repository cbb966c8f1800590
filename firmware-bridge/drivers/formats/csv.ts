// csv: a line of fields, by RFC 4180; each has a channel named by its column.
// Path: content → [csv]. Touches: nothing.

import { assignment, type Field, type Format, fieldFormat } from "./format.ts";

/** Which fields a line has, and the one character between them. */
export interface CsvLayout {
  readonly columns: readonly string[];
  readonly separator: string;
}

/** A format for these columns; a field beyond them has its number, from 1, for a channel. */
export function csvFormat({ columns, separator }: CsvLayout): Format {
  const named = (field: string, index: number): Field => [
    columns[index] ?? String(index + 1),
    field,
  ];
  return fieldFormat((text) => fieldsOf(text, separator)?.map(named), assignment);
}

/** Blanks around a field are not part of it, unless it is quoted; undefined for a stray quote. */
function fieldsOf(text: string, separator: string): string[] | undefined {
  const fields: string[] = [];
  for (let at = 0; at <= text.length; at += separator.length) {
    const quote = firstNonBlank(text, at, separator);
    const end = text[quote] === '"' ? endOfQuoted(text, quote) : quote;
    if (end === undefined) return undefined;
    const next = text.indexOf(separator, end);
    const stop = next < 0 ? text.length : next;
    if (end > quote) {
      if (text.slice(end, stop).trim() !== "") return undefined;
      fields.push(text.slice(quote + 1, end - 1).replaceAll('""', '"'));
    } else {
      fields.push(text.slice(at, stop).trim());
    }
    at = stop;
  }
  return fields;
}

function firstNonBlank(text: string, from: number, separator: string): number {
  let at = from;
  while (text[at] !== separator && (text[at] === " " || text[at] === "\t")) at += 1;
  return at;
}

/** The place after the closing quote; a doubled quote is one of the field's characters. */
function endOfQuoted(text: string, quote: number): number | undefined {
  for (let at = text.indexOf('"', quote + 1); at >= 0; at = text.indexOf('"', at + 2)) {
    if (text[at + 1] !== '"') return at + 1;
  }
  return undefined;
}

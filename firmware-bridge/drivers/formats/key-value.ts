// key-value: a line of pairs, as a=1 b=2, or a=1,b=2, or a: 1; each key is a channel.
// Path: content → [key-value]. Touches: nothing.

import type { Encoded } from "../../driver.ts";
import { assignment, type Format, fieldFormat, refused } from "./format.ts";

// A pair begins after a separator. A key before a colon begins with a letter, so that the time in
// "at: 2026-01-01 12:30" is none. Neither expression can go over the same text twice.
const PAIR_START = {
  "=": /(?<=^|[\s,;])([^\s,;=:"]+)\s*=\s*/gu,
  ":": /(?<=^|[\s,;])([\p{L}_][^\s,;=:"]*)\s*:\s*/gu,
} as const;
const SEPARATOR = /[\s,;]/;

export const keyValueFormat: Format = fieldFormat(pairsOf, encode);

function encode(channel: string, payload: Uint8Array): Encoded {
  // Else one value could bring a second pair with it, to a channel that its sender has no right to.
  if (/[\s,;="]/.test(channel)) return refused("the channel cannot be a key");
  if (/[\s,;"]/.test(Buffer.from(payload).toString("latin1"))) {
    return refused("a value holds no blank, comma, semicolon or quote: send the whole line to set");
  }
  return assignment(channel, payload);
}

/** Undefined where the line is anything but pairs, all with the sign of the first. */
function pairsOf(text: string): [string, string][] | undefined {
  const pairs: [string, string][] = [];
  let at = skipSeparators(text, 0);
  const sign = pairAt(text, at, "=") ? "=" : ":";
  while (at < text.length || pairs.length === 0) {
    const start = pairAt(text, at, sign);
    if (!start) return undefined;
    const value = valueAt(text, start.valueAt, sign);
    if (!value) return undefined;
    pairs.push([start.key, value.value]);
    at = skipSeparators(text, value.end);
  }
  return pairs;
}

type Sign = keyof typeof PAIR_START;

function pairAt(text: string, at: number, sign: Sign) {
  const match = nextPair(text, at, sign);
  if (match?.index !== at || match[1] === undefined) return undefined;
  return { key: match[1], valueAt: at + match[0].length };
}

function nextPair(text: string, from: number, sign: Sign): RegExpExecArray | null {
  const expression = PAIR_START[sign];
  expression.lastIndex = from;
  return expression.exec(text);
}

/** A value ends at its closing quote, or where the next pair begins: it may hold blanks. */
function valueAt(text: string, at: number, sign: Sign): { value: string; end: number } | undefined {
  if (text[at] === '"') {
    const close = text.indexOf('"', at + 1);
    const ends = close > 0 && (close + 1 === text.length || SEPARATOR.test(text[close + 1] ?? ""));
    return ends ? { value: text.slice(at + 1, close), end: close + 1 } : undefined;
  }
  // Right behind a colon begins the value, not a pair: "see: http://host".
  const next = nextPair(text, sign === ":" ? at + 1 : at, sign)?.index ?? text.length;
  let end = next;
  while (end > at && SEPARATOR.test(text[end - 1] ?? "")) end -= 1;
  return { value: text.slice(at, end), end: next };
}

function skipSeparators(text: string, from: number): number {
  let at = from;
  while (at < text.length && SEPARATOR.test(text[at] ?? "")) at += 1;
  return at;
}

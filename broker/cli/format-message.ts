// format-message: an MQTT message as a line of text, for a person or for a program.
// Path: tail → [format-message]. Touches: nothing.

import { printable } from "#runtime/printable";
import { formatBytes } from "./format.ts";

export interface SeenMessage {
  readonly topic: string;
  readonly payload: string | Uint8Array;
  readonly qos: number;
  readonly retain: boolean;
}

/** How much of a payload a line for a person shows. */
const SHOWN_LENGTH_MAX = 1_024;

/** Control characters that no text holds: all but those that are white space. */
const BINARY = /(?!\p{White_Space})\p{Cc}/u;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** `time topic payload`; what is no text in hex, what is long cut, and nothing that moves a cursor. */
export function formatMessage({ topic, payload }: SeenMessage, nowMs: number): string {
  return `${timeOf(nowMs)} ${printable(topic)} ${shownPayload(Buffer.from(payload))}`;
}

function shownPayload(bytes: Buffer): string {
  const text = plainTextOf(bytes);
  const size = `(${formatBytes(bytes.length)})`;
  if (text === "") return size;
  if (text !== undefined) {
    return text.length > SHOWN_LENGTH_MAX ? `${printable(cut(text))}… ${size}` : printable(text);
  }
  const isCut = bytes.length > SHOWN_LENGTH_MAX / 2;
  return `0x${bytes.toString("hex").slice(0, SHOWN_LENGTH_MAX)}${isCut ? "…" : ""} ${size}`;
}

/** One JSON object, with the payload whole: as text if it is UTF-8, else in base64. */
export function formatJson({ topic, payload, qos, retain }: SeenMessage, nowMs: number): string {
  const bytes = Buffer.from(payload);
  const text = textOf(bytes);
  const content =
    text === undefined ? { payload_base64: bytes.toString("base64") } : { payload: text };
  return JSON.stringify({ at: timeOf(nowMs), topic, qos, retain, ...content });
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** As textOf, but not what only happens to be UTF-8, as numbers in binary do. */
function plainTextOf(bytes: Uint8Array): string | undefined {
  const text = textOf(bytes);
  return text !== undefined && BINARY.test(text) ? undefined : text;
}

/** Cuts between characters, not inside one. */
function cut(text: string): string {
  return text.slice(0, SHOWN_LENGTH_MAX).replace(/[\ud800-\udbff]$/, "");
}

function timeOf(nowMs: number): string {
  return new Date(nowMs).toISOString();
}

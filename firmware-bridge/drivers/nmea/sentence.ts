// sentence: a line as a sentence of NMEA 0183 (IEC 61162-1), and a sentence as a line.
// Path: line-splitter → [sentence] → report; and commands the other way. Touches: nothing.

import { ChecksumSuffix } from "../framing/checksum-suffix.ts";

export interface Sentence {
  /** Talker and formatter, as GPRMC; of a proprietary one, as PMTK001. */
  readonly address: string;
  /** What stands behind the address, between commas. */
  readonly fields: readonly string[];
  /** From its `$` or `!` on, as it came, without the line end. */
  readonly bytes: Uint8Array;
}

const DOLLAR = 0x24;
const EXCLAMATION_MARK = 0x21;
const ADDRESS = /^[A-Z][A-Z0-9]{2,15}$/;
const checksum = new ChecksumSuffix("nmea", "*");

/** The sentence that ends the line, or why there is none. */
export function sentenceOf(line: Uint8Array, isChecksumRequired: boolean): Sentence | string {
  // Both signs are reserved: what stands before the last is a tag block, or noise that ate a line end.
  const start = Math.max(line.lastIndexOf(DOLLAR), line.lastIndexOf(EXCLAMATION_MARK));
  if (start < 0) return "a line is no sentence";
  const bytes = line.subarray(start);
  const { checked, body } = checksum.check(bytes);
  if (checked === "wrong") return "a sentence's checksum is wrong";
  if (checked === "absent" && (isChecksumRequired || body.includes(0x2a))) {
    return "a sentence has no checksum";
  }
  const text = Buffer.from(body.subarray(1)).toString("latin1");
  if (!/^[ -~]*$/.test(text)) return "a sentence has characters outside of ASCII";
  const [address = "", ...fields] = text.split(",");
  return ADDRESS.test(address) ? { address, fields, bytes } : "a sentence has no address";
}

/** The line of a sentence that may lack its `$` and its checksum; or why it cannot be said. */
export function lineOf(payload: Uint8Array): Uint8Array | { readonly reason: string } {
  const given = Buffer.from(payload);
  const isBegun = given[0] === DOLLAR || given[0] === EXCLAMATION_MARK;
  const sentence = isBegun ? given : Buffer.concat([Buffer.of(DOLLAR), given]);
  const { checked, body } = checksum.check(sentence);
  if (checked === "wrong") return { reason: "the sentence's checksum is wrong" };
  const text = Buffer.from(body.subarray(1)).toString("latin1");
  // A reserved character or a line end inside would begin another sentence, or end this one.
  if (!/^[A-Z][A-Z0-9]+(?:,[ -~]*)?$/.test(text) || /[!$*\\^~]/.test(text)) {
    return { reason: "that is no sentence, as $PMTK220,1000" };
  }
  return Buffer.concat([checksum.append(body), Buffer.from("\r\n")]);
}

// checksum-suffix: a sum in hexadecimal digits at a line's end, behind a separator, as *47.
// Path: line-splitter → [checksum-suffix] → codec; and the other way. Touches: nothing.

import { CHECKSUMS, type ChecksumName, nmeaChecksum } from "./checksums.ts";

/** A line that may have its sum. */
export type Checked = "right" | "wrong" | "absent";

export class ChecksumSuffix {
  readonly #of: (bytes: Uint8Array) => number;
  readonly #digits: number;
  readonly #separator: Buffer;

  constructor(name: ChecksumName | "nmea", separator: string) {
    const { size, of } = name === "nmea" ? { size: 1, of: nmeaChecksum } : CHECKSUMS[name];
    this.#of = of;
    this.#digits = 2 * size;
    this.#separator = Buffer.from(separator);
  }

  /** How many bytes `append` adds. */
  get length(): number {
    return this.#separator.length + this.#digits;
  }

  /** Whether the line ends with its sum, and what stands before it; the case of digits is free. */
  check(line: Uint8Array): { readonly checked: Checked; readonly body: Uint8Array } {
    const body = line.subarray(0, Math.max(0, line.length - this.length));
    const suffix = Buffer.from(line.subarray(body.length));
    const digits = suffix.toString("latin1", this.#separator.length);
    const isSuffix =
      suffix.length === this.length &&
      suffix.subarray(0, this.#separator.length).equals(this.#separator) &&
      /^[0-9a-f]+$/i.test(digits);
    if (!isSuffix) return { checked: "absent", body: line };
    const isRight = Number.parseInt(digits, 16) === this.#of(body);
    return { checked: isRight ? "right" : "wrong", body };
  }

  append(body: Uint8Array): Uint8Array {
    const digits = this.#of(body).toString(16).toUpperCase().padStart(this.#digits, "0");
    return Buffer.concat([body, this.#separator, Buffer.from(digits)]);
  }
}

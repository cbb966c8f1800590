// checksum-tail: a sum in bytes at a frame's end.
// Path: framer → [checksum-tail] → codec; and the other way. Touches: nothing.

import { CHECKSUMS, type Checksum, type ChecksumName } from "./checksums.ts";

/** Which byte of a sum comes first: the one that counts least, or most. */
export type ByteOrder = "little" | "big";

export class ChecksumTail {
  readonly #checksum: Checksum;
  readonly #order: ByteOrder;

  constructor(name: ChecksumName, order: ByteOrder) {
    this.#checksum = CHECKSUMS[name];
    this.#order = order;
  }

  /** The frame without its sum; undefined where that is wrong, or not all there. */
  bodyOf(frame: Uint8Array): Uint8Array | undefined {
    const { size } = this.#checksum;
    const body = frame.subarray(0, Math.max(0, frame.length - size));
    return this.#sumOf(body).equals(frame.subarray(body.length)) ? body : undefined;
  }

  append(body: Uint8Array): Uint8Array {
    return Buffer.concat([body, this.#sumOf(body)]);
  }

  #sumOf(body: Uint8Array): Buffer {
    const { size, of } = this.#checksum;
    const sum = Buffer.alloc(size);
    if (this.#order === "little") sum.writeUIntLE(of(body), 0, size);
    else sum.writeUIntBE(of(body), 0, size);
    return sum;
  }
}

// cursor: reads the fields of one packet's body, and never past its end.
// Path: packet-reader → decode → [cursor] → text. Touches: nothing.

import { assertText, textAt, topicNameAt } from "./text.ts";
import { malformed, protocolError } from "./wire-error.ts";

/** A variable byte integer takes four bytes at the most (MQTT 5.0 §1.5.5). */
const VARIABLE_BYTES_MAX = 4;

const NOTHING = new Uint8Array(0);

/** Bytes `from … to` of a string or of binary data that was looked at, not yet read. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** A place in `bytes` that moves towards `end`; every method throws WireError where that is passed. */
export class Cursor {
  readonly bytes: Buffer;
  readonly end: number;
  #at: number;

  constructor(bytes: Buffer, from: number, end: number) {
    this.bytes = bytes;
    this.#at = from;
    this.end = end;
  }

  get at(): number {
    return this.#at;
  }

  get left(): number {
    return this.end - this.#at;
  }

  byte(): number {
    return this.bytes[this.#take(1)] ?? 0;
  }

  uint16(): number {
    const at = this.#take(2);
    return ((this.bytes[at] ?? 0) << 8) | (this.bytes[at + 1] ?? 0);
  }

  uint32(): number {
    return this.bytes.readUInt32BE(this.#take(4));
  }

  /** Of as few bytes as can be [MQTT-1.5.5-1]. */
  variable(): number {
    let value = 0;
    for (let index = 0; index < VARIABLE_BYTES_MAX; index += 1) {
      const byte = this.byte();
      value |= (byte & 0x7f) << (7 * index);
      if (byte >= 0x80) continue;
      if (byte === 0 && index > 0) {
        throw malformed("a variable byte integer is longer than it need be [MQTT-1.5.5-1]");
      }
      return value;
    }
    throw malformed("a variable byte integer is longer than four bytes");
  }

  /** [MQTT-2.3.1-1; MQTT 5: 2.2.1-3] */
  packetId(): number {
    const id = this.uint16();
    if (id === 0) throw protocolError("a packet identifier is 0 [MQTT-2.3.1-1, MQTT-2.2.1-3]");
    return id;
  }

  /** A string that `field` names where it must be complained of. */
  text(field: string): string {
    const length = this.uint16();
    const from = this.#take(length);
    return textAt(this.bytes, from, from + length, field);
  }

  /** A string that is looked through, and not made. */
  textSpan(field: string): Span {
    const span = this.binarySpan();
    assertText(this.bytes, span.from, span.to, field);
    return span;
  }

  /** A string without wildcards; it may be empty. */
  topicName(field: string): string {
    const length = this.uint16();
    const from = this.#take(length);
    return topicNameAt(this.bytes, from, from + length, field);
  }

  /** Binary data with its length in front, as a view. */
  binary(): Uint8Array {
    const { from, to } = this.binarySpan();
    return this.bytes.subarray(from, to);
  }

  binarySpan(): Span {
    const length = this.uint16();
    const from = this.#take(length);
    return { from, to: from + length };
  }

  /** All that is left, as a view. */
  rest(): Uint8Array {
    const from = this.#at;
    if (from === this.end) return NOTHING;
    this.#at = this.end;
    return this.bytes.subarray(from, this.end);
  }

  /** A cursor over the properties that stand here, behind which this one goes on. */
  properties(): Cursor {
    const length = this.variable();
    const from = this.#take(length);
    return new Cursor(this.bytes, from, from + length);
  }

  /** Refuses what is longer than its fields. */
  finish(): void {
    if (this.left > 0) throw malformed(`a packet has ${this.left} bytes behind its last field`);
  }

  #take(length: number): number {
    const from = this.#at;
    if (length > this.end - from) throw malformed("a packet ends within one of its fields");
    this.#at = from + length;
    return from;
  }
}

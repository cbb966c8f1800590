// framer: cuts a stream of bytes into frames, and finds the next one when bytes were lost.
// Path: link → [framer] → gateway. Touches: nothing.
//
// MQTT-SN has no framing of its own for serial lines: a frame begins where the last one ended, and
// nothing marks that place. What cannot be a message by its length and type is skipped byte by
// byte. A frame that stays incomplete over a silence lost bytes, or began with bytes that were no
// frame: then what follows is taken where messages, one after the other, end with the silence.

import { frameLength } from "./frames.ts";

export type Framed =
  | { readonly kind: "frame"; readonly bytes: Uint8Array }
  | { readonly kind: "fault"; readonly reason: string; readonly bytes: Uint8Array };

export class Framer {
  readonly #messageBytesMax: number;
  #held: Uint8Array = new Uint8Array();
  /** Skipped since the last frame, told as one fault; the first of them are enough to be shown. */
  #skipped: number[] = [];
  #skippedCount = 0;

  constructor(messageBytesMax: number) {
    this.#messageBytesMax = messageBytesMax;
  }

  /** Does a frame wait for more bytes, or skipped ones to be told? */
  get isWaiting(): boolean {
    return this.#held.length > 0 || this.#skippedCount > 0;
  }

  push(chunk: Uint8Array): Framed[] {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const framed: Framed[] = [];
    let at = 0;
    while (at < bytes.length) {
      const rest = bytes.subarray(at);
      const length = frameLength(rest, this.#messageBytesMax);
      if (length === "unknown" || (length !== "invalid" && length > rest.length)) break;
      if (length === "invalid") this.#skip(rest[0]);
      else framed.push(...this.#tellSkipped(), { kind: "frame", bytes: rest.slice(0, length) });
      at += length === "invalid" ? 1 : length;
    }
    this.#held = bytes.slice(at);
    return framed;
  }

  /** The line was silent for longer than a frame has gaps. */
  silence(): Framed[] {
    const held = this.#held;
    this.#held = new Uint8Array();
    const { starts, first } = framesToTheEnd(held, this.#messageBytesMax);
    for (const byte of held.subarray(0, first)) this.#skip(byte);
    const framed: Framed[] = this.#tellSkipped();
    for (const [start, end] of starts)
      framed.push({ kind: "frame", bytes: held.slice(start, end) });
    return framed;
  }

  #skip(byte: number | undefined): void {
    this.#skippedCount += 1;
    if (byte !== undefined && this.#skipped.length < 64) this.#skipped.push(byte);
  }

  #tellSkipped(): Framed[] {
    if (this.#skippedCount === 0) return [];
    const reason = `${this.#skippedCount} bytes are no MQTT-SN message`;
    const bytes = Uint8Array.from(this.#skipped);
    this.#skipped = [];
    this.#skippedCount = 0;
    return [{ kind: "fault", reason, bytes }];
  }
}

/** The longest run of whole frames that ends where the bytes end. */
function framesToTheEnd(bytes: Uint8Array, messageBytesMax: number) {
  const ends = new Map<number, number>();
  let first = bytes.length;
  for (let at = bytes.length - 1; at >= 0; at -= 1) {
    const length = frameLength(bytes.subarray(at), messageBytesMax);
    if (typeof length !== "number") continue;
    const end = at + length;
    if (end !== bytes.length && !ends.has(end)) continue;
    ends.set(at, end);
    first = at;
  }
  const starts: [number, number][] = [];
  for (let at = first; at < bytes.length; at = ends.get(at) ?? bytes.length) {
    starts.push([at, ends.get(at) ?? bytes.length]);
  }
  return { starts, first };
}

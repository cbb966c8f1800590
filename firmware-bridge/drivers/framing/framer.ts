// framer: what cuts a stream of bytes into frames at a delimiter, and holds no more than one frame.
// Path: chunk → [framer] → codec; and the other way. Touches: nothing.

/** A frame without its framing, or what was let go, with its bytes as far as they were held. */
export type Framed =
  | { readonly kind: "frame"; readonly bytes: Uint8Array }
  | { readonly kind: "fault"; readonly reason: string; readonly frame?: Uint8Array };

/** How one way of framing writes a frame so that its delimiter is nowhere inside. */
export interface Stuffing {
  readonly delimiter: number;
  /** The most bytes that a frame of `length` bytes can have when it is stuffed. */
  stuffedMax(length: number): number;
  /** The frame with its delimiters, ready to be sent. */
  stuff(frame: Uint8Array): Uint8Array;
  /** The frame of what stands between two delimiters; undefined where that is none. */
  unstuff(stuffed: Uint8Array): Uint8Array | undefined;
}

/**
 * Whatever goes wrong ends at the next delimiter: garbage costs the frame that it is in and no
 * other. Delimiters without anything between them are idle line, not frames.
 */
export class Framer {
  readonly #stuffing: Stuffing;
  readonly #bytesMax: number;
  readonly #held: Buffer;
  #length = 0;
  #dropping = false;

  /** For frames of at most `bytesMax` bytes without their framing. */
  constructor(stuffing: Stuffing, bytesMax: number) {
    this.#stuffing = stuffing;
    this.#bytesMax = bytesMax;
    this.#held = Buffer.allocUnsafe(stuffing.stuffedMax(bytesMax));
  }

  /** What `chunk` ends, in order; a frame that is too long is told when it becomes so. */
  push(chunk: Uint8Array): Framed[] {
    const { delimiter } = this.#stuffing;
    const framed: Framed[] = [];
    let from = 0;
    for (let at = chunk.indexOf(delimiter); at >= 0; at = chunk.indexOf(delimiter, from)) {
      this.#hold(chunk.subarray(from, at), framed);
      this.#take(framed);
      from = at + 1;
    }
    this.#hold(chunk.subarray(from), framed);
    return framed;
  }

  #hold(bytes: Uint8Array, framed: Framed[]): void {
    if (this.#dropping) return;
    if (this.#length + bytes.length > this.#held.length) {
      this.#dropping = true;
      framed.push(this.#tooLong());
      return;
    }
    this.#held.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #take(framed: Framed[]): void {
    const stuffed = this.#held.subarray(0, this.#length);
    const isNone = this.#dropping || this.#length === 0;
    this.#dropping = false;
    this.#length = 0;
    if (isNone) return;
    const bytes = this.#stuffing.unstuff(stuffed);
    if (!bytes) {
      framed.push({ kind: "fault", reason: "a frame is broken", frame: Buffer.from(stuffed) });
    } else if (bytes.length > this.#bytesMax) framed.push(this.#tooLong());
    else framed.push({ kind: "frame", bytes });
  }

  #tooLong(): Framed {
    return { kind: "fault", reason: `a frame is longer than ${this.#bytesMax} bytes` };
  }
}

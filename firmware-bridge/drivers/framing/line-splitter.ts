// line-splitter: cuts a stream of bytes into lines, and holds no more than one of them.
// Path: chunk → [line-splitter] → codec. Touches: nothing.

/** The byte or bytes that end a line; a carriage return before "lf" is dropped. */
export type LineEnd = "lf" | "crlf" | "cr";

const LF = 0x0a;
const CR = 0x0d;

/** Stands for a line that was longer than the limit and was let go. */
export const TOO_LONG = Symbol("line too long");

export class LineSplitter {
  readonly #end: LineEnd;
  readonly #bytesMax: number;
  /** The line that has begun, without what does not fit; room for one carriage return besides. */
  readonly #held: Buffer;
  #length = 0;
  #dropping = false;
  /** The byte before the chunk, for a line end that is cut in two. */
  #previous = 0;

  constructor(end: LineEnd, bytesMax: number) {
    this.#end = end;
    this.#bytesMax = bytesMax;
    this.#held = Buffer.allocUnsafe(bytesMax + 1);
  }

  /** The lines that `chunk` ends, each without its line end and as bytes of its own. */
  push(chunk: Uint8Array): (Uint8Array | typeof TOO_LONG)[] {
    const lines: (Uint8Array | typeof TOO_LONG)[] = [];
    const last = this.#end === "cr" ? CR : LF;
    let from = 0;
    for (let at = chunk.indexOf(last); at >= 0; at = chunk.indexOf(last, at + 1)) {
      const before = at === 0 ? this.#previous : (chunk[at - 1] ?? 0);
      if (this.#end === "crlf" && before !== CR) continue;
      if (!this.#hold(chunk.subarray(from, at))) lines.push(TOO_LONG);
      const line = this.#take();
      if (line) lines.push(line);
      from = at + 1;
    }
    if (!this.#hold(chunk.subarray(from))) lines.push(TOO_LONG);
    this.#previous = chunk.at(-1) ?? this.#previous;
    return lines;
  }

  /** False, once a line, when it becomes too long; the rest of it is let go as it comes. */
  #hold(bytes: Uint8Array): boolean {
    if (this.#dropping) return true;
    if (this.#length + bytes.length > this.#held.length) {
      this.#dropping = true;
      return false;
    }
    this.#held.set(bytes, this.#length);
    this.#length += bytes.length;
    return true;
  }

  /** What is held, as the line that just ended; nothing where it was too long. */
  #take(): Uint8Array | typeof TOO_LONG | undefined {
    const dropped = this.#dropping;
    const endsInCr = this.#end !== "cr" && this.#held[this.#length - 1] === CR;
    const length = endsInCr && this.#length > 0 ? this.#length - 1 : this.#length;
    this.#dropping = false;
    this.#length = 0;
    if (dropped) return undefined;
    return length > this.#bytesMax ? TOO_LONG : Buffer.from(this.#held.subarray(0, length));
  }
}

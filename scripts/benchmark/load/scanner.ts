// scanner: finds the packets in what a socket brings, by their fixed headers alone.
// Path: socket → [scanner] → connection. Touches: nothing.

/** A whole packet lies in `bytes` from its first byte at `start`; its body from `body` to `end`. */
export type TakePacket = (bytes: Buffer, start: number, body: number, end: number) => void;

const NOTHING = Buffer.alloc(0);

/** Bytes in, whole packets out; what is cut off waits for the rest of it. */
export class PacketScanner {
  readonly #take: TakePacket;
  #rest: Buffer = NOTHING;

  constructor(take: TakePacket) {
    this.#take = take;
  }

  /** `chunk` may be used again by its owner as soon as this returns. */
  push(chunk: Buffer): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    const used = this.#walk(bytes);
    this.#rest = used === bytes.length ? NOTHING : Buffer.from(bytes.subarray(used));
  }

  /** Returns where the first packet begins that is not whole. */
  #walk(bytes: Buffer): number {
    let start = 0;
    for (;;) {
      let at = start + 1;
      let length = 0;
      let scale = 1;
      let digit: number | undefined;
      do {
        digit = bytes[at++];
        if (digit === undefined) return start;
        length += (digit & 0x7f) * scale;
        scale *= 128;
      } while (digit > 127);
      const end = at + length;
      if (end > bytes.length) return start;
      this.#take(bytes, start, at, end);
      start = end;
    }
  }
}

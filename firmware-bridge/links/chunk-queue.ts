// chunk-queue: what was read ahead of a driver, and the count of it.
// Path: port-reader, tcp-link → [chunk-queue] → driver. Touches: the clock.

import { Readable } from "node:stream";
import type { Chunk } from "../driver.ts";
import type { LinkCounts } from "./open-port.ts";

/** A bounded queue of chunks that asks for more while it has room. */
export class ChunkQueue {
  readonly readable: Readable & AsyncIterable<Chunk>;
  readonly #counts: LinkCounts;
  #fullSinceMs: number | undefined;

  /** `askMore` is called when there is room; one `push` answers it. */
  constructor(chunksMax: number, counts: LinkCounts, askMore: () => void) {
    this.#counts = counts;
    this.readable = new Readable({
      objectMode: true,
      highWaterMark: chunksMax,
      read: () => {
        this.#heldBack();
        askMore();
      },
    });
  }

  /** Takes bytes that nobody else changes. */
  push(bytes: Uint8Array): void {
    const receivedAtMs = Date.now();
    this.#counts.bytesIn += bytes.length;
    this.#counts.chunks += 1;
    this.#counts.lastHeardAtMs = receivedAtMs;
    const hasRoom = this.readable.push({ bytes, receivedAtMs } satisfies Chunk);
    if (!hasRoom) this.#fullSinceMs ??= performance.now();
  }

  /** What is in the queue is still handed on. */
  end(): void {
    this.#heldBack();
    if (!this.readable.readableEnded) this.readable.push(null);
  }

  #heldBack(): void {
    if (this.#fullSinceMs === undefined) return;
    this.#counts.heldBackMs += performance.now() - this.#fullSinceMs;
    this.#fullSinceMs = undefined;
  }
}

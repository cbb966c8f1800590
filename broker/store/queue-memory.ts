// queue-memory: how much of all queues together may lie in memory beside the disk.
// Path: queue → [queue memory]. Touches: nothing.

/** A queue, as far as its share of the memory goes. */
export interface MemoryHolder {
  /** Gives back, through freed(), all that it holds. */
  forget(): void;
}

/** Counts what the queues hold; over the limit, those that nobody has read for longest forget. */
export class QueueMemory {
  readonly #bytesMax: number;
  /** In the order in which they were used, the last one at the end. */
  readonly #holders = new Set<MemoryHolder>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** `holder` holds `bytes` more, until it tells that they are freed. */
  held(holder: MemoryHolder, bytes: number): void {
    this.#bytes += bytes;
    this.#holders.add(holder);
    for (const oldest of this.#holders) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#holders.delete(oldest);
      oldest.forget();
    }
  }

  freed(bytes: number): void {
    this.#bytes -= bytes;
  }

  /** Somebody reads what `holder` holds: others are to forget before it. */
  used(holder: MemoryHolder): void {
    if (this.#holders.delete(holder)) this.#holders.add(holder);
  }

  /** `holder` holds nothing any more, and will not again. */
  gone(holder: MemoryHolder): void {
    this.#holders.delete(holder);
  }
}

// queue-window: the newest entries of one queue, in memory, so that who keeps up reads no disk.
// Path: queue → [queue window] → queue memory. Touches: nothing.

import type { QueuedMessage } from "#contract/session";
import type { MemoryHolder, QueueMemory } from "./queue-memory.ts";

export const WINDOW_LIMITS = { entriesMax: 256, bytesMax: 256 * 1024 } as const;

/** What an entry costs beside its bytes: objects, and its place in the map. */
const OVERHEAD_BYTES = 256;

/** An entry with the bytes that it takes in the store. */
export interface Held {
  readonly entry: QueuedMessage;
  readonly bytes: number;
}

/** Holds all entries from the number `from` on that were stored and not removed. */
export class QueueWindow implements MemoryHolder {
  readonly #memory: QueueMemory;
  /** In the order of their numbers. */
  readonly #entries = new Map<number, Held>();
  #bytes = 0;
  #from: number;

  /** An empty window: the next number to be stored is `from`. */
  constructor(memory: QueueMemory, from: number) {
    this.#memory = memory;
    this.#from = from;
  }

  get from(): number {
    return this.#from;
  }

  /** Begins anew, before anything was pushed. */
  restart(from: number): void {
    this.#from = from;
  }

  /** The newest entry; it lets the oldest go when the window is too large. */
  push(held: Held): void {
    this.#entries.set(held.entry.number, held);
    this.#bytes += costOf(held);
    this.#memory.held(this, costOf(held));
    for (const [number, oldest] of this.#entries) {
      if (this.#entries.size <= WINDOW_LIMITS.entriesMax && this.#bytes <= WINDOW_LIMITS.bytesMax) {
        return;
      }
      this.#drop(number, oldest);
      this.#from = number + 1;
    }
  }

  get(number: number): Held | undefined {
    return this.#entries.get(number);
  }

  /** The entries behind `after`, in order. */
  *behind(after: number): Iterable<Held> {
    this.#memory.used(this);
    for (const [number, held] of this.#entries) if (number > after) yield held;
  }

  /** Puts another entry in the place of one that is held. */
  replace(held: Held): void {
    const before = this.#entries.get(held.entry.number);
    if (!before) return;
    this.#entries.set(held.entry.number, held);
    this.#bytes += held.bytes - before.bytes;
    this.#memory.freed(before.bytes - held.bytes);
  }

  remove(number: number): void {
    const held = this.#entries.get(number);
    if (held) this.#drop(number, held);
  }

  forget(): void {
    for (const [number, held] of this.#entries) {
      this.#drop(number, held);
      this.#from = number + 1;
    }
  }

  close(): void {
    this.forget();
    this.#memory.gone(this);
  }

  #drop(number: number, held: Held): void {
    this.#entries.delete(number);
    this.#bytes -= costOf(held);
    this.#memory.freed(costOf(held));
  }
}

function costOf({ bytes }: Held): number {
  return bytes + OVERHEAD_BYTES;
}

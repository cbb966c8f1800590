// message-numbers: where the broker's numbering of messages goes on after a restart.
// Path: store → [message numbers] → mqtt. Touches: one key of the store.

import type { CursorStore } from "./cursor.ts";

const KEY = "message-number";
const SAVE_MS = 60_000;
/** More than any broker numbers between two saves. */
const MARGIN = 2 ** 32;
/** Keys of queued messages sort as text up to 16 digits; all numbers have that many. */
const LEAST = 10 ** 15;

/**
 * Queued messages lie under (broker, number). With a fixed broker id the numbers must never go back,
 * or stored messages are overwritten; a clock alone cannot promise that on a board without a battery.
 */
export class MessageNumbers {
  readonly first: number;
  readonly #store: CursorStore;
  #timer: NodeJS.Timeout | undefined;

  private constructor(store: CursorStore, first: number) {
    this.#store = store;
    this.first = first;
  }

  static async open(store: CursorStore, nowMs: number = Date.now()): Promise<MessageNumbers> {
    const saved = await store.get(KEY);
    const last = saved ? Number(new TextDecoder().decode(saved)) : 0;
    const numbers = new MessageNumbers(store, Math.max(LEAST, nowMs * 1_000, last + MARGIN));
    await numbers.#save(numbers.first);
    return numbers;
  }

  /** Saves what `read` says, once a minute, until close(). */
  follow(read: () => number): void {
    this.#timer = setInterval(() => {
      // A save that fails is made up for a minute later; the margin covers both.
      this.#save(read()).catch(() => {});
    }, SAVE_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #save(number: number): Promise<void> {
    const value = new TextEncoder().encode(String(number));
    await this.#store.commit({
      sync: true,
      prepare: () => [{ type: "put", key: KEY, value }],
    });
  }
}

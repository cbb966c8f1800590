// inbox: has a client's messages handled one after the other, also when one has to wait for the broker.
// Path: gateway → [inbox] → client. Touches: nothing.

import type { Packet } from "./packets.ts";

/** Messages that wait behind one; a device says again what is not answered. */
const WAITING_MAX = 16;

export class Inbox {
  readonly #handle: (packet: Packet) => Promise<void> | undefined;
  readonly #onDropped: (packet: Packet) => void;
  readonly #waiting: Packet[] = [];
  #isBusy = false;

  /** `handle` returns a promise where it is not done at once. */
  constructor(
    handle: (packet: Packet) => Promise<void> | undefined,
    onDropped: (packet: Packet) => void,
  ) {
    this.#handle = handle;
    this.#onDropped = onDropped;
  }

  take(packet: Packet): void {
    if (!this.#isBusy) this.#begin(packet);
    else if (this.#waiting.length < WAITING_MAX) this.#waiting.push(packet);
    else this.#onDropped(packet);
  }

  #begin(packet: Packet): void {
    const ending = this.#handle(packet);
    if (!ending) return;
    this.#isBusy = true;
    void ending.then(() => {
      this.#isBusy = false;
      this.#goOn();
    });
  }

  #goOn(): void {
    while (!this.#isBusy) {
      const packet = this.#waiting.shift();
      if (!packet) return;
      this.#begin(packet);
    }
  }
}

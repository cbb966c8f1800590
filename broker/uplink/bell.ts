// bell: wakes the one who waits for any of several things to happen.
// Path: outbox, landing → [bell] → sender. Touches: the clock.

/** A ring that nobody waits for is heard by the next who waits. */
export class Bell {
  #isRung = false;
  #wake: () => void = () => {};

  ring(): void {
    this.#isRung = true;
    this.#wake();
  }

  /** Resolves at the next ring, or after `msMost`. */
  async heard(msMost: number): Promise<void> {
    if (!this.#isRung) await this.#ringOrTimeout(msMost);
    this.#isRung = false;
  }

  #ringOrTimeout(msMost: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, msMost);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

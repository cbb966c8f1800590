// arrivals: which of a paced job's messages have come, and how often.
// Path: collect → [arrivals]. Touches: nothing.

export class Arrivals {
  /** All that came. */
  received = 0;
  /** All that came, each counted once. */
  different = 0;
  readonly #seen: Uint8Array;

  /** Of messages with the numbers 0 to `messages` - 1. */
  constructor(messages: number) {
    this.#seen = new Uint8Array(messages);
  }

  add(number: number): void {
    this.received += 1;
    if (this.#seen[number] !== 0) return;
    this.#seen[number] = 1;
    this.different += 1;
  }

  get lost(): number {
    return this.#seen.length - this.different;
  }

  get repeated(): number {
    return this.received - this.different;
  }
}

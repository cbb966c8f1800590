// addresses: whose turn it is of the addresses at which the landing may be reached.
// Path: settings → [addresses] → sender, downlink. Touches: nothing.

import assert from "node:assert";

/** Each failure passes the turn on. */
export class Addresses {
  readonly #urls: readonly string[];
  #at = 0;
  #failures = 0;

  constructor(urls: readonly string[]) {
    assert(urls.length > 0, "an uplink has an address");
    this.#urls = urls;
  }

  get url(): string {
    const url = this.#urls[this.#at];
    assert(url !== undefined);
    return url;
  }

  /** The one whose turn it is serves: it keeps its turn until it fails. */
  served(): void {
    this.#failures = 0;
  }

  /** It failed; true when all have failed since one served. */
  failed(): boolean {
    this.#at = (this.#at + 1) % this.#urls.length;
    this.#failures += 1;
    return this.#failures % this.#urls.length === 0;
  }
}

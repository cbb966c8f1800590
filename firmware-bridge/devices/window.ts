// window: the messages of one device that the broker has not acknowledged, in order and bounded.
// Path: driver → [window] → connection. Touches: nothing.

export interface Pending {
  readonly topic: string;
  readonly payload: Uint8Array;
  /** Packet identifier since it was first sent; sent again, a message keeps it [MQTT-4.4.0-1]. */
  packetId: number | undefined;
}

export class Window {
  readonly #countMax: number;
  readonly #pending = new Set<Pending>();
  readonly #waiting: (() => void)[] = [];
  #onEmpty: (() => void) | undefined;
  #closed = false;

  constructor(countMax: number) {
    this.#countMax = countMax;
  }

  /** All that is not acknowledged, oldest first. */
  get pending(): Iterable<Pending> {
    return this.#pending;
  }

  get size(): number {
    return this.#pending.size;
  }

  get hasRoom(): boolean {
    return this.#pending.size < this.#countMax;
  }

  /** The identifiers that are taken, on whatever connection. */
  *packetIds(): Iterable<number> {
    for (const { packetId } of this.#pending) if (packetId !== undefined) yield packetId;
  }

  /** Enters a message when there is room for it; undefined when the window was closed before. */
  async add(topic: string, payload: Uint8Array): Promise<Pending | undefined> {
    while (!this.#closed && !this.hasRoom) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#closed) return undefined;
    const pending = { topic, payload, packetId: undefined };
    this.#pending.add(pending);
    return pending;
  }

  acknowledge(pending: Pending): void {
    this.#pending.delete(pending);
    this.#waiting.shift()?.();
    if (this.#pending.size === 0) this.#onEmpty?.();
  }

  /** Resolves when nothing is left to be acknowledged. */
  async empty(): Promise<void> {
    if (this.#pending.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
  }

  /** Lets go of those who wait for room: there will be none. */
  close(): void {
    this.#closed = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

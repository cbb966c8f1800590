// brokers: which brokers of the cluster live, by their heartbeats; on a gateway it is this one alone.
// Path: routing → [brokers] → sessions. Touches: nothing.

export interface BrokersOptions {
  readonly brokerId: string;
  /** A broker that was silent for longer is dead. */
  readonly silentMsMax: number;
  readonly now: () => number;
}

export class Brokers {
  readonly #options: BrokersOptions;
  readonly #heardAtMs = new Map<string, number>();
  #heardSelfAtMs: number;

  constructor(options: BrokersOptions) {
    this.#options = options;
    this.#heardSelfAtMs = options.now();
  }

  /** A broker spoke. True: this one, and it was silent for so long that others took it for dead. */
  heard(brokerId: string): boolean {
    const nowMs = this.#options.now();
    if (brokerId !== this.#options.brokerId) {
      this.#heardAtMs.set(brokerId, nowMs);
      return false;
    }
    const silentMs = nowMs - this.#heardSelfAtMs;
    this.#heardSelfAtMs = nowMs;
    // Whoever was not heard either has its time from now on.
    if (silentMs > this.#deafMsMax) {
      for (const other of this.#heardAtMs.keys()) this.#heardAtMs.set(other, nowMs);
    }
    return silentMs > this.#options.silentMsMax;
  }

  /** A broker must be there, by what another one said: it has its time to speak. */
  expect(brokerId: string): void {
    if (brokerId === this.#options.brokerId || this.#heardAtMs.has(brokerId)) return;
    this.#heardAtMs.set(brokerId, this.#options.now());
  }

  get isAlone(): boolean {
    return this.#heardAtMs.size === 0;
  }

  /** Is it this broker that looks after sessions whose clients are away? One does, for all. */
  get isFirst(): boolean {
    for (const other of this.#heardAtMs.keys()) if (other < this.#options.brokerId) return false;
    return true;
  }

  /** Who does not hear itself for longer hears nobody, and judges nobody. */
  get #deafMsMax(): number {
    return this.#options.silentMsMax / 2;
  }

  /** Forgets the brokers that have died, and tells which. */
  sweep(): string[] {
    const { now, silentMsMax } = this.#options;
    const dead: string[] = [];
    if (now() - this.#heardSelfAtMs > this.#deafMsMax) return dead;
    for (const [brokerId, atMs] of this.#heardAtMs) {
      if (now() - atMs <= silentMsMax) continue;
      this.#heardAtMs.delete(brokerId);
      dead.push(brokerId);
    }
    return dead;
  }
}

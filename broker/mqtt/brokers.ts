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

  constructor(options: BrokersOptions) {
    this.#options = options;
  }

  /** A broker spoke. */
  heard(brokerId: string): void {
    if (brokerId !== this.#options.brokerId) this.#heardAtMs.set(brokerId, this.#options.now());
  }

  /** A broker must be there, by what another one said: it has its time to speak. */
  expect(brokerId: string): void {
    if (!this.#heardAtMs.has(brokerId)) this.heard(brokerId);
  }

  get isAlone(): boolean {
    return this.#heardAtMs.size === 0;
  }

  /** Is it this broker that looks after sessions whose clients are away? One does, for all. */
  get isFirst(): boolean {
    for (const other of this.#heardAtMs.keys()) if (other < this.#options.brokerId) return false;
    return true;
  }

  /** Forgets the brokers that have died, and tells which. */
  sweep(): string[] {
    const { now, silentMsMax } = this.#options;
    const dead: string[] = [];
    for (const [brokerId, atMs] of this.#heardAtMs) {
      if (now() - atMs <= silentMsMax) continue;
      this.#heardAtMs.delete(brokerId);
      dead.push(brokerId);
    }
    return dead;
  }
}

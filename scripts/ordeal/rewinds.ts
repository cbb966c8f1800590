// rewinds: counts what gateways say of their rewinds, over their restarts.
// Path: main → [rewinds] → world. Touches: the gateways' status.

import { type Station, statusOf } from "./world.ts";

const ASK_MS = 500;

/** What a gateway counted since its process began; what it counted just before a kill is not seen. */
interface Seen {
  readonly startedAtMs: number;
  readonly rewinds: number;
}

export class Rewinds {
  readonly #stations: readonly Station[];
  readonly #seen = new Map<string, Seen>();
  readonly #timer: NodeJS.Timeout;
  #ended = 0;

  /** Asks each gateway now and then. */
  constructor(stations: readonly Station[]) {
    this.#stations = stations;
    this.#timer = setInterval(() => void this.ask(), ASK_MS);
  }

  get total(): number {
    return [...this.#seen.values()].reduce((sum, { rewinds }) => sum + rewinds, this.#ended);
  }

  async ask(): Promise<void> {
    for (const station of this.#stations) {
      const status = await statusOf(station);
      if (!status?.uplink) continue;
      const { startedAtMs } = status;
      const before = this.#seen.get(station.part);
      if (before && before.startedAtMs !== startedAtMs) this.#ended += before.rewinds;
      this.#seen.set(station.part, { startedAtMs, rewinds: status.uplink.rewinds });
    }
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

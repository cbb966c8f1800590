// connect-pace: how often a device may connect: one that restarts without end costs a connection each.
// Path: [connect-pace] → mqtt. Touches: the clock.

const CONNECTS_AT_ONCE_MAX = 20;
const MS_EACH = 200;

/** So many at once, as of a script that connects for each message, and five a second in the long run. */
export class ConnectPace {
  readonly #nowMs: () => number;
  /** When those before are paid off, each with its time. */
  #paidAtMs = Number.NEGATIVE_INFINITY;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** May it connect now? Only those that may are counted. */
  take(): boolean {
    const nowMs = this.#nowMs();
    const fromMs = Math.max(this.#paidAtMs, nowMs);
    if (fromMs - nowMs > (CONNECTS_AT_ONCE_MAX - 1) * MS_EACH) return false;
    this.#paidAtMs = fromMs + MS_EACH;
    return true;
  }
}

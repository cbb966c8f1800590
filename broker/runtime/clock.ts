// clock: a clock that starts with the wall's and never jumps.
// Path: sessions, wills, expiry. Touches: the process' monotonic clock.

/**
 * Milliseconds since 1970 as the wall clock said when this process started, counted on evenly: a
 * board without a battery learns the date after its start, and nothing must expire by that.
 */
export function steadyNowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** A timer for longer than this fires at once (24.8 days; Node's setTimeout). */
export const TIMER_MS_MAX = 2 ** 31 - 1;

// refusal-log: tells of refusals, so that no noisy client fills the log or hides the others.
// Path: listeners, access. Touches: the log that it is given.

import type { Log } from "#runtime/log";

export const REFUSAL_LOG = { windowMs: 10_000, linesInWindowMax: 10 } as const;

export interface RefusedPeer {
  /** undefined on a unix socket */
  readonly ip: string | undefined;
}

interface Window {
  sinceMs: number;
  readonly ips: Set<string | undefined>;
  /** Since the last line of this reason, whenever that was. */
  unlogged: number;
}

/**
 * Of each reason, an address stands in the log once in 10 s and ten addresses at most; the next
 * line says how many refusals were left out. Reasons are words of ours: there are few.
 */
export class RefusalLog {
  readonly #log: Log;
  readonly #what: string;
  readonly #nowMs: () => number;
  readonly #windows = new Map<string, Window>();

  constructor(log: Log, what: string, nowMs = () => performance.now()) {
    this.#log = log;
    this.#what = what;
    this.#nowMs = nowMs;
  }

  /** Logs the refusal or counts it as left out. */
  tell(reason: string, peer: RefusedPeer, more: object = {}): void {
    const window = this.#windowOf(reason);
    if (window.ips.has(peer.ip) || window.ips.size >= REFUSAL_LOG.linesInWindowMax) {
      window.unlogged += 1;
      return;
    }
    window.ips.add(peer.ip);
    this.#log.warn({ reason, ip: peer.ip, ...more, unlogged: window.unlogged }, this.#what);
    window.unlogged = 0;
  }

  #windowOf(reason: string): Window {
    const nowMs = this.#nowMs();
    const window = this.#windows.get(reason) ?? { sinceMs: nowMs, ips: new Set(), unlogged: 0 };
    if (nowMs - window.sinceMs >= REFUSAL_LOG.windowMs) {
      window.sinceMs = nowMs;
      window.ips.clear();
    }
    this.#windows.set(reason, window);
    return window;
  }
}

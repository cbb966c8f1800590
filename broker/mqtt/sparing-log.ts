// sparing-log: tells what may happen over and over so that it neither fills the log nor hides the rest.
// Path: reception, access, aftermath, mqtt → [sparing-log]. Touches: the log that it is given.

import { reasonOf, SluiceError } from "#contract/errors";

export const SPARING_LOG = { windowMs: 10_000, linesInWindowMax: 10 } as const;

interface Window {
  sinceMs: number;
  readonly origins: Set<string | undefined>;
  /** Since the last line of this reason, whenever that was. */
  unlogged: number;
}

/**
 * Of each reason, an origin stands in the log once in 10 s and ten of them at most; the next line says
 * how many were left out. Reasons are words of ours: there are few.
 */
export class SparingLog {
  readonly #write: (line: object) => void;
  readonly #nowMs: () => number;
  readonly #windows = new Map<string, Window>();

  constructor(write: (line: object) => void, nowMs = () => performance.now()) {
    this.#write = write;
    this.#nowMs = nowMs;
  }

  /** Logs the line or counts it as left out. `origin`: an address, say; undefined: none is known. */
  tell(reason: string, origin: string | undefined, line: object): void {
    const window = this.#windowOf(reason);
    const { origins } = window;
    if (origins.has(origin) || origins.size >= SPARING_LOG.linesInWindowMax) {
      window.unlogged += 1;
      return;
    }
    origins.add(origin);
    this.#write({ reason, ...line, unlogged: window.unlogged });
    window.unlogged = 0;
  }

  /** Logs a fault of whatever kind; its message, of which there may be many, is not its reason. */
  tellFault(fault: unknown, line: object = {}): void {
    this.tell(kindOf(fault), undefined, { ...line, why: reasonOf(fault) });
  }

  #windowOf(reason: string): Window {
    const nowMs = this.#nowMs();
    const window = this.#windows.get(reason) ?? { sinceMs: nowMs, origins: new Set(), unlogged: 0 };
    if (nowMs - window.sinceMs >= SPARING_LOG.windowMs) {
      window.sinceMs = nowMs;
      window.origins.clear();
    }
    this.#windows.set(reason, window);
    return window;
  }
}

function kindOf(fault: unknown): string {
  if (fault instanceof SluiceError) return fault.code;
  return fault instanceof Error ? fault.name : "unknown";
}

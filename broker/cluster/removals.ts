// removals: what clients have acknowledged in one turn of the event loop, forgotten in one step.
// Path: queue → [removals] → scripts → cluster Redis. Touches: the cluster Redis.

import { type SessionKeys, sessionKeys } from "./keys.ts";
import { SCRIPTS, type Scripts } from "./scripts.ts";

/** Redis serves nobody else meanwhile. */
const BATCH_ENTRIES_MAX = 256;

interface Removed {
  readonly keys: SessionKeys;
  /** Runs of numbers: the first of each, and the one behind its last. */
  readonly runs: number[];
}

/** A batch that is sent with the turn's end, when it is full, or when something must not overtake it. */
export class Removals {
  readonly #scripts: Scripts;
  #waiting = new Map<string, Removed>();
  #count = 0;
  #done = Promise.withResolvers<void>();
  #isFlushing = false;

  constructor(scripts: Scripts) {
    this.#scripts = scripts;
  }

  /** Resolves when Redis has answered. @throws SluiceError CLOUD_UNREACHABLE, ACCESS_DENIED. */
  add(clientId: string, number: number): Promise<void> {
    const { promise } = this.#done;
    const removed = this.#waiting.get(clientId);
    // Acknowledgements come in the order of the messages [MQTT-4.6.0-2]: mostly it is one run.
    if (!removed) {
      this.#waiting.set(clientId, { keys: sessionKeys(clientId), runs: [number, number + 1] });
    } else if (removed.runs.at(-1) === number) removed.runs[removed.runs.length - 1] = number + 1;
    else removed.runs.push(number, number + 1);
    this.#count += 1;
    if (this.#count === BATCH_ENTRIES_MAX) this.flush();
    else this.#flushSoon();
    return promise;
  }

  /** What is sent from here on comes behind all that was asked before. */
  flush(): void {
    if (this.#count === 0) return;
    const keys: string[] = [];
    const args: number[] = [];
    for (const { keys: of, runs } of this.#waiting.values()) {
      keys.push(of.session, of.queue, of.released);
      args.push(runs.length / 2, ...runs);
    }
    const { resolve, reject } = this.#done;
    this.#waiting = new Map();
    this.#count = 0;
    this.#done = Promise.withResolvers<void>();
    this.#scripts.runSurely(SCRIPTS.remove, keys, args).then(() => resolve(), reject);
  }

  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    setImmediate(() => {
      this.#isFlushing = false;
      this.flush();
    });
  }
}

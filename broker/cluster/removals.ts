// removals: what clients have acknowledged in one turn of the event loop, forgotten in one step.
// Path: queue → [removals] → scripts → cluster Redis. Touches: the cluster Redis.

import { type SessionKeys, sessionKeys } from "./keys.ts";
import { SCRIPTS, type Scripts } from "./scripts.ts";

/** Redis serves nobody else meanwhile. */
const BATCH_ENTRIES_MAX = 256;

interface Removed {
  readonly keys: SessionKeys;
  readonly numbers: number[];
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
    const removed = this.#waiting.get(clientId);
    if (removed) removed.numbers.push(number);
    else this.#waiting.set(clientId, { keys: sessionKeys(clientId), numbers: [number] });
    const { promise } = this.#done;
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
    for (const { keys: of, numbers } of this.#waiting.values()) {
      keys.push(of.session, of.queue, of.released);
      args.push(numbers.length, (numbers.at(-1) ?? 0) + 1, ...numbers);
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

// own-devices: which devices this bridge has ever told the broker of, on disk.
// Path: devices → [own-devices] → memory. Touches: one file of the data folder.
//
// Anybody who may publish a document could otherwise have the bridge clear what others retain.

import * as v from "valibot";
import { reasonOf } from "#contract/errors";
import { NAME_PATTERN } from "#contract/topics";
import type { Log } from "#runtime/log";
import type { Memory } from "../driver.ts";

const DEVICES_MAX = 10_000;

const Names = v.array(v.pipe(v.string(), v.regex(NAME_PATTERN)));

export class OwnDevices {
  readonly #memory: Memory;
  readonly #log: Log;
  readonly #names = new Set<string>();
  readonly #read: Promise<void>;
  #writing: Promise<void> | undefined;

  constructor(memory: Memory, log: Log) {
    this.#memory = memory;
    this.#log = log;
    this.#read = this.#load();
  }

  async has(name: string): Promise<boolean> {
    await this.#read;
    return this.#names.has(name);
  }

  /** On disk soon; of many the oldest make room. */
  add(name: string): void {
    void this.#read.then(() => {
      if (this.#names.has(name)) return;
      const [oldest] = this.#names;
      if (oldest !== undefined && this.#names.size >= DEVICES_MAX) this.#names.delete(oldest);
      this.#names.add(name);
      this.#write();
    });
  }

  /** The broker retains nothing of it any more. */
  forget(name: string): void {
    void this.#read.then(() => {
      if (this.#names.delete(name)) this.#write();
    });
  }

  /** Resolves when it is on disk, or cannot be. */
  async flush(): Promise<void> {
    await this.#read;
    await this.#writing;
  }

  /** Those that come in one turn are written in one go. */
  #write(): void {
    this.#writing ??= Promise.resolve()
      .then(() => {
        this.#writing = undefined;
        return this.#memory.write([...this.#names]);
      })
      .catch((fault: unknown) => {
        const mend = "what devices leave behind is not cleared";
        this.#log.warn({ why: reasonOf(fault), mend }, "devices not remembered");
      });
  }

  async #load(): Promise<void> {
    const { success, output } = v.safeParse(Names, await this.#memory.read());
    if (success) for (const name of output.slice(-DEVICES_MAX)) this.#names.add(name);
  }
}

// memory: a small JSON file of one link's driver, written whole or not at all.
// Path: driver → [memory]. Touches: the data folder.

import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { reasonOf, SluiceError } from "#contract/errors";
import type { Log } from "#runtime/log";
import type { Memory } from "../driver.ts";

export class MemoryFile implements Memory {
  readonly #path: string;
  readonly #log: Log;
  /** One write after the other: they share the temporary file. */
  #written: Promise<void> = Promise.resolve();

  constructor(path: string, log: Log) {
    this.#path = path;
    this.#log = log;
  }

  async read(): Promise<unknown> {
    try {
      return JSON.parse(await readFile(this.#path, "utf8"));
    } catch (fault) {
      if ((fault as NodeJS.ErrnoException).code !== "ENOENT") {
        this.#log.warn({ file: this.#path, why: reasonOf(fault) }, "unreadable, so begun anew");
      }
      return undefined;
    }
  }

  write(value: unknown): Promise<void> {
    const text = JSON.stringify(value);
    const written = this.#written.then(() => this.#replace(text));
    this.#written = written.catch(() => {});
    return written;
  }

  async #replace(text: string): Promise<void> {
    const temporary = `${this.#path}.new`;
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o750 });
      const file = await open(temporary, "w", 0o640);
      await file
        .writeFile(text)
        .then(() => file.sync())
        .finally(() => file.close());
      await rename(temporary, this.#path);
      await syncFolder(dirname(this.#path));
    } catch (cause) {
      const message = `${this.#path} cannot be written: ${reasonOf(cause)}`;
      throw new SluiceError("MEMORY_FAILED", message, { cause });
    }
  }
}

/** Until then a power cut may bring the old file back. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  await folder.sync().finally(() => folder.close());
}

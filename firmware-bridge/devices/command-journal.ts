// command-journal: which commands each device had last, on disk before they are carried out.
// Path: commands → [command-journal] → memory. Touches: one file of the data folder.
//
// A broker need not have an acknowledgement on disk before it sends the next command: one that dies
// may send several again, and the last of them is not the only one that was carried out.

import * as v from "valibot";
import type { Memory, Outcome } from "../driver.ts";

const DEVICES_MAX = 10_000;
/** More than a broker sends while it notes an acknowledgement down. */
const RECENT_MAX = 8;
/** What need not be on disk at once waits so long for what must be: each write syncs the disk. */
const SOON_MS = 500;

const Entries = v.array(
  v.object({
    key: v.string(),
    outcome: v.optional(
      v.variant("state", [
        v.object({ state: v.literal("done") }),
        v.object({ state: v.literal("failed"), reason: v.string() }),
      ]),
    ),
  }),
);

/** One of a device's last commands; without an outcome it was under way. */
export interface JournalEntry {
  readonly key: string;
  readonly outcome?: Outcome | undefined;
}

/** One file for all devices: what they begin in one moment is written in one go. */
export class CommandJournal {
  readonly #memory: Memory;
  readonly #read: Promise<void>;
  /** Of each device the oldest first. */
  readonly #entries = new Map<string, readonly JournalEntry[]>();
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #soon: NodeJS.Timeout | undefined;

  constructor(memory: Memory) {
    this.#memory = memory;
    this.#read = this.#load();
  }

  async find(device: string, key: string): Promise<JournalEntry | undefined> {
    await this.#read;
    return this.#entries.get(device)?.find((entry) => entry.key === key);
  }

  /** Resolves when it is on disk that the command is under way; @throws SluiceError MEMORY_FAILED. */
  async begin(device: string, key: string): Promise<void> {
    await this.#read;
    this.#set(device, { key });
    await this.#write();
  }

  /** Written with what comes next, or soon: until then it counts as under way. */
  finish(device: string, key: string, outcome: Outcome): void {
    if (!this.#entries.get(device)?.some((entry) => entry.key === key)) return;
    this.#set(device, { key, outcome });
    this.#writeSoon();
  }

  /** Resolves when what was finished or forgotten is on disk, or cannot be. */
  async flush(): Promise<void> {
    if (!this.#soon) return;
    await this.#write().catch(() => {
      // The next command of any device fails by the same disk, and says so.
    });
  }

  /** That command; without `key` all: the broker has no session, its identifiers begin anew. */
  async forget(device: string, key?: string): Promise<void> {
    await this.#read;
    const entries = this.#entries.get(device) ?? [];
    const left = key === undefined ? [] : entries.filter((entry) => entry.key !== key);
    if (left.length === entries.length) return;
    if (left.length > 0) this.#entries.set(device, left);
    else this.#entries.delete(device);
    this.#writeSoon();
  }

  #set(device: string, entry: JournalEntry): void {
    const others = this.#entries.get(device)?.filter(({ key }) => key !== entry.key) ?? [];
    this.#entries.delete(device);
    this.#entries.set(device, [...others, entry].slice(-RECENT_MAX));
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined && this.#entries.size > DEVICES_MAX) this.#entries.delete(oldest);
  }

  #writeSoon(): void {
    this.#soon ??= setTimeout(() => void this.flush(), SOON_MS);
  }

  /** While one write is under way, all that comes waits for the same next one. */
  #write(): Promise<void> {
    this.#next ??= this.#writing
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        clearTimeout(this.#soon);
        this.#soon = undefined;
        this.#writing = this.#memory.write(Object.fromEntries(this.#entries));
        return this.#writing;
      });
    return this.#next;
  }

  async #load(): Promise<void> {
    const stored = await this.#memory.read();
    if (typeof stored !== "object" || stored === null) return;
    for (const [device, value] of Object.entries(stored).slice(-DEVICES_MAX)) {
      const entries = v.safeParse(Entries, value);
      if (entries.success) this.#entries.set(device, entries.output);
    }
  }
}

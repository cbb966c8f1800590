// progress: reads how far a programmer is from what it prints, and keeps its last words.
// Path: run → [progress] → flash. Touches: nothing.

import { stripVTControlCharacters } from "node:util";
import type { FlashStep } from "#contract/flash";

export interface Progress {
  readonly step: FlashStep;
  /** 0 to 100, of the step. */
  readonly percent: number;
}

const LIMITS = { lineCharactersMax: 512, wordLinesMax: 3, wordCharactersMax: 500 } as const;

/** avrdude 6 and 7: `Writing | #####      | 10% 0.1s`; where it is no terminal, `#` by `#`. */
const AVRDUDE = /^(Reading|Writing) \| (#*) *(?:\| (\d{1,3})%)?/;
/** esptool 4: `Writing at 0x00010000... (12 %)`. */
const ESPTOOL_4 = /^Writing at 0x[0-9a-f]{1,16}\.\.\. \((\d{1,3}) %\)/i;
/** esptool 5: `Writing at 0x00010000 [===>     ]  12.5% 4096/32768 bytes...`. */
const ESPTOOL_5 = /^Writing at 0x[0-9a-f]{1,16} \[[=> ]*\] *(\d{1,3})\.\d%/i;
const ESPTOOL_VERIFIED = /^Hash of data verified/;

/** What every programmer prints at its end, whatever happened. */
const NOISE = /^(avrdude done\.|Hard resetting|Leaving\.\.\.)/;

/** One stream of what a programmer prints. */
export class ProgressReader {
  readonly #words: LastWords;
  #line = "";
  #hasWritten = false;
  #told = "";

  constructor(words: LastWords) {
    this.#words = words;
  }

  /** What `text` tells of new progress, in order; lines may come in any pieces. */
  push(text: string): Progress[] {
    const found: Progress[] = [];
    const [rest = "", ...lines] = text.split(/[\r\n]/);
    this.#extend(rest, found);
    for (const line of lines) {
      this.#endLine();
      this.#extend(line, found);
    }
    return found;
  }

  /** The stream has ended; what it said last may lack a line end. */
  end(): void {
    this.#endLine();
  }

  #extend(text: string, found: Progress[]): void {
    if (text === "") return;
    this.#line = (this.#line + text).slice(0, LIMITS.lineCharactersMax);
    const progress = this.#progressIn(stripVTControlCharacters(this.#line));
    if (!progress) return;
    const key = `${progress.step} ${progress.percent}`;
    if (key !== this.#told) found.push(progress);
    this.#told = key;
  }

  #progressIn(line: string): Progress | undefined {
    const [, verb, hashes = "", percent] = AVRDUDE.exec(line) ?? [];
    if (verb) return this.#step(verb === "Writing", percent ?? hashes.length * 2);
    const written = (ESPTOOL_4.exec(line) ?? ESPTOOL_5.exec(line))?.[1];
    if (written !== undefined) return this.#step(true, written);
    return ESPTOOL_VERIFIED.test(line) ? { step: "verifying", percent: 100 } : undefined;
  }

  /** What is read before anything is written is the chip's signature; after it, what was written. */
  #step(isWriting: boolean, percent: string | number): Progress {
    this.#hasWritten ||= isWriting;
    const step = isWriting ? "writing" : this.#hasWritten ? "verifying" : "reading";
    return { step, percent: Math.min(100, Number(percent)) };
  }

  #endLine(): void {
    const line = stripVTControlCharacters(this.#line).trim();
    this.#line = "";
    if (line !== "" && !NOISE.test(line) && !this.#progressIn(line)) this.#words.add(line);
  }
}

/** The last lines that a programmer said, on whichever stream. */
export class LastWords {
  #lines: string[] = [];

  add(line: string): void {
    this.#lines = [...this.#lines, line].slice(-LIMITS.wordLinesMax);
  }

  /** On one line, and bounded; empty when it said nothing. */
  get text(): string {
    return this.#lines.join("; ").slice(-LIMITS.wordCharactersMax);
  }
}

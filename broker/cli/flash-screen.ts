// flash-screen: how far a flash is: a bar on a terminal, lines elsewhere.
// Path: flash → [flash-screen]. Touches: the stream it is given.

import type { FlashEvent, FlashStep } from "#contract/flash";
import { printable } from "#runtime/printable";
import { formatCount } from "./format.ts";

const BAR_CHARACTERS_MAX = 40;
/** Beside the bar: the step, the brackets, the per cent. */
const BESIDE_CHARACTERS = 18;
/** Where it is no terminal, one line in so many per cent. */
const LINE_PERCENT = 25;

interface Screen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export class FlashScreen {
  readonly #screen: Screen;
  #step: FlashStep | undefined;
  #percentShown = 0;

  constructor(screen: Screen) {
    this.#screen = screen;
  }

  show(event: FlashEvent): void {
    if (event.state === "progress") {
      if (this.#screen.isTTY) this.#bar(event.step, event.percent);
      else this.#line(event.step, event.percent);
      return;
    }
    const text = textOf(event);
    if (text === "") return;
    this.end();
    this.#screen.write(`${printable(text)}\n`);
  }

  /** Leaves the bar's line. */
  end(): void {
    if (this.#step !== undefined && this.#screen.isTTY) this.#screen.write("\n");
    this.#step = undefined;
  }

  #bar(step: FlashStep, percent: number): void {
    if (step !== this.#step) this.end();
    this.#step = step;
    const room = (this.#screen.columns ?? 80) - BESIDE_CHARACTERS - 1;
    const width = Math.max(1, Math.min(BAR_CHARACTERS_MAX, room));
    const full = Math.round((percent / 100) * width);
    const bar = "#".repeat(full) + "-".repeat(width - full);
    this.#screen.write(`\r${step.padEnd(9)} [${bar}] ${String(percent).padStart(3)}%`);
  }

  #line(step: FlashStep, percent: number): void {
    if (step !== this.#step) this.#percentShown = -LINE_PERCENT;
    this.#step = step;
    if (percent < this.#percentShown + LINE_PERCENT) return;
    this.#percentShown = percent - (percent % LINE_PERCENT);
    this.#screen.write(`${step} ${percent}%\n`);
  }
}

function textOf(event: FlashEvent): string {
  switch (event.state) {
    case "accepted":
      return `flashing ${event.link}: ${formatCount(event.bytes)} bytes, SHA-256 ${event.sha256}`;
    case "done":
      return `flashed ${event.link} in ${(event.tookMs / 1_000).toFixed(1)} s`;
    default:
      return "";
  }
}

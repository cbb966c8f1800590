// line-device: says numbered lines without pause, and counts the commands that it is told.
// Path: world → [line-device] → outlet. Touches: the clock.

import { Counter } from "./counter.ts";
import type { Outlet, Plugged } from "./outlet.ts";

const EVERY_MS = 20;
/** Begins and ends so that half of one is none. */
const LINE = /^#(\d+);$/;
const COMMAND = /cmd=(\d+)$/;

/** undefined: half a line, as a device that speaks without pause has at a port that is opened. */
export function numberOfLine(line: string): number | undefined {
  const [, number] = LINE.exec(line) ?? [];
  return number === undefined ? undefined : Number(number);
}

export class LineDevice implements Plugged {
  readonly commands = new Counter();
  readonly #outlet: Outlet;
  readonly #timer: NodeJS.Timeout;
  #heard = "";
  #isPaused = false;
  /** The last number that it said. */
  said = 0;

  constructor(outlet: Outlet) {
    this.#outlet = outlet;
    this.#timer = setInterval(() => this.#say(), EVERY_MS);
    outlet.use(this);
  }

  get isIdle(): boolean {
    return this.#isPaused;
  }

  pause(): void {
    this.#isPaused = true;
  }

  end(): void {
    clearInterval(this.#timer);
  }

  plugged(): void {}

  unplugged(): void {
    this.#heard = "";
  }

  hear(bytes: Buffer): void {
    const lines = (this.#heard + bytes.toString("latin1")).split("\n");
    this.#heard = lines.pop() ?? "";
    for (const line of lines) {
      const [, id] = COMMAND.exec(line) ?? [];
      if (id !== undefined) this.commands.count(id);
    }
  }

  #say(): void {
    if (this.#isPaused) return;
    this.said += 1;
    this.#outlet.write(`#${this.said};\n`);
  }
}

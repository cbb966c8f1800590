// trouble: which fault comes when, by a seed, and what it does to the world until all is mended.
// Path: ordeal → [trouble] → world. Touches: what the world touches, the clock.

import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../../../scripts/ordeal/random.ts";
import { LINKS, type LinkName, type ProcessName, type World } from "./world.ts";

const FIRST_MS = 3_000;
const BETWEEN_MS = { least: 200, more: 4_500 } as const;
const LEAD_MS = 150;
const LASTS_MS = { least: 100, more: 2_500 } as const;

/** Its cards are drawn one by one; when none is left, all of them again. */
const CARDS = [
  ...["kill bridge", "kill bridge", "kill bridge", "kill broker", "kill broker"],
  ...["freeze broker", "freeze bridge", "stall broker", "stall broker", "stall bridge"],
  ...["unplug lines", "unplug mqtt", "unplug mqtt-sn", "unplug modbus-rtu"],
] as const;

type Fault = `kill ${"bridge" | "broker"}` | `freeze ${"bridge" | "broker"}` | `unplug ${LinkName}`;

interface Planned {
  readonly fault: Fault;
  readonly atMs: number;
  readonly lastsMs: number;
  /** From the burst of commands to the fault that hits them. */
  readonly leadMs: number;
}

/**
 * What a fault may have cost: one run of lines. It begins behind what was heard when the fault began,
 * and not behind what was said when it was over.
 */
export interface Excuse {
  readonly heard: number;
  said: number;
}

export function schedule(seed: number, seconds: number): Planned[] {
  const random = new Random(seed);
  const planned: Planned[] = [];
  let cards: Fault[] = [];
  for (let atMs = FIRST_MS; ; ) {
    const lastsMs = LASTS_MS.least + random.int(LASTS_MS.more);
    if (atMs + lastsMs > seconds * 1_000) return planned;
    if (cards.length === 0) cards = [...(CARDS as readonly Fault[])];
    const [fault] = cards.splice(random.int(cards.length), 1);
    if (fault) planned.push({ fault, atMs, lastsMs, leadMs: random.int(LEAD_MS) });
    atMs += BETWEEN_MS.least + random.int(BETWEEN_MS.more);
  }
}

export interface TroubleOptions {
  readonly world: World;
  /** The last line that came through. */
  readonly heard: () => number;
  /** Just before each fault. */
  readonly burst: () => void;
  readonly say: (line: string) => void;
}

/** Carries faults out, one at a time for each process and port. */
export class Trouble {
  readonly tally = new Map<string, number>();
  /** Of the device that speaks in lines. */
  readonly excuses: Excuse[] = [];
  readonly #options: TroubleOptions;
  readonly #busy = new Map<string, Promise<void>>();

  constructor(options: TroubleOptions) {
    this.#options = options;
  }

  /** Resolves when the last fault is over. */
  async run(planned: readonly Planned[]): Promise<void> {
    const startedAtMs = performance.now();
    for (const it of planned) {
      await sleep(Math.max(0, it.atMs - (performance.now() - startedAtMs)));
      const target = it.fault.slice(it.fault.indexOf(" ") + 1);
      const before = this.#busy.get(target) ?? Promise.resolve();
      this.#busy.set(
        target,
        before.then(() => this.#inflict(it)),
      );
    }
    await Promise.all(this.#busy.values());
  }

  async #inflict({ fault, lastsMs, leadMs }: Planned): Promise<void> {
    this.#options.burst();
    await sleep(leadMs);
    this.#options.say(`${fault}, ${lastsMs} ms`);
    this.tally.set(fault, (this.tally.get(fault) ?? 0) + 1);
    const [kind, target] = fault.split(" ");
    const isExcuse = target === "lines" || (target === "bridge" && kind !== "freeze");
    const carryOut = () => this.#carryOut(fault, lastsMs);
    await (isExcuse ? this.#excused(carryOut) : carryOut());
  }

  async #excused(inflict: () => Promise<void>): Promise<void> {
    const excuse = { heard: this.#options.heard(), said: Number.POSITIVE_INFINITY };
    this.excuses.push(excuse);
    await inflict();
    excuse.said = this.#options.world.lines.said;
  }

  async #carryOut(fault: Fault, lastsMs: number): Promise<void> {
    const { world } = this.#options;
    const link = LINKS.find((it) => fault === `unplug ${it}`);
    if (link) {
      await world.outlets[link].unplug();
      await sleep(lastsMs);
      await world.outlets[link].plugIn();
      return;
    }
    const process = fault.endsWith("bridge") ? "bridge" : "broker";
    if (!fault.startsWith("kill")) {
      world.freeze(process);
      await sleep(lastsMs);
    }
    if (fault.startsWith("freeze")) world.thaw(process);
    else await this.#kill(process, fault.startsWith("kill") ? lastsMs : 0);
  }

  async #kill(process: ProcessName, awayMs: number): Promise<void> {
    const { world } = this.#options;
    await world.kill(process);
    await sleep(awayMs);
    await world.start(process);
  }
}

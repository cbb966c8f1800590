// trouble: carries out a schedule of faults, each when it is due and its target is in no other.
// Path: main → [trouble] → faults. Touches: what those touch.

import { setTimeout as sleep } from "node:timers/promises";
import type { PartName } from "../chain/plans.ts";
import { inflict } from "./faults.ts";
import type { FaultName, Planned } from "./schedule.ts";
import type { World } from "./world.ts";

/** What came of the faults. */
export interface TroubleTally {
  readonly kills: ReadonlyMap<PartName, number>;
  readonly faults: ReadonlyMap<FaultName, { times: number; ms: number }>;
  /** Parts that did not come back, in words. */
  readonly failures: readonly string[];
}

export class Trouble implements TroubleTally {
  readonly kills = new Map<PartName, number>();
  readonly faults = new Map<FaultName, { times: number; ms: number }>();
  readonly failures: string[] = [];
  readonly #world: World;
  readonly #say: (line: string) => void;
  /** What each target is in, by its name. */
  readonly #busy = new Map<string, Promise<void>>();

  constructor(world: World, say: (line: string) => void) {
    this.#world = world;
    this.#say = say;
  }

  /** Resolves when the last fault is over. */
  async run(schedule: readonly Planned[], signal: AbortSignal): Promise<void> {
    const startedAtMs = performance.now();
    for (const planned of schedule) {
      const dueMs = planned.atMs - (performance.now() - startedAtMs);
      await sleep(Math.max(0, dueMs), undefined, { signal }).catch(() => {});
      if (signal.aborted) break;
      const resource = resourceOf(planned);
      const before = this.#busy.get(resource) ?? Promise.resolve();
      this.#busy.set(
        resource,
        before.then(() => this.#inflict(planned)),
      );
    }
    await Promise.all(this.#busy.values());
  }

  async #inflict(planned: Planned): Promise<void> {
    const { fault, target, lastsMs } = planned;
    this.#say(`${fault}: ${target}, ${(lastsMs / 1_000).toFixed(1)} s`);
    const startedAtMs = performance.now();
    try {
      await inflict(this.#world, planned, (part) => {
        this.kills.set(part, (this.kills.get(part) ?? 0) + 1);
      });
    } catch (cause) {
      this.failures.push(`after ${fault} of ${target}: ${cause}`);
    }
    const tally = this.faults.get(fault) ?? { times: 0, ms: 0 };
    this.faults.set(fault, {
      times: tally.times + 1,
      ms: tally.ms + performance.now() - startedAtMs,
    });
  }
}

/** Two faults of one of these would undo each other. */
function resourceOf({ fault, target }: Planned): string {
  if (fault === "away") return `session of ${target}`;
  return target === "landing-replica" ? "landing" : target;
}

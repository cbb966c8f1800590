// bench: runs the scenarios against the brokers, in turn, each run with a fresh broker.
// Path: main → [bench] → broker-process, load-process. Touches: a temporary folder, processes.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ChainFailure } from "../chain/failure.ts";
import { BrokerProcess } from "./broker-process.ts";
import { type BrokerName, whyMissing } from "./brokers.ts";
import { BenchFailure } from "./failure.ts";
import type { Figures } from "./job.ts";
import { runLoad, startLoad } from "./load-process.ts";
import type { Cores } from "./machine.ts";
import type { Scenario, Setup, Site, Stage } from "./scenario.ts";

/** One run of a scenario against a broker: its figures, or why there are none. */
export interface Run {
  readonly scenario: string;
  readonly broker: BrokerName;
  /** Runs of different brokers with the same number followed each other, and are compared. */
  readonly repeat: number;
  readonly figures?: Figures;
  readonly failure?: string;
}

export interface BenchOptions {
  readonly scenarios: readonly Scenario[];
  readonly brokers: readonly BrokerName[];
  readonly repeats: number;
  readonly seconds: number;
  readonly cores: Cores | undefined;
  readonly signal: AbortSignal;
  readonly onRun: (run: Run) => void;
}

/** Node's compiler is done with a broker's code by then. */
const WARM_SECONDS_MAX = 2;

/** Runs all of it; a run that fails does not keep the others from theirs. */
export async function runBench(options: BenchOptions): Promise<Run[]> {
  for (const name of options.brokers) {
    const why = whyMissing(name);
    if (why) throw new BenchFailure(why);
  }
  const folder = await mkdtemp(join(tmpdir(), "sluice-bench-"));
  const runs: Run[] = [];
  try {
    // Not for their figures: from now on Node's compile cache has their code.
    for (const name of options.brokers) {
      await withSite(options, folder, name, (site) => withBroker(site, {}, async () => {}));
    }
    for (const { scenario, repeat, broker } of inTurn(options)) {
      if (options.signal.aborted) break;
      const result = await tryRun(options, folder, scenario, broker);
      const run = { scenario: scenario.name, broker, repeat, ...result };
      runs.push(run);
      options.onRun(run);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return runs;
}

function* inTurn({ scenarios, repeats, brokers }: BenchOptions) {
  for (const scenario of scenarios) {
    const { repeatsMax = repeats, brokers: able = brokers } = scenario;
    for (let repeat = 0; repeat < Math.min(repeats, repeatsMax); repeat++) {
      for (const broker of brokers.filter((name) => able.includes(name))) {
        yield { scenario, repeat, broker };
      }
    }
  }
}

async function tryRun(
  options: BenchOptions,
  folder: string,
  scenario: Scenario,
  name: BrokerName,
): Promise<Pick<Run, "figures" | "failure">> {
  try {
    const figures = await withSite(options, folder, name, (site) =>
      "runAt" in scenario
        ? scenario.runAt(site)
        : withBroker(site, scenario.setup, (broker) => scenario.run(stageOf(broker, options))),
    );
    return { figures };
  } catch (failure) {
    if (!(failure instanceof BenchFailure || failure instanceof ChainFailure)) throw failure;
    return { failure: failure.message };
  }
}

/** A place for that broker for as long as `does` takes; nothing of it is left. */
async function withSite<T>(
  { cores, seconds, signal }: BenchOptions,
  folder: string,
  name: BrokerName,
  does: (site: Site) => Promise<T>,
): Promise<T> {
  const own = join(folder, name);
  const cacheFolder = join(folder, "compile-cache");
  const start = (setup: Setup) =>
    BrokerProcess.start({
      ...{ name, folder: own, setup, cacheFolder, signal },
      cores: cores && [cores.broker],
    });
  try {
    return await does({ broker: name, folder: own, cacheFolder, cores, seconds, signal, start });
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}

/** @throws BenchFailure, with the end of the broker's log, when `does` fails. */
async function withBroker<T>(
  site: Site,
  setup: Setup,
  does: (broker: BrokerProcess) => Promise<T>,
): Promise<T> {
  const broker = await site.start(setup);
  try {
    return await does(broker);
  } catch (failure) {
    if (!(failure instanceof BenchFailure)) throw failure;
    const what = broker.isRunning ? failure.message : `the broker ended: ${failure.message}`;
    throw new BenchFailure(`${what}; its log ends: ${broker.tail()}`);
  } finally {
    await broker.stop();
  }
}

function stageOf({ pid, port, startCpuMs }: BrokerProcess, options: BenchOptions): Stage {
  const { seconds, signal } = options;
  return {
    pid,
    startCpuMs,
    seconds,
    warmSeconds: Math.min(seconds, WARM_SECONDS_MAX),
    run: (job) => runLoad({ ...job, port, pid }, signal),
    flood: async (job) => {
      const flood = await startLoad({ ...job, port, pid }, signal);
      return () => flood.stop();
    },
  };
}

// scenario: the terms in which scenarios are written.
// Path: bench → [scenario] → scenarios. Touches: nothing.

import type { SettingsTable } from "../chain/settings-files.ts";
import type { BrokerProcess } from "./broker-process.ts";
import type { BrokerName } from "./brokers.ts";
import type { BrokerJob, Figures, FloodJob } from "./job.ts";
import type { Cores } from "./machine.ts";

/** A figure's goal: Sluice's own number, or how it compares with mosquitto's. */
export type Goal =
  | { readonly timesMosquitto: number }
  | { readonly most: number }
  | { readonly least: number };

export interface Figure {
  readonly key: string;
  /** A short run measures a smaller case, and says so. */
  readonly words: string | ((seconds: number) => string);
  readonly goal?: Goal;
}

/** What takes long is less of it in a run that is asked to be shorter than usual. */
export function isShort(seconds: number): boolean {
  return seconds < 3;
}

/** What a broker is given beside its defaults, because the scenario is about it. */
export interface Setup {
  readonly sluice?: SettingsTable;
  /** Lines of mosquitto.conf. */
  readonly mosquitto?: readonly string[];
  /** Variables of Sluice's environment. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** What a job lacks until a broker runs. */
export type Jobless<J extends BrokerJob> = J extends BrokerJob ? Omit<J, "port" | "pid"> : never;

/** A broker that has just started, and what can be done to it. */
export interface Stage {
  readonly pid: number;
  readonly startCpuMs: number;
  readonly warmSeconds: number;
  readonly seconds: number;
  run(job: Jobless<BrokerJob>): Promise<Figures>;
  /** Goes on until the function that it resolves with is called. */
  flood(job: Jobless<FloodJob>): Promise<() => Promise<void>>;
}

/** Where a scenario starts what it needs by itself. */
export interface Site {
  readonly broker: BrokerName;
  /** Its own, and empty; nothing of it is left afterwards. */
  readonly folder: string;
  /** Of Node's compiled code. */
  readonly cacheFolder: string;
  readonly cores: Cores | undefined;
  readonly signal: AbortSignal;
  readonly seconds: number;
  /** The broker, on its core and with its data in the folder; whoever starts it stops it. */
  start(setup: Setup): Promise<BrokerProcess>;
}

interface Outline {
  readonly name: string;
  readonly about: string;
  readonly figures: readonly Figure[];
  /** Those that it can be run with; all unless told. */
  readonly brokers?: readonly BrokerName[];
  /** No more runs than this, however many are asked for. */
  readonly repeatsMax?: number;
}

/** Needs one broker. */
export interface StageScenario extends Outline {
  readonly setup: Setup;
  readonly run: (stage: Stage) => Promise<Figures>;
}

/** Needs more than one process, or one more than once. */
export interface SiteScenario extends Outline {
  readonly runAt: (site: Site) => Promise<Figures>;
}

export type Scenario = StageScenario | SiteScenario;

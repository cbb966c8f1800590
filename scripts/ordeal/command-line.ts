// command-line: what scripts/torture is asked to do.
// Path: main → [command-line]. Touches: nothing.

import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { FAULT_NAMES, type FaultName } from "./schedule.ts";

export interface Command {
  readonly seconds: number;
  readonly seed: number;
  readonly gateways: number;
  readonly faults: readonly FaultName[];
  readonly program: "bundles" | "sources";
  /** Where everything is; a temporary one that goes when all was well, unless it is named. */
  readonly folder: string | undefined;
}

const SECONDS_MAX = 86_400;
const SEED_MAX = 2 ** 31 - 1;
const GATEWAYS_MAX = 20;

/** A command line that cannot be understood: exit code 2. */
export class UsageFailure extends Error {}

/** @throws UsageFailure */
export function parseCommandLine(args: readonly string[]): Command {
  const values = parse(args);
  return {
    seconds: whole("--seconds", values.seconds, 1, SECONDS_MAX),
    seed:
      values.seed === undefined ? randomInt(SEED_MAX) : whole("--seed", values.seed, 0, SEED_MAX),
    gateways: whole("--gateways", values.gateways, 1, GATEWAYS_MAX),
    faults: values.faults === undefined ? FAULT_NAMES : values.faults.split(",").map(faultNamed),
    program: values.sources ? "sources" : "bundles",
    folder: values.folder,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        seconds: { type: "string", default: "60" },
        seed: { type: "string" },
        gateways: { type: "string", default: "2" },
        faults: { type: "string" },
        folder: { type: "string" },
        sources: { type: "boolean", default: false },
      },
    }).values;
  } catch (fault) {
    throw usage(fault instanceof Error ? fault.message : String(fault));
  }
}

function faultNamed(text: string): FaultName {
  const name = FAULT_NAMES.find((it) => it === text);
  if (!name) throw usage(`--faults: "${text}" is none of ${FAULT_NAMES.join(", ")}`);
  return name;
}

function whole(option: string, text: string, least: number, most: number): number {
  const number = Number(text);
  if (/^\d{1,10}$/.test(text) && number >= least && number <= most) return number;
  throw usage(`${option}: allowed: ${least} to ${most}`);
}

function usage(what: string): UsageFailure {
  return new UsageFailure(`scripts/torture ${what}\nscripts/torture --help says what there is.`);
}

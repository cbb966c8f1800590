// command-line: what scripts/bench is asked to do.
// Path: main → [command-line]. Touches: nothing.

import { parseArgs } from "node:util";
import { BROKER_NAMES, type BrokerName } from "./brokers.ts";
import { BenchFailure } from "./failure.ts";
import type { Scenario } from "./scenario.ts";
import { SCENARIOS } from "./scenarios.ts";

export interface Command {
  readonly list: boolean;
  readonly scenarios: readonly Scenario[];
  readonly brokers: readonly BrokerName[];
  readonly repeats: number;
  readonly seconds: number;
  /** Where all figures of all runs go. */
  readonly json?: string | undefined;
}

const REPEATS_MAX = 100;
const SECONDS_MAX = 600;

/** A command line that cannot be understood: exit code 2. */
export class UsageFailure extends BenchFailure {}

/** @throws UsageFailure when the words make no command. */
export function parseCommandLine(args: readonly string[]): Command {
  const values = parse(args);
  return {
    list: values.list,
    scenarios: chosen(
      "--only",
      values.only,
      SCENARIOS.map(({ name }) => name),
    ).flatMap((name) => SCENARIOS.filter((scenario) => scenario.name === name)),
    brokers: chosen("--brokers", values.brokers, BROKER_NAMES),
    repeats: number("--repeats", values.repeats, 1, REPEATS_MAX, /^\d+$/),
    seconds: number("--seconds", values.seconds, 0.1, SECONDS_MAX, /^\d+(\.\d+)?$/),
    json: values.json,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        brokers: { type: "string" },
        json: { type: "string" },
        list: { type: "boolean", default: false },
        only: { type: "string" },
        repeats: { type: "string", default: "3" },
        seconds: { type: "string", default: "3" },
      },
    }).values;
  } catch (fault) {
    throw usage(fault instanceof Error ? fault.message : String(fault));
  }
}

/** Those of `known` that are named, in the order of `known`; all when none is named. */
function chosen<T extends string>(
  option: string,
  names: string | undefined,
  known: readonly T[],
): readonly T[] {
  if (names === undefined) return known;
  const wanted = names.split(",");
  const strange = wanted.find((name) => !known.some((one) => one === name));
  if (strange !== undefined) {
    throw usage(`${option}: does not know "${strange}"; there are ${known.join(", ")}`);
  }
  return known.filter((name) => wanted.includes(name));
}

function number(option: string, text: string, least: number, most: number, form: RegExp): number {
  const value = Number(text);
  if (form.test(text) && value >= least && value <= most) return value;
  throw usage(`${option}: allowed: ${least} to ${most}, not "${text}"`);
}

function usage(what: string): UsageFailure {
  return new UsageFailure(`scripts/bench ${what}\nscripts/bench --help says what there is.`);
}

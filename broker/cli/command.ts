// command: what each of sluice's commands is, and how it reads its arguments.
// Path: main → each command → [command]. Touches: nothing.

import { parseArgs } from "node:util";
import { distance } from "fastest-levenshtein";
import { reasonOf, SluiceError } from "#contract/errors";

export interface Command {
  /** What it does, on one line of `sluice --help`. */
  readonly summary: string;
  /** All of `sluice <name> --help`. */
  readonly usage: string;
  /** Does it, and gives the exit code. */
  run(args: readonly string[]): Promise<number>;
}

interface Option {
  readonly type: "string" | "boolean";
}

/** Splits arguments; @throws SluiceError USAGE that names the nearest known option. */
export function readArguments<const T extends Readonly<Record<string, Option>>>(
  args: readonly string[],
  options: T,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (fault) {
    const [sentence = ""] = reasonOf(fault).split(". ");
    const option = /'--?([^' ]+)/.exec(sentence)?.[1];
    const isUnknown = (fault as NodeJS.ErrnoException).code === "ERR_PARSE_ARGS_UNKNOWN_OPTION";
    const near = option && isUnknown ? nearest(option, Object.keys(options)) : undefined;
    const hint = near === undefined ? "" : `; the nearest known option is --${near}`;
    throw new SluiceError("USAGE", `${sentence.replace(/\.$/, "")}${hint}`, { cause: fault });
  }
}

/** @throws SluiceError USAGE when there is an argument too many. */
export function refuseMore(args: readonly string[]): void {
  if (args[0] !== undefined) {
    throw new SluiceError("USAGE", `unexpected argument ${JSON.stringify(args[0])}`);
  }
}

/** The word of `known` that is most like `word`. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  return known.toSorted((a, b) => distance(word, a) - distance(word, b))[0];
}

/** A whole number from `least` to `most`; @throws SluiceError USAGE. */
export function readWhole(option: string, text: string, least: number, most: number): number {
  const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  const allowed = `allowed: a whole number from ${least} to ${most}`;
  throw new SluiceError("USAGE", `--${option} is ${JSON.stringify(text)}; ${allowed}`);
}

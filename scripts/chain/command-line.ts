// command-line: what scripts/start is asked to do.
// Path: main → [command-line]. Touches: nothing.

import { parseArgs } from "node:util";
import { ChainFailure } from "./failure.ts";
import { DEFAULT_FOLDER } from "./folder.ts";
import { DEFAULT_PORTS, PORT_NAMES, type Ports, portsFrom } from "./ports.ts";

export type Command =
  | {
      readonly do: "start";
      readonly folder: string;
      readonly ports: Ports;
      readonly parts: "all" | "gateway";
      readonly program: "bundles" | "sources";
      readonly keep: boolean;
    }
  /** Asks the one that runs in the folder; `request` is a line of control.ts. */
  | { readonly do: "ask"; readonly folder: string; readonly request: string };

/** Longer than a day is no test of an outage but a forgotten one. */
const OFF_SECONDS_MAX = 86_400;

/** @throws ChainFailure when the words make no command. */
export function parseCommandLine(args: readonly string[]): Command {
  const { values, positionals } = parse(args);
  const folder = values.folder;
  const [verb, ...rest] = positionals;
  if (verb === undefined) {
    return {
      do: "start",
      folder,
      ports: ports(values["port-base"]),
      parts: values.gateway ? "gateway" : "all",
      program: values.sources ? "sources" : "bundles",
      keep: values.keep,
    };
  }
  if (verb === "network") return { do: "ask", folder, request: network(rest) };
  if ((verb === "status" || verb === "stop") && rest.length === 0) {
    return { do: "ask", folder, request: verb };
  }
  throw usage(`does not know "${positionals.join(" ")}"`);
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        folder: { type: "string", default: DEFAULT_FOLDER },
        gateway: { type: "boolean", default: false },
        keep: { type: "boolean", default: false },
        "port-base": { type: "string" },
        sources: { type: "boolean", default: false },
      },
    });
  } catch (fault) {
    throw usage(fault instanceof Error ? fault.message : String(fault));
  }
}

function network([state, seconds, ...more]: readonly string[]): string {
  if (more.length === 0 && state === "on" && seconds === undefined) return "network on";
  if (more.length === 0 && state === "off") {
    if (seconds === undefined) return "network off";
    if (isWhole(seconds, 1, OFF_SECONDS_MAX)) return `network off ${seconds}`;
  }
  throw usage(`network: allowed: on, off, off SECONDS (1 to ${OFF_SECONDS_MAX})`);
}

function ports(base: string | undefined): Ports {
  if (base === undefined) return DEFAULT_PORTS;
  const most = 65_535 - PORT_NAMES.length;
  if (!isWhole(base, 1_024, most)) throw usage(`--port-base: allowed: 1024 to ${most}`);
  return portsFrom(Number(base));
}

function isWhole(text: string, least: number, most: number): boolean {
  return /^\d{1,6}$/.test(text) && Number(text) >= least && Number(text) <= most;
}

/** A command line that cannot be understood: exit code 2. */
export class UsageFailure extends ChainFailure {}

function usage(what: string): UsageFailure {
  return new UsageFailure(`scripts/start ${what}\nscripts/start --help says what there is.`);
}

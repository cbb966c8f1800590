// process: how a service begins and ends: arguments, exit codes, signals.
// Path: main of both services. Touches: the process.

import { parseArgs } from "node:util";
import { reasonOf, SluiceError } from "#contract/errors";
import type { Log } from "./log.ts";
import { readSettings, SETTINGS_PATH } from "./settings.ts";
import type { Settings } from "./settings-schema.ts";

/** 0: stopped on request. 1: failed. 2: bad settings or usage, and nothing was changed. */
export const EXIT = { stopped: 0, failed: 1, refused: 2 } as const;

/** How long a stop may take before the process ends all the same. */
const STOP_MS_MAX = 10_000;

/** Reads `--config FILE` and `--check-config`, ends with code 2 and a message where it must. */
export function settingsFromArguments(usage: string): Settings {
  try {
    const { values } = parseArgs({
      options: {
        config: { type: "string" },
        "check-config": { type: "boolean" },
        help: { type: "boolean" },
      },
    });
    if (values.help) end(EXIT.stopped, usage, process.stdout);
    const path = values.config ?? SETTINGS_PATH;
    const settings = readSettings(path);
    if (values["check-config"]) end(EXIT.stopped, `${path}: good`, process.stdout);
    return settings;
  } catch (fault) {
    const isSettings = fault instanceof SluiceError;
    return end(EXIT.refused, isSettings ? fault.message : `${reasonOf(fault)}\n${usage}`);
  }
}

function end(code: number, text: string, stream: NodeJS.WritableStream = process.stderr): never {
  stream.write(`${text}\n`);
  process.exit(code);
}

/** A service that runs until it is stopped. */
export interface Service {
  /** Rejects when the service cannot go on; its process then ends as one that could not start. */
  readonly running?: Promise<void>;
  stop(): Promise<void>;
}

const REFUSED_CODES = new Set(["CERTIFICATE_UNREADABLE", "SETTINGS_INVALID", "USAGE"]);

/**
 * Starts a service and sees it through: SIGTERM and SIGINT stop it within 10 s (exit 0), a start
 * that fails ends in one line (exit 2 when the settings are at fault, else 1).
 */
export async function runService(log: Log, start: () => Promise<Service>): Promise<void> {
  const service = await start().catch(endFailed);
  service.running?.catch(endFailed);
  const stop = (signal: NodeJS.Signals) => {
    log.info({ signal }, "stopping");
    setTimeout(() => process.exit(EXIT.failed), STOP_MS_MAX).unref();
    service.stop().then(
      () => process.exit(EXIT.stopped),
      (fault) => {
        log.error({ err: fault }, "stopped with a failure");
        process.exit(EXIT.failed);
      },
    );
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
}

/** One line for a failure that was foreseen; a fault of ours keeps its stack and ends the process. */
function endFailed(fault: unknown): never {
  if (!(fault instanceof SluiceError)) throw fault;
  process.stderr.write(`${fault.message}\n`);
  process.exit(REFUSED_CODES.has(fault.code) ? EXIT.refused : EXIT.failed);
}

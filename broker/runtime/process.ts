// process: how a service begins, reloads its settings and ends: arguments, signals, exit codes.
// Path: main of both services. Touches: the process, the settings file.

import { parseArgs } from "node:util";
import { reasonOf, SluiceError } from "#contract/errors";
import type { Log } from "./log.ts";
import { reloadable } from "./reload.ts";
import { readSettings, SETTINGS_PATH } from "./settings.ts";
import type { DriverTables } from "./settings-links.ts";
import type { Settings } from "./settings-schema.ts";

/** 0: stopped on request. 1: failed. 2: bad settings or usage, and nothing was changed. */
export const EXIT = { stopped: 0, failed: 1, refused: 2 } as const;

/** How long a stop may take before the process ends all the same. */
const STOP_MS_MAX = 10_000;

/** Reads `--config FILE` and `--check-config`, ends with code 2 and a message where it must. */
export function settingsFromArguments(usage: string, drivers?: DriverTables): Settings {
  try {
    const { values } = parseArguments();
    if (values.help) end(EXIT.stopped, usage, process.stdout);
    const path = settingsPath();
    const settings = readSettings(path, drivers);
    if (values["check-config"]) {
      end(EXIT.stopped, `${path}: good${uncheckedHint(settings, drivers)}`, process.stdout);
    }
    return settings;
  } catch (fault) {
    const isSettings = fault instanceof SluiceError;
    return end(EXIT.refused, isSettings ? fault.message : `${reasonOf(fault)}\n${usage}`);
  }
}

/** Only the firmware-bridge knows what its drivers allow. */
function uncheckedHint({ links }: Settings, drivers?: DriverTables): string {
  if (drivers || links.length === 0) return "";
  return "; firmware-bridge.cjs --check-config checks the drivers of [[links]]";
}

function parseArguments() {
  return parseArgs({
    options: {
      config: { type: "string" },
      "check-config": { type: "boolean" },
      help: { type: "boolean" },
    },
  });
}

function settingsPath(): string {
  return parseArguments().values.config ?? SETTINGS_PATH;
}

function end(code: number, text: string, stream: NodeJS.WritableStream = process.stderr): never {
  stream.write(`${text}\n`);
  process.exit(code);
}

/** A service that runs until it is stopped. */
export interface Service {
  /** Rejects when the service cannot go on; its process then ends as one that could not start. */
  readonly running?: Promise<void>;
  /**
   * Goes on by settings of which only what reloadable() names has changed; the files that they name
   * are read again in any case. @throws SluiceError when they cannot be used, and nothing changed.
   */
  reload?(settings: Settings): void | Promise<void>;
  stop(): Promise<void>;
}

const REFUSED_CODES = new Set(["CERTIFICATE_UNREADABLE", "SETTINGS_INVALID", "USAGE"]);

/** How many keys one line about a reload names. */
const NAMED_KEYS_MAX = 20;

/**
 * Starts a service and sees it through: SIGTERM and SIGINT stop it within 10 s (exit 0), a start
 * that fails ends in one line (exit 2 when the settings are at fault, else 1). SIGHUP reads the
 * settings' file again, against `settings`, by which the service started.
 */
export async function runService(
  log: Log,
  start: () => Promise<Service>,
  settings?: Settings,
  drivers?: DriverTables,
): Promise<void> {
  let started: (service: Service) => void = () => {};
  // Before the start, which may take minutes: a SIGHUP during it counts when it is done.
  followReloads(log, new Promise<Service>((resolve) => (started = resolve)), settings, drivers);
  const service = await start().catch(endFailed);
  started(service);
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

/** One reload at a time; those asked for while one waits its turn are one. */
function followReloads(
  log: Log,
  service: Promise<Service>,
  settings?: Settings,
  drivers?: DriverTables,
): void {
  let current = settings;
  let isAsked = false;
  let turn: Promise<unknown> = service;
  process.on("SIGHUP", () => {
    if (isAsked) return;
    isAsked = true;
    turn = turn.then(async () => {
      isAsked = false;
      if (current) current = await reload(log, await service, current, drivers);
    });
  });
}

/** The settings that hold from now on: the old ones where the new ones cannot be used. */
async function reload(
  log: Log,
  service: Service,
  before: Settings,
  drivers?: DriverTables,
): Promise<Settings> {
  try {
    const { applied, needsRestart } = reloadable(before, readSettings(settingsPath(), drivers));
    await service.reload?.(applied);
    log.level = applied.log.level;
    log.info("settings read again");
    if (needsRestart.length > 0) log.warn(`needs a restart: ${listed(needsRestart)}`);
    return applied;
  } catch (fault) {
    // What only these settings meet must not end a service that runs well by the old ones.
    log.error({ faults: faultLines(fault) }, "settings not applied: they hold as they were");
    return before;
  }
}

function faultLines(fault: unknown): string[] {
  return fault instanceof SluiceError ? fault.message.split("\n") : [reasonOf(fault)];
}

function listed(keys: readonly string[]): string {
  const more = keys.length - NAMED_KEYS_MAX;
  const named = keys.slice(0, NAMED_KEYS_MAX).join(", ");
  return more > 0 ? `${named} and ${more} more` : named;
}

/** One line for a failure that was foreseen; a fault of ours keeps its stack and ends the process. */
function endFailed(fault: unknown): never {
  if (!(fault instanceof SluiceError)) throw fault;
  process.stderr.write(`${fault.message}\n`);
  process.exit(REFUSED_CODES.has(fault.code) ? EXIT.refused : EXIT.failed);
}

// settings: reads the one TOML file of a machine, checks it whole, and freezes it.
// Path: main of every process. Touches: the settings file, the machine id.

import { readFileSync } from "node:fs";
import { parse as parseToml, TomlError } from "smol-toml";
import * as v from "valibot";
import { reasonOf, SluiceError } from "#contract/errors";
import { defaultName } from "./machine.ts";
import { describeFaults } from "./settings-faults.ts";
import { type DriverTables, readyLinks } from "./settings-links.ts";
import { type Settings, SettingsSchema, settingsSchema } from "./settings-schema.ts";

export const SETTINGS_PATH = "/etc/sluice/sluice.toml";

/**
 * The settings in `path`, with defaults filled in and frozen; the links' with the tables of these
 * drivers.
 * @throws SluiceError SETTINGS_INVALID whose message holds one line a fault: file, line, key, what
 *   was found, what is allowed, and the nearest known key.
 */
export function readSettings(path: string, drivers?: DriverTables): Settings {
  return parseSettings(readText(path), path, drivers);
}

/** As readSettings, from text; `path` only names the file in faults. */
export function parseSettings(text: string, path: string, drivers?: DriverTables): Settings {
  const { links, ...others } = parseTable(text, path);
  const table = links === undefined ? others : { ...others, links: readyLinks(links, drivers) };
  const schema = drivers ? settingsSchema(drivers) : SettingsSchema;
  const result = v.safeParse(schema, { name: defaultName(), ...table });
  if (result.success) return deepFreeze(result.output);
  // As they were written: what readyLinks added is no key that a name could not have meant.
  const written = drivers && links !== undefined ? { ...others, links } : table;
  const faults = describeFaults(schema, written, result.issues, text);
  throw new SluiceError("SETTINGS_INVALID", faults.map((it) => `${path}:${it}`).join("\n"));
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const message = `settings ${path} cannot be read: ${reasonOf(cause)}`;
    throw new SluiceError("SETTINGS_INVALID", message, { cause });
  }
}

function parseTable(text: string, path: string): Record<string, unknown> {
  try {
    return parseToml(text.replace(/^\uFEFF/, ""));
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const what = cause.message.split("\n")[0]?.replace("Invalid TOML document: ", "");
    throw new SluiceError("SETTINGS_INVALID", `${path}:${cause.line}: not TOML: ${what}`, {
      cause,
    });
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}

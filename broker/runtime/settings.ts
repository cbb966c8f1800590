// settings: reads the one TOML file of a machine, checks it whole, and freezes it.
// Path: main of every process. Touches: the settings file, the machine id.

import { readFileSync } from "node:fs";
import { distance } from "fastest-levenshtein";
import { parse as parseToml, TomlError } from "smol-toml";
import * as v from "valibot";
import { reasonOf, SluiceError } from "#contract/errors";
import { defaultName } from "./machine.ts";
import { lineOfKey } from "./settings-lines.ts";
import { type Settings, SettingsSchema } from "./settings-schema.ts";

export const SETTINGS_PATH = "/etc/sluice/sluice.toml";

/**
 * The settings in `path`, with defaults filled in and frozen.
 * @throws SluiceError SETTINGS_INVALID whose message holds one line a fault: file, line, key, what
 *   was found, what is allowed, and the nearest known key.
 */
export function readSettings(path: string): Settings {
  return parseSettings(readText(path), path);
}

/** As readSettings, from text; `path` only names the file in faults. */
export function parseSettings(text: string, path: string): Settings {
  const table = parseTable(text, path);
  const result = v.safeParse(SettingsSchema, { name: defaultName(), ...table });
  if (result.success) return deepFreeze(result.output);
  const faults = result.issues.map((issue) => describe(issue, text, path));
  throw new SluiceError("SETTINGS_INVALID", [...new Set(faults)].join("\n"));
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

type Issue = v.BaseIssue<unknown>;

function describe(issue: Issue, text: string, path: string): string {
  const keys = (issue.path ?? []).map((item) => item.key as string | number);
  const place = `${path}:${lineOfKey(text, keys)}: ${dotted(keys) || "the file"}`;
  if (issue.type === "strict_object" && issue.expected === "never")
    return place + unknownKey(issue);
  if (issue.type === "strict_object" && issue.received === "undefined")
    return `${place} is missing`;
  return `${place} is ${found(issue)}; ${sentence(issue)}`;
}

function found(issue: Issue): string {
  const value = issue.path?.at(-1)?.value ?? undefined;
  if (value === undefined) return "missing";
  if (typeof value === "object") return Array.isArray(value) ? "an array" : "a table";
  // A password in a URL must not reach a log.
  return JSON.stringify(value).replace(/(\/\/[^/@]*:)[^/@]*@/, "$1***@");
}

function sentence(issue: Issue): string {
  // Our own checks say in words what is allowed; valibot's schemas only name a type.
  const own = !issue.message.startsWith("Invalid ");
  return own ? issue.message : `expected ${issue.expected ?? "another value"}`;
}

function unknownKey(issue: Issue): string {
  const key = String(issue.path?.at(-1)?.key);
  const table = issue.path?.at(-1)?.input as object | undefined;
  const known = knownKeys(SettingsSchema, (issue.path ?? []).slice(0, -1));
  const nearest = known
    .filter((name) => !(table && name in table))
    .sort((a, b) => distance(key, a) - distance(key, b))[0];
  const hint = nearest === undefined ? "" : `; the nearest known key is "${nearest}"`;
  return ` is not a known key${hint}`;
}

interface AnySchema {
  readonly type?: string;
  readonly entries?: Record<string, AnySchema>;
  readonly item?: AnySchema;
  readonly wrapped?: AnySchema;
  readonly pipe?: readonly AnySchema[];
}

/** The keys that the schema allows in the table at `path`; follows arrays and optional tables. */
export function knownKeys(schema: AnySchema, path: readonly { key: unknown }[]): string[] {
  let at = unwrap(schema);
  for (const { key } of path) {
    at = unwrap(typeof key === "number" ? at?.item : at?.entries?.[String(key)]);
  }
  return Object.keys(at?.entries ?? {});
}

function unwrap(schema: AnySchema | undefined): AnySchema | undefined {
  let at = schema;
  while (at?.wrapped) at = at.wrapped;
  return at;
}

function dotted(keys: readonly (string | number)[]): string {
  return keys.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    return text === "" ? key : `${text}.${key}`;
  }, "");
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}

// settings-faults: says what is wrong with a settings file: line, key, what was found, what is allowed.
// Path: settings. Touches: nothing.

import { distance } from "fastest-levenshtein";
import type { BaseIssue } from "valibot";
import { keyLines } from "./settings-lines.ts";

type Key = string | number;
type Issue = BaseIssue<unknown>;

/** What this file looks at of a valibot schema. */
export interface AnySchema {
  readonly type?: string;
  readonly message?: unknown;
  readonly entries?: Readonly<Record<string, AnySchema>>;
  readonly item?: AnySchema;
  readonly wrapped?: AnySchema;
}

interface Fault {
  readonly keys: readonly Key[];
  readonly what: string;
}

/** A table that another one is in. */
interface Outer {
  readonly keys: readonly Key[];
  readonly entries: Readonly<Record<string, AnySchema>>;
}

/** How much of a value or a key a message shows. */
const SHOWN_LENGTH_MAX = 80;

/** One line a fault, `<line>: <key> …`, in the order of the file; `table` is what `text` holds. */
export function describeFaults(
  schema: AnySchema,
  table: unknown,
  issues: readonly Issue[],
  text: string,
): string[] {
  const lineOf = keyLines(text);
  const faults = [
    ...shapeFaults(schema, table, []),
    // Of the unknown keys of a table valibot names only the first.
    ...issues.filter((issue) => issue.expected !== "never").map((it) => faultOf(schema, it)),
  ];
  const lines = faults
    .map(({ keys, what }) => ({ line: lineOf(keys), text: `${dotted(keys)} ${what}` }))
    .sort((a, b) => a.line - b.line)
    .map((it) => `${it.line}: ${it.text}`);
  return [...new Set(lines)];
}

/** A fault for each key in `value` that the schema does not know, and each array in a table's place. */
function shapeFaults(
  schema: AnySchema,
  value: unknown,
  keys: readonly Key[],
  outers: readonly Outer[] = [],
): Fault[] {
  const { entries, item } = unwrap(schema);
  if (item && Array.isArray(value)) {
    return value.flatMap((inner, index) => shapeFaults(item, inner, [...keys, index], outers));
  }
  if (!entries || !isTable(value)) return [];
  if (Array.isArray(value)) return [{ keys, what: "is an array; allowed: a table, as [name]" }];
  return Object.keys(value).flatMap((key) => {
    const known = Object.hasOwn(entries, key) ? entries[key] : undefined;
    if (known)
      return shapeFaults(known, value[key], [...keys, key], [{ keys, entries }, ...outers]);
    const free = Object.keys(entries).filter((name) => !Object.hasOwn(value, name));
    const hint =
      outerHint(key, keys, outers) ??
      innerHint(key, keys, { entries, value }) ??
      nearestHint(key, free);
    return [{ keys: [...keys, key], what: `is not a known key${hint}` }];
  });
}

interface Table {
  readonly entries: Readonly<Record<string, AnySchema>>;
  readonly value: Readonly<Record<string, unknown>>;
}

/** Of several tables that have the key, the one that this table names: a link its driver. */
function innerHint(
  key: string,
  keys: readonly Key[],
  { entries, value }: Table,
): string | undefined {
  const all = Object.keys(entries).filter((name) => {
    const inner = unwrap(entries[name] ?? {}).entries;
    return inner !== undefined && Object.hasOwn(inner, key);
  });
  const named = all.filter((name) => Object.values(value).includes(name));
  const places = (named.length > 0 ? named : all).map((name) => header([...keys, name]));
  return places.length === 0 ? undefined : `; it is one of ${places.join(" or ")}`;
}

/** In TOML a key belongs to the last header above it, which is easily forgotten. */
function outerHint(
  key: string,
  keys: readonly Key[],
  outers: readonly Outer[],
): string | undefined {
  const outer = outers.find(({ entries }) => Object.hasOwn(entries, key));
  if (!outer) return undefined;
  const place = outer.keys.length === 0 ? "the top of the file" : header(outer.keys);
  return `; it is one of ${place}, and goes above ${header(keys)}`;
}

function nearestHint(key: string, known: readonly string[]): string {
  const [byDistance] = known.toSorted((a, b) => distance(key, a) - distance(key, b));
  const nearest = known.find((it) => it.startsWith(key)) ?? byDistance;
  return nearest === undefined ? "" : `; the nearest known key is "${nearest}"`;
}

function faultOf(schema: AnySchema, issue: Issue): Fault {
  const keys = (issue.path ?? []).map((item) => item.key as Key);
  const value = issue.path?.at(-1)?.value;
  const allowed = sentence(issue, schemaAt(schema, keys), keys);
  return { keys, what: `is ${found(value)}; ${allowed}` };
}

function found(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "an array";
  if (isTable(value)) return "a table";
  if (typeof value !== "string") return value instanceof Date ? "a date" : String(value);
  const text = withoutSecrets(value);
  const cut = text.length > SHOWN_LENGTH_MAX ? `${text.slice(0, SHOWN_LENGTH_MAX)}…` : text;
  return JSON.stringify(cut);
}

/** Of a URL only its protocol and host: a password must not reach a log, wherever it stands. */
function withoutSecrets(text: string): string {
  if (!text.includes("://")) return text;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  // Where the password holds / or @, what follows it is taken for a path.
  if (!url || url.pathname.includes("@")) return `${text.slice(0, text.indexOf("://"))}://…`;
  return `${url.protocol}//${url.password === "" ? "" : "…@"}${url.host}`;
}

const TABLES: Readonly<Record<string, string>> = {
  strict_object: "allowed: a table",
  string: "allowed: text in quotes",
};

/** What is allowed: in our own words where the schema has some. */
function sentence(issue: Issue, schema: AnySchema | undefined, keys: readonly Key[]): string {
  const isMissingKey = issue.type === "strict_object" && issue.received === "undefined";
  const message = isMissingKey ? schema?.message : issue.message;
  if (typeof message === "string" && !message.startsWith("Invalid ")) return message;
  const type = isMissingKey ? schema?.type : issue.type;
  if (type === "array") return arraySentence(schema, keys);
  return TABLES[type ?? ""] ?? "allowed: another value";
}

function arraySentence(schema: AnySchema | undefined, keys: readonly Key[]): string {
  const isOfTables = schema?.item !== undefined && unwrap(schema.item).entries !== undefined;
  return isOfTables ? `allowed: tables, as ${header([...keys, 0])}` : "allowed: an array";
}

function schemaAt(schema: AnySchema, keys: readonly Key[]): AnySchema | undefined {
  let at: AnySchema | undefined = schema;
  for (const key of keys) {
    const { item, entries } = unwrap(at ?? {});
    at = typeof key === "number" ? item : entries?.[key];
  }
  return at && unwrap(at);
}

/** The schema inside v.optional. */
export function unwrap(schema: AnySchema): AnySchema {
  let at = schema;
  while (at.wrapped) at = at.wrapped;
  return at;
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !(value instanceof Date);
}

/** As TOML has it: `[links.lines]`, or `[[links]]` for a table of an array. */
function header(keys: readonly Key[]): string {
  const name = dotted(keys.filter((key) => typeof key === "string"));
  return typeof keys.at(-1) === "number" ? `[[${name}]]` : `[${name}]`;
}

/** `links[0].lines`; a key that needs quotes in TOML has them here. */
function dotted(keys: readonly Key[]): string {
  return keys.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    const name = /^[\w-]+$/.test(key) ? key : JSON.stringify(key);
    const cut = name.length > SHOWN_LENGTH_MAX ? `${name.slice(0, SHOWN_LENGTH_MAX)}…` : name;
    return text === "" ? cut : `${text}.${cut}`;
  }, "");
}

// settings: the keys of drivers that read formats, and what they must be to each other.
// Path: lines, frames → [settings]. Touches: nothing.

import * as v from "valibot";
import { eachOnce, name, text } from "#runtime/settings-values";
import { type About, type Channel, channelOf } from "../../driver.ts";
import { groupNames } from "./regex.ts";
import { ChannelTemplate, Template } from "./template.ts";

const EXPRESSION = "allowed: a regular expression of RE2";
const COMMAND_PLACES = "allowed: text with no other places than {channel} and {payload}";

const expression = v.pipe(
  v.string(EXPRESSION),
  v.rawCheck(({ dataset, addIssue }) => {
    const names = dataset.typed ? groupNames(dataset.value) : [];
    if (names instanceof Error) addIssue({ message: `${EXPRESSION}; ${names.message}` });
  }),
);

/** Checks the names of an expression's groups, where it is one. */
const groups = (isRight: (names: readonly string[]) => boolean, message: string) =>
  v.check<string, string>((pattern) => {
    const names = groupNames(pattern);
    return names instanceof Error || isRight(names);
  }, message);

const linePattern = v.pipe(
  expression,
  groups(
    (names) => names.length > 0,
    "allowed: a regular expression with a named group, as (?<temperature>[0-9.]+)",
  ),
  groups(
    (names) => names.every((it) => channelOf(it) !== undefined),
    "allowed: a regular expression whose groups have names of at most 128 characters",
  ),
);

const levels = (allowed: string) =>
  v.pipe(v.string(allowed), v.regex(/^[^/+#\p{Control}]+(?:\/[^/+#\p{Control}]+)*$/u, allowed));

const CHANNEL_ALLOWED = "allowed: topic levels, as {sensor}/{name}, none of them empty";

const channelTemplate = v.pipe(
  levels(CHANNEL_ALLOWED),
  v.check(
    (template) => !/[{}]/.test(new Template(template).text),
    `${CHANNEL_ALLOWED}, and each { with its }`,
  ),
);

const commandTemplate = v.pipe(
  text,
  v.check((template) => !/\{(?:channel|payload)/.test(new Template(template).text), COMMAND_PLACES),
  v.check(
    (template) => new Template(template).names.every((it) => /^(channel|payload)$/.test(it)),
    COMMAND_PLACES,
  ),
);

const Command = v.strictObject({
  channel: levels("allowed: the end of the topic behind set/"),
  send: commandTemplate,
  allow: v.optional(v.array(v.string())),
  pattern: v.optional(expression),
});

export type CommandSettings = Readonly<v.InferOutput<typeof Command>>;

/** All but `format`, of which each driver has its own words. */
export const CONTENT_KEYS = {
  columns: v.optional(v.array(name), []),
  separator: v.optional(v.pipe(v.string(), v.length(1, "allowed: one character")), ","),
  patterns: v.optional(v.array(linePattern), []),
  channel: v.optional(channelTemplate),
  value: v.optional(text),
  command: v.optional(commandTemplate),
  commands: v.optional(
    v.pipe(
      v.array(Command),
      eachOnce((it) => it.channel, "allowed: each channel once"),
    ),
    [],
  ),
};

const Content = v.object({ ...CONTENT_KEYS, format: v.string() });

export type ContentSettings = Readonly<v.InferOutput<typeof Content>>;

/** Refuses keys that do not go together; for v.pipe behind the table that has them. */
export function contentCheck<T extends ContentSettings>() {
  return v.rawCheck<T>(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const input = dataset.value;
    for (const [key, message] of conflicts(input)) {
      const item = { type: "object", origin: "value", input: { ...input }, key } as const;
      addIssue({ message, path: [{ ...item, value: input[key] }] });
    }
  });
}

type Conflict = readonly [key: "columns" | "patterns" | "channel" | "value", message: string];

function conflicts(settings: ContentSettings): Conflict[] {
  const found: Conflict[] = [];
  const isRegex = settings.format === "regex";
  if (isRegex && settings.patterns.length === 0) {
    found.push(["patterns", 'allowed: with format = "regex", at least one regular expression']);
  }
  if (!isRegex && settings.patterns.length > 0) {
    found.push(["patterns", 'allowed: only with format = "regex"']);
  }
  if (settings.format !== "csv" && settings.columns.length > 0) {
    found.push(["columns", 'allowed: only with format = "csv"']);
  }
  if (settings.value !== undefined && settings.channel === undefined) {
    found.push(["value", "allowed: only beside channel"]);
  }
  return [...found, ...unknownPlaces(settings)];
}

/** Places that no line can fill, where it is known beforehand what a line has. */
function unknownPlaces(settings: ContentSettings): Conflict[] {
  const { format, columns } = settings;
  if (format !== "csv" && format !== "regex") return [];
  const known = knownNames(settings);
  const isKnown = (place: string) =>
    known.includes(place) || (format === "csv" && isNumberBeyond(place, columns.length));
  const places = {
    channel: new ChannelTemplate(settings.channel ?? "").names,
    value: new Template(settings.value ?? "").names,
  };
  const fields = known.map((it) => `{${it}}`).join(", ") || "of numbers, as {1}";
  return (["channel", "value"] as const).flatMap((key): Conflict[] => {
    const unknown = places[key].find((place) => !isKnown(place));
    return unknown === undefined ? [] : [[key, `allowed: places ${fields}, not {${unknown}}`]];
  });
}

function knownNames({ format, columns, patterns }: ContentSettings): readonly string[] {
  if (format === "csv") return columns;
  if (format !== "regex") return [];
  return patterns.map(groupNames).flatMap((names) => (names instanceof Error ? [] : names));
}

/** A field of CSV that has its number for a name, since it has no column. */
function isNumberBeyond(place: string, columns: number): boolean {
  return /^[1-9][0-9]*$/.test(place) && Number(place) > columns;
}

/** The channels that the settings name. */
export function aboutContent(settings: ContentSettings): About {
  const named = settings.channel === undefined ? knownNames(settings) : [];
  const read = named.flatMap((it) => channelOf(it) ?? []);
  const written = settings.commands.map(({ channel }) => channel);
  const channels = [...new Set([...read, ...written])].map(
    (it): Channel => (written.includes(it) ? { name: it, writable: true } : { name: it }),
  );
  return channels.length === 0 ? {} : { channels };
}

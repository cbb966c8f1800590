// example.test: the commented example is the settings' reference: complete, true and usable.
// Path: test. Touches: broker/sluice.example.toml.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "smol-toml";
import { parseSettings } from "#runtime/settings";
import { type AnySchema, unwrap } from "#runtime/settings-faults";
import { settingsSchema } from "#runtime/settings-schema";
import { driverTables } from "../../../firmware-bridge/drivers/drivers.ts";

const SettingsSchema = settingsSchema(driverTables);

const EXAMPLE = readFileSync(
  new URL("../../../broker/sluice.example.toml", import.meta.url),
  "utf8",
);

const PAIR = /^(?:# )?([a-z][a-z0-9_]*) = (\S.*)$/;
const HEADER = /^(?:# )?\[{1,2}([a-z0-9.-]+)\]{1,2}$/;
const SHOWN_AGAIN = /^links\[\]\.(path|name|driver)$/;
const PART = /^# ---- (.+) ----$/;

interface Key {
  /** As `links[].lines.format`. */
  readonly path: string;
  readonly line: number;
  readonly value: unknown;
  /** The line before, which explains it. */
  readonly before: string;
}

/** What the schema knows at each path; the default is undefined where there is none. */
function schemaKeys(schema: AnySchema, path = ""): Map<string, unknown> {
  const { entries, item } = unwrap(schema);
  const { default: standard } = schema as { default?: unknown };
  if (entries) {
    const inner = Object.entries(entries).flatMap(([key, it]) => [
      ...schemaKeys(it, path === "" ? key : `${path}.${key}`),
    ]);
    return new Map(inner);
  }
  if (item && unwrap(item).entries) return schemaKeys(item, `${path}[]`);
  return new Map([[path, standard]]);
}

/** A header's name with [] behind what the schema knows as an array of tables. */
function tablePath(name: string): string {
  let at: AnySchema = SettingsSchema;
  let path = "";
  for (const part of name.split(".")) {
    at = unwrap(unwrap(at).entries?.[part] ?? {});
    path += `${path === "" ? "" : "."}${part}`;
    if (at.item) {
      at = at.item;
      path += "[]";
    }
  }
  return path;
}

function exampleKeys(): Key[] {
  const keys: Key[] = [];
  let table = "";
  const lines = EXAMPLE.split("\n");
  for (const [index, line] of lines.entries()) {
    const [, header] = HEADER.exec(line) ?? [];
    const [, key, text = ""] = PAIR.exec(line) ?? [];
    if (header) table = `${tablePath(header)}.`;
    if (!key) continue;
    const { value } = parse(`value = ${text}`);
    keys.push({ path: table + key, line: index + 1, value, before: lines[index - 1] ?? "" });
  }
  return keys;
}

/** The example for one role, with all that is commented out put in; prose stays a comment. */
function uncommented(role: "gateway" | "cloud"): string {
  let isIncluded = true;
  return EXAMPLE.split("\n")
    .map((line) => {
      const [, part] = PART.exec(line) ?? [];
      if (part) isIncluded = part === "both roles" || part === `only with role = "${role}"`;
      if (!isIncluded) return "";
      if (line.startsWith("role = ")) return `role = "${role}"`;
      return PAIR.test(line) || HEADER.test(line) ? line.replace(/^# /, "") : line;
    })
    .join("\n");
}

test("names every key of the schema once, and none that is unknown", () => {
  const all = exampleKeys().map((key) => key.path);
  // A link for each driver is shown.
  const named = all.filter((path, index) => !SHOWN_AGAIN.test(path) || all.indexOf(path) === index);
  assert.deepEqual(named.toSorted(), [...schemaKeys(SettingsSchema).keys()].toSorted());
});

test("states the defaults that the schema has", () => {
  const standards = schemaKeys(SettingsSchema);
  const all = exampleKeys();
  for (const [index, { path, line, value }] of all.entries()) {
    // The links of other drivers than the standard one say so.
    if (SHOWN_AGAIN.test(path) && all.findIndex((it) => it.path === path) < index) continue;
    const standard = standards.get(path);
    if (standard !== undefined) assert.deepEqual(value, standard, `line ${line}: ${path}`);
  }
});

test("shows in the first tables of arrays what there is without any", () => {
  const { listeners, outbox } = parseSettings('role = "gateway"', "example");
  const shown = parseSettings(uncommented("gateway"), "example");
  assert.equal(shown.listeners[0]?.protocol, listeners[0]?.protocol);
  assert.equal(shown.listeners[0]?.address, listeners[0]?.address);
  assert.deepEqual(shown.outbox, outbox);
  const uplink = parseSettings('role = "gateway"\nuplink.url = "redis://x"', "example").uplink;
  assert.deepEqual(shown.uplink?.forward, uplink?.forward);
});

test("says where a key has no default, and only there", () => {
  const standards = schemaKeys(SettingsSchema);
  for (const { path, line, before } of exampleKeys()) {
    if (path === "role") continue;
    const says = /No default|Default: /.test(before);
    const isShown = path.startsWith("listeners[].") && /protocol|address/.test(path);
    const hasStandard = standards.get(path) !== undefined || isShown;
    assert.equal(says, !hasStandard, `line ${line}: ${path}: ${before}`);
  }
});

test("explains each key on the line above it", () => {
  for (const { path, line, before } of exampleKeys()) {
    assert.match(before, /^# \S+ .*\S$/, `line ${line}: ${path}`);
    assert.doesNotMatch(before, PAIR);
    assert.doesNotMatch(before, HEADER);
  }
});

test("works as it is, and as nothing but its defaults", () => {
  const plain = parseSettings('role = "gateway"', "example");
  assert.deepEqual(parseSettings(EXAMPLE, "example"), plain);
});

test("works for either role with everything that is commented out put in", () => {
  const gateway = parseSettings(uncommented("gateway"), "gateway", driverTables);
  assert.equal(gateway.uplink?.forward[0]?.filter, "#");
  assert.equal(gateway.links[0]?.driver, "lines");
  assert.equal(gateway.landing, undefined);
  const cloud = parseSettings(uncommented("cloud"), "cloud");
  assert.equal(cloud.ingest.lease_seconds, 5);
  assert.ok(cloud.landing && cloud.cluster && !cloud.uplink);
});

test("tells the numbers that the schema allows", () => {
  for (const { path, value, line, before } of exampleKeys()) {
    if (typeof value !== "number") continue;
    const range = /(\d+) to (\d+)/.exec(before);
    if (!range) continue;
    for (const [bound, step] of [
      [Number(range[1]), -1],
      [Number(range[2]), 1],
    ] as const) {
      const set = (number: number) =>
        uncommented(path.startsWith("ingest.") ? "cloud" : "gateway")
          .split("\n")
          .map((it, index) => (index + 1 === line ? it.replace(/= .*/, `= ${number}`) : it))
          .join("\n");
      const parse = (number: number) => parseSettings(set(number), "example", driverTables);
      assert.doesNotThrow(() => parse(bound), `${path} = ${bound}`);
      assert.throws(() => parse(bound + step), `${path} = ${bound + step}`);
    }
  }
});

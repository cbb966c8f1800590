// lint.test: the rules of imports and style are refused by the linter, not by reviewers.
// Path: test → biome.json. Touches: a temporary folder; runs biome.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";

const root = join(import.meta.dirname, "..");
const tree = mkdtempSync(join(tmpdir(), "sluice-lint-"));
after(() => rmSync(tree, { recursive: true }));

const importOf = (from: string) =>
  `import { value } from "${from}";\n\nexport const copy = value;\n`;

/** Imports that break the drawing: what it is, the file, what the file imports. */
const REFUSED_IMPORTS: readonly [string, string, string][] = [
  ["a sibling", "broker/uplink/a.ts", "../outbox/outbox.ts"],
  ["a sibling by a roundabout path", "broker/uplink/b.ts", "./../outbox/outbox.ts"],
  ["a sibling from a folder that is new", "broker/new-folder/a.ts", "../outbox/outbox.ts"],
  ["the wiring from below", "broker/mqtt/a.ts", "../gateway.ts"],
  ["runtime from contract", "broker/contract/a.ts", "#runtime/log"],
  ["the machine from contract", "broker/contract/b.ts", "node:fs"],
  ["a package from contract", "broker/contract/c.ts", "ioredis"],
  ["a part of the broker from runtime", "broker/runtime/a.ts", "../mqtt/mqtt.ts"],
  ["the firmware-bridge from the broker", "broker/a.ts", "../firmware-bridge/main.ts"],
  ["the broker from the firmware-bridge", "firmware-bridge/a.ts", "../broker/gateway.ts"],
  ["the broker from a link", "firmware-bridge/links/a.ts", "../../broker/gateway.ts"],
  ["a driver from a link", "firmware-bridge/links/b.ts", "../drivers/drivers.ts"],
  ["a driver from another", "firmware-bridge/drivers/nmea/a.ts", "../lines/lines.ts"],
  ["a link from a driver", "firmware-bridge/drivers/nmea/b.ts", "../../links/links.ts"],
];

const TYPE_IMPORT =
  'import type { Lane } from "../outbox/outbox.ts";\n\nexport type Copy = Lane;\n';
const LONG = `export function run(): void {\n${'  globalThis.name = "x";\n'.repeat(71)}}\n`;
const RESTRICTED = "style/noRestrictedImports";

/** All that is refused: what it is, the file, its text, the rule that must say so. */
const REFUSED: readonly (readonly [string, string, string, string])[] = [
  ...REFUSED_IMPORTS.map(([what, path, from]) => [what, path, importOf(from), RESTRICTED] as const),
  ["a sibling's types", "broker/uplink/c.ts", TYPE_IMPORT, RESTRICTED],
  ["a sibling, late", "broker/uplink/d.ts", 'void import("../outbox/outbox.ts");\n', RESTRICTED],
  ["an import in a circle", "broker/store/a.ts", importOf("./b.ts"), "suspicious/noImportCycles"],
  ["its other half", "broker/store/b.ts", importOf("./a.ts"), "suspicious/noImportCycles"],
  ["a barrel", "broker/outbox/a.ts", 'export * from "./lane.ts";\n', "performance/noBarrelFile"],
  ["a default export", "broker/outbox/b.ts", "export default 1;\n", "style/noDefaultExport"],
  ["an enum", "broker/outbox/c.ts", "export enum Mode {\n  idle,\n}\n", "style/noEnum"],
  ["a function of 72 lines", "broker/outbox/d.ts", LONG, "complexity/noExcessiveLinesPerFunction"],
];

/** What is allowed, so that no rule refuses everything. */
const ALLOWED: Readonly<Record<string, string>> = {
  "broker/contract/words.ts": importOf("./numbers.ts"),
  "broker/runtime/log.ts": importOf("#contract/words"),
  "broker/outbox/outbox.ts": importOf("./lane.ts"),
  "broker/outbox/lane.ts": importOf("#runtime/log"),
  "broker/gateway.ts": importOf("./outbox/outbox.ts"),
  "firmware-bridge/main.ts": importOf("./links/links.ts"),
  "firmware-bridge/links/links.ts": importOf("../driver.ts"),
  "firmware-bridge/drivers/nmea/nmea.ts": importOf("../../driver.ts"),
  "firmware-bridge/drivers/nmea/parts.ts": importOf("../framing/slip.ts"),
  "firmware-bridge/drivers/nmea/content.ts": importOf("../formats/content.ts"),
  "firmware-bridge/drivers/nmea/kind.ts": importOf("../kind.ts"),
};

interface Diagnostic {
  readonly category: string;
  readonly location: { readonly path: string };
}

let diagnostics: readonly Diagnostic[];

before(() => {
  for (const name of ["biome.json", ".gitignore"]) copyFileSync(join(root, name), join(tree, name));
  for (const [, path, text] of REFUSED) plant(path, text);
  for (const [path, text] of Object.entries(ALLOWED)) plant(path, text);
  const biome = join(root, "node_modules/.bin/biome");
  const options = { cwd: tree, encoding: "utf8" } as const;
  const { stdout, stderr } = spawnSync(biome, ["lint", "--reporter=json", "."], options);
  assert.match(stdout, /^{"summary"/, stderr);
  diagnostics = JSON.parse(stdout).diagnostics;
});

for (const [what, path, , rule] of REFUSED) {
  test(`refuses ${what}`, () => {
    assert.ok(rulesAt(path).includes(rule), `${path}: ${rulesAt(path).join(", ") || "nothing"}`);
  });
}

test("allows what the drawing allows", () => {
  const refused = Object.keys(ALLOWED).filter((path) => rulesAt(path).length > 0);
  assert.deepEqual(refused, []);
});

function rulesAt(path: string): string[] {
  return diagnostics
    .filter(({ location }) => location.path === path)
    .map(({ category }) => category.replace("lint/", ""));
}

function plant(path: string, text: string): void {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
}

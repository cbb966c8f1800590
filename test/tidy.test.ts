// tidy.test: the repository keeps its shape: no dead files, no leftovers, nothing new at the top.
// Path: test → every file that git knows or would add. Touches: nothing; runs git.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";

const root = join(import.meta.dirname, "..");
const listing = ["ls-files", "--cached", "--others", "--exclude-standard"];
const files = execFileSync("git", listing, { cwd: root, encoding: "utf8" })
  .split("\n")
  .filter((path) => path !== "" && existsSync(join(root, path)));
const textOf = (path: string) => readFileSync(join(root, path), "utf8");
const sources = files.filter((path) =>
  /^(broker|firmware-bridge|haproxy|scripts)\/.*(?<!\.d)\.ts$/.test(path),
);

// Where a process starts.
const isEntry = (path: string) => basename(path) === "main.ts" || /^scripts\/[^/]+$/.test(path);

test("every source file is imported or is an entry", () => {
  const reached = new Set(sources.filter(isEntry));
  for (const path of reached) for (const to of namedBy(path)) reached.add(to);
  assert.deepEqual(
    sources.filter((path) => !reached.has(path)),
    [],
  );
});

/** The files that `path` imports, or names as programs to start. */
function namedBy(path: string): string[] {
  const names = [...textOf(path).matchAll(/["'`]([^"'`\s]+)["'`]/g)].map(([, name = ""]) => name);
  return names
    .map((name) => name.replace(/^#(contract|runtime)\/(.+)$/, "/broker/$1/$2.ts"))
    .map((name) => (name.startsWith("/") ? name.slice(1) : join(dirname(path), name)))
    .filter((name) => sources.includes(name));
}

test("every source file begins by saying its name and what it is", () => {
  const isSaid = (path: string) => textOf(path).startsWith(`// ${basename(path, ".ts")}: `);
  assert.deepEqual(
    sources.filter((path) => !isSaid(path)),
    [],
  );
});

test("no test is left out", () => {
  const leftOut = /\.(only|skip|todo)\(|\b(only|skip|todo): true/;
  const found = files.filter((path) => path.endsWith(".test.ts") && leftOut.test(textOf(path)));
  assert.deepEqual(found, []);
});

test("nothing is put off in a comment", () => {
  const found = files.filter((path) => /\bTO[D]O\b|\bFIXM[E]\b/.test(textOf(path)));
  assert.deepEqual(found, []);
});

test("the top level holds what the design names, and nothing else", () => {
  const design =
    ".ci .editorconfig .gitignore .npmrc ARCHITECTURE.md CHANGELOG.md LICENSE README.md biome.json " +
    "broker firmware-bridge haproxy image package-lock.json package.json scripts systemd test " +
    "tsconfig.json";
  const top = new Set(files.map((path) => path.replace(/\/.*/, "")));
  assert.deepEqual([...top].sort().join(" "), design);
});

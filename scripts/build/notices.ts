// notices: every package in the bundles with its licence, and a refusal of licences we cannot ship.
// Path: bundle → [notices] → dist/THIRD-PARTY-NOTICES.txt. Touches: node_modules, which it reads.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BuildFailure } from "./failure.ts";

/** Licences that let us ship a package inside ours if its text goes along (SPDX identifiers). */
const ALLOWED = new Set([
  "0BSD",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "CC0-1.0",
  "ISC",
  "MIT",
  "Unlicense",
]);

/** What a package.json says that matters here; `license` has had three forms over the years. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license?: string | { readonly type?: string };
  readonly licenses?: readonly { readonly type?: string }[];
}

interface Package {
  readonly folder: string;
  readonly manifest: Manifest;
}

/** The notices of the packages in `folders`; @throws BuildFailure that names those not allowed. */
export function noticesOf(folders: Iterable<string>): string {
  const packages = new Map<string, Package>();
  for (const folder of folders) {
    const manifest = manifestOf(folder);
    packages.set(titleOf(manifest), { folder, manifest });
  }
  const refused = [...packages.values()].filter(({ manifest }) => !isAllowed(licenceOf(manifest)));
  if (refused.length > 0) {
    const names = refused.map(({ manifest }) => `${titleOf(manifest)} (${licenceOf(manifest)})`);
    throw new BuildFailure(`not on the list of licences that may be shipped: ${names.join(", ")}`);
  }
  const sorted = [...packages].sort(([a], [b]) => (a < b ? -1 : 1));
  return [HEAD, ...sorted.map(([, found]) => noticeOf(found))].join(`\n${"=".repeat(80)}\n`);
}

const HEAD = `Third-party notices

Sluice's programs and native add-ons contain the packages below, each under its own licence.
`;

function manifestOf(folder: string): Manifest {
  try {
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  } catch (cause) {
    throw new BuildFailure(`${folder} has no package.json that names a licence`, { cause });
  }
}

function titleOf({ name, version }: Manifest): string {
  return `${name} ${version}`;
}

/** The licence as an SPDX expression, whichever form the package.json has it in. */
export function licenceOf({ license, licenses }: Manifest): string {
  if (typeof license === "string") return license;
  if (license?.type) return license.type;
  return licenses?.map(({ type }) => type ?? "").join(" OR ") || "no licence named";
}

/** May a package under this SPDX expression be shipped? OR and AND mixed are for a person to read. */
export function isAllowed(expression: string): boolean {
  const plain = expression.replace(/^\((.*)\)$/, "$1");
  const anyOf = plain.split(" OR ");
  const allOf = plain.split(" AND ");
  if (anyOf.length > 1 && allOf.length > 1) return false;
  return anyOf.length > 1
    ? anyOf.some((id) => ALLOWED.has(id))
    : allOf.every((id) => ALLOWED.has(id));
}

function noticeOf({ folder, manifest }: Package): string {
  const texts = licenceFiles(folder).map((path) => `\n${readFileSync(path, "utf8")}`);
  const text = texts.length > 0 ? texts.join("\n") : `\n${withoutFile(folder)}`;
  return `${titleOf(manifest)}\nLicence: ${licenceOf(manifest)}\n${text}`;
}

/** Below the top too: native packages bring the sources of what they compiled in. */
function licenceFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && LICENCE_FILE.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.slice(folder.length).includes("/node_modules/"))
    .sort();
}

const LICENCE_FILE = /^(licen[cs]e|copying|notice)(?!.*\.[cm]?[jt]s$)/i;

/** A few packages have their licence in the README alone. */
function withoutFile(folder: string): string {
  const readme = readdirSync(folder).find((name) => /^readme/i.test(name));
  const text = readme ? readFileSync(join(folder, readme), "utf8") : "";
  const chapter = /^#+ *licen[cs]e[\s\S]*/im.exec(text)?.[0];
  return chapter ?? "The package brings no text of its licence.\n";
}

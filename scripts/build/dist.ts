// dist: the whole of a build: three programs, their bundles, native add-ons and notices.
// Path: scripts/build.ts → [dist] → bundle, natives, packages, notices. Touches: the output folder.
//
//   broker.cjs …              what is started: turns the compile cache on, then loads the bundle
//   bundles/broker.cjs …      all of the program in one file, its source map beside it
//   native/*.node             what cannot be bundled, for each architecture
//   LICENSE, THIRD-PARTY-NOTICES.txt

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Bundles, bundle } from "./bundle.ts";
import { ARCHITECTURES, NATIVES } from "./natives.ts";
import { noticesOf } from "./notices.ts";
import { packageFolderOf, readFromPackage } from "./packages.ts";

/** Name of the program in dist → where it starts. */
export const ENTRIES: Readonly<Record<string, string>> = {
  broker: "broker/main.ts",
  "firmware-bridge": "firmware-bridge/main.ts",
  sluice: "broker/cli/main.ts",
};

export interface Built {
  readonly path: string;
  readonly bytes: number;
}

/** Builds `entries` of the tree at `root` into `out`; the files that are now there. */
export async function buildDist(
  root: string,
  out: string,
  entries: Readonly<Record<string, string>> = ENTRIES,
): Promise<Built[]> {
  const bundles = await bundle(root, entries);
  const files = new Map<string, string | Uint8Array>([
    ...Object.keys(entries).map((name) => [`${name}.cjs`, starterOf(name)] as const),
    ...[...bundles.files].map(([name, contents]) => [`bundles/${name}`, contents] as const),
    ...nativeFiles(root, bundles.natives),
    ["LICENSE", readFileSync(join(root, "LICENSE"))],
    ["THIRD-PARTY-NOTICES.txt", noticesOf(shippedFolders(root, bundles))],
  ]);
  // Only now, so that a build that fails leaves the last good one alone. And only what a build
  // makes, since `out` may be any folder.
  for (const folder of ["bundles", "native"])
    rmSync(join(out, folder), { recursive: true, force: true });
  return [...files].map(([path, contents]) => write(out, path, contents));
}

/** A bundle is compiled before its first line runs, so what starts it must turn the cache on. */
function starterOf(name: string): string {
  return `// Starts bundles/${name}.cjs with Node's compile cache on.
const { enableCompileCache, flushCompileCache, SourceMap } = require("node:module");
const { XDG_CACHE_HOME, HOME } = process.env;
const folder = XDG_CACHE_HOME || (HOME && \`\${HOME}/.cache\`);
// Never Node's own choice, below /tmp: whoever may write there could hand us code. With
// NODE_COMPILE_CACHE set, Node has turned the cache on already, and this changes nothing.
if (folder) enableCompileCache(\`\${folder}/sluice\`);
// Node writes the cache when it ends, but a gateway is unplugged more often than it is stopped.
setTimeout(() => flushCompileCache(), 30_000).unref();
// A fault is told by the lines of the sources. Their map takes 30 MB once it is read, so it is read
// when there is a fault, and not by Node at each start.
process.on("uncaughtExceptionMonitor", (fault) => {
  const map = \`\${__dirname}/bundles/${name}.cjs.map\`;
  const origins = new SourceMap(JSON.parse(require("node:fs").readFileSync(map, "utf8")));
  fault.stack = fault?.stack?.replace(/[^\\s(]+bundles\\/${name}\\.cjs:(\\d+):(\\d+)/g, (all, line, column) => {
    const { fileName, lineNumber, columnNumber } = origins.findOrigin(Number(line), Number(column));
    if (!fileName) return all;
    return \`sluice:///\${fileName.replace(/^(\\.\\.\\/)+/, "")}:\${lineNumber}:\${columnNumber}\`;
  });
});
require("./bundles/${name}.cjs");
`;
}

function nativeFiles(root: string, names: ReadonlySet<string>): [string, Buffer][] {
  return [...names].flatMap((name) => {
    const native = NATIVES[name];
    if (!native) return [];
    return ARCHITECTURES.map((architecture): [string, Buffer] => {
      const { package: from, path } = native.from[architecture];
      const file = `native/${native.file}.linux-${architecture}.node`;
      return [file, readFromPackage(root, from, path)];
    });
  });
}

/** The folders of all packages of which something is shipped. */
function shippedFolders(root: string, { inputs, natives }: Bundles): string[] {
  const bundled = inputs.map(packageFolderOf).filter((folder) => folder !== undefined);
  const compiled = [...natives]
    .flatMap((name) => [name, ...(NATIVES[name]?.compiledFrom ?? [])])
    .map((name) => `node_modules/${name}`);
  return [...new Set([...bundled, ...compiled])].map((folder) => join(root, folder));
}

function write(out: string, path: string, contents: string | Uint8Array): Built {
  const target = join(out, path);
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, contents);
  return { path, bytes: Buffer.byteLength(contents) };
}

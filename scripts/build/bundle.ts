// bundle: makes one CommonJS file of each program and all that it imports, by esbuild.
// Path: program → [bundle] → notices. Touches: the sources and node_modules, which it reads.

import { isBuiltin } from "node:module";
import { basename, join } from "node:path";
import { type BuildResult, build, type Message, type Metafile } from "esbuild";
import { BuildFailure } from "./failure.ts";
import { nativesPlugin } from "./natives.ts";

export interface Bundles {
  /** Contents by file name: each bundle and its source map. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Every file that went in, as a path from the root. */
  readonly inputs: readonly string[];
  /** The packages that load a native add-on. */
  readonly natives: ReadonlySet<string>;
}

/** Bundles `entries`: name of the bundle → its first source file. */
export async function bundle(
  root: string,
  entries: Readonly<Record<string, string>>,
): Promise<Bundles> {
  const natives = new Set<string>();
  const result = await runEsbuild(root, entries, natives);
  assertComplete(result.metafile);
  return {
    files: new Map(result.outputFiles.map((file) => [basename(file.path), file.contents])),
    inputs: Object.keys(result.metafile.inputs),
    natives,
  };
}

type Result = BuildResult<{ metafile: true; write: false }>;

async function runEsbuild(
  root: string,
  entryPoints: Readonly<Record<string, string>>,
  natives: Set<string>,
): Promise<Result> {
  try {
    return await build({
      absWorkingDir: root,
      entryPoints: { ...entryPoints },
      // Never written there by esbuild: the same bytes, wherever dist is to be.
      outdir: join(root, "dist/bundles"),
      write: false,
      outExtension: { ".js": ".cjs" },
      bundle: true,
      platform: "node",
      format: "cjs",
      target: "node24",
      // Node's own streams instead of a copy of them, as old as the package that brings it.
      alias: { "readable-stream": "node:stream" },
      // The text of a program stays in memory: 3 MB less without its blanks and comments. Names stay,
      // so that a stack trace can be read without the map.
      minifyWhitespace: true,
      minifySyntax: true,
      // Node shows the line of a fault, which should not be the whole program.
      lineLimit: 160,
      sourcemap: "linked",
      // In a stack trace: sluice:///broker/main.ts:12:3, whatever folder the bundle is in.
      sourceRoot: "sluice:///",
      sourcesContent: false,
      legalComments: "eof",
      metafile: true,
      define: {
        // ws would look for faster add-ons in every node_modules above the bundle.
        "process.env.WS_NO_BUFFER_UTIL": '"1"',
        "process.env.WS_NO_UTF_8_VALIDATE": '"1"',
      },
      plugins: [nativesPlugin(natives)],
      logLevel: "silent",
      // Empty in CommonJS: what uses it would break in the bundle alone.
      logOverride: { "empty-import-meta": "error" },
    });
  } catch (cause) {
    const { errors } = cause as { errors?: readonly Message[] };
    if (!errors) throw cause;
    throw new BuildFailure(errors.map(describe).join("\n"), { cause });
  }
}

function describe({ location, text }: Message): string {
  return location ? `${location.file}:${location.line}: ${text}` : text;
}

/** Packages that others try to load and do without; a warning or an error is no part of that. */
const ABSENT = new Set(["supports-color"]);

/** No node_modules goes with the bundles, so nothing may be left to look for there. */
function assertComplete({ outputs }: Metafile): void {
  for (const [output, { imports }] of Object.entries(outputs)) {
    for (const { path, external } of imports) {
      if (!external || isBuiltin(path) || ABSENT.has(path)) continue;
      throw new BuildFailure(`${basename(output)} would look for ${path} in node_modules`);
    }
  }
}

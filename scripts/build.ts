// build: makes dist/ out of the sources: `npm run build`, or `node scripts/build.ts --out FOLDER`.
// Path: [build] → build/dist. Touches: the output folder; the npm registry for native add-ons of
// an architecture that is not this machine's.

import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildDist } from "./build/dist.ts";
import { BuildFailure } from "./build/failure.ts";

const root = join(import.meta.dirname, "..");

try {
  const { values } = parseArgs({
    options: { out: { type: "string", default: join(root, "dist") } },
  });
  for (const { path, bytes } of await buildDist(root, values.out)) {
    process.stdout.write(`${(bytes / 1024).toFixed(0).padStart(6)} KiB  ${path}\n`);
  }
} catch (failure) {
  if (!(failure instanceof BuildFailure)) throw failure;
  process.stderr.write(`build: ${failure.message}\n`);
  process.exitCode = 1;
}

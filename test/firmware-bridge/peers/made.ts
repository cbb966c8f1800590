// made: programs and firmware compiled once for their sources, and kept from one run to the next.
// Path: peers → [made]. Touches: a folder of this user's in the temporary folder, compilers.

import { execFileSync } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * The path of what `make` puts into the file that it is given; it is called when this was not yet
 * made from these sources. Throws with the compiler's words.
 */
export function made(
  name: string,
  sources: readonly string[],
  make: (file: string) => void,
): string {
  const folder = ownFolder();
  const hash = createHash("sha256");
  for (const source of sources) hash.update(readFileSync(source)).update("\0");
  const path = join(folder, `${hash.digest("hex").slice(0, 16)}-${name}`);
  if (existsSync(path)) return path;
  const fresh = join(folder, `${randomUUID()}-${name}`);
  make(fresh);
  renameSync(fresh, path);
  return path;
}

/** Runs a compiler; throws with its words when it fails. */
export function run(command: string, words: readonly string[]): void {
  execFileSync(command, words, { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
}

function ownFolder(): string {
  const user = process.getuid?.() ?? 0;
  const folder = join(tmpdir(), `sluice-peers-${user}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  // What is run from here must be nobody else's.
  if (statSync(folder).uid !== user) throw new Error(`${folder} belongs to another user`);
  return folder;
}

// packages: which installed package a file belongs to, and one file out of a package, be it for
// another architecture than this machine's.
// Path: natives, notices → [packages] → node_modules, npm. Touches: node_modules, the npm registry.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import { BuildFailure } from "./failure.ts";

const PACKAGE_FOLDER = /^(.*\bnode_modules\/)((?:@[^/]+\/)?[^/]+)\//;

/** The name of the package that a file below node_modules belongs to; undefined for our own. */
export function packageOf(path: string): string | undefined {
  return PACKAGE_FOLDER.exec(path)?.[2];
}

/** The folder of that package: two copies of one package are two folders. */
export function packageFolderOf(path: string): string | undefined {
  const match = PACKAGE_FOLDER.exec(path);
  return match ? `${match[1]}${match[2]}` : undefined;
}

interface Lockfile {
  readonly packages: Readonly<Record<string, { version?: string; integrity?: string }>>;
}

/** The bytes of `path` in package `name`: from node_modules, else from the tarball that the
 * lockfile pins, since npm installs only the packages of the machine's own architecture. */
export function readFromPackage(root: string, name: string, path: string): Buffer {
  const installed = join(root, "node_modules", name, path);
  if (existsSync(installed)) return readFileSync(installed);
  const tarball = lockedTarball(root, name);
  try {
    return execFileSync("tar", ["-xzOf", tarball, `package/${path}`], {
      maxBuffer: 64 * 1024 * 1024,
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (cause) {
    throw new BuildFailure(`${name} has no ${path}: look for its new place`, { cause });
  }
}

/** Path of a package's tarball whose hash is the lockfile's; fetched by npm if it is not there. */
function lockedTarball(root: string, name: string): string {
  const lockfile: Lockfile = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const { version, integrity } = lockfile.packages[`node_modules/${name}`] ?? {};
  if (!version || !integrity) {
    throw new BuildFailure(`${name} is neither installed nor in package-lock.json, which pins it`);
  }
  const folder = join(root, "node_modules/.cache/sluice-build");
  const tarball = join(folder, `${name.replace("@", "").replace("/", "-")}-${version}.tgz`);
  mkdirSync(folder, { recursive: true });
  if (!existsSync(tarball)) fetchTarball(`${name}@${version}`, tarball);
  assertIntegrity(tarball, integrity, name);
  return tarball;
}

function fetchTarball(specifier: string, tarball: string): void {
  // Moved into place whole: another build may be looking for the same file.
  const folder = mkdtempSync(`${tarball}-`);
  try {
    execFileSync("npm", ["pack", specifier, "--pack-destination", folder], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    for (const file of readdirSync(folder)) renameSync(join(folder, file), tarball);
  } catch (cause) {
    const said = String((cause as { stderr?: unknown }).stderr ?? cause);
    const code = /npm (?:error|ERR!) code (\S+)/.exec(said)?.[1] ?? "no code";
    const message = `${specifier} cannot be fetched (npm says ${code}): is the registry in reach?`;
    throw new BuildFailure(message, { cause });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function assertIntegrity(tarball: string, integrity: string, name: string): void {
  const hash = createHash("sha512").update(readFileSync(tarball)).digest("base64");
  if (`sha512-${hash}` !== integrity) {
    throw new BuildFailure(`${tarball} is not the ${name} that package-lock.json pins: delete it`);
  }
}

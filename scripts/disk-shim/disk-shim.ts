// disk-shim: makes the disk under one folder slow, full or broken for a process, or cuts its power.
// Path: tests, torture, bench → [disk-shim] → disk-shim.c in a process. Touches: cc, a cache in the
// temporary folder, the control file, the journal, and on a power cut the folder.

import { execFileSync } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const SOURCE = join(import.meta.dirname, "disk-shim.c");

/** In the order of the C file's `enum fault`. */
const FAULTS = ["none", "full", "io", "readonly"] as const;

export type DiskFault = (typeof FAULTS)[number];

export interface DiskState {
  readonly fault?: DiskFault;
  /** How much longer a sync takes. */
  readonly slowMs?: number;
  /** What a full disk still takes before it is full. */
  readonly bytesLeft?: number;
}

/** What becomes of bytes that were not synced: the file is shorter, or they read as zeros. */
export type LostAs = "missing" | "zeros";

export interface PowerCut {
  /** Files of which something was lost. */
  readonly files: number;
  readonly bytes: number;
}

/** The disk of one folder, as processes see it that are started with `env`. */
export class DiskShim {
  readonly folder: string;
  /** To be set for a process, or for a shell that starts it. */
  readonly env: Readonly<Record<string, string>>;
  readonly #journal: string;
  readonly #control: number;

  /**
   * A good disk for `folder`, which is made if need be. What lies there counts as synced; from now
   * on nothing but processes with `env` may write there. Its own files go into `place`, elsewhere.
   */
  constructor(folder: string, place: string) {
    this.folder = resolve(folder);
    mkdirSync(this.folder, { recursive: true });
    mkdirSync(place, { recursive: true });
    const control = resolve(place, "disk.control");
    this.#journal = resolve(place, "disk.journal");
    this.#control = openSync(control, "w+");
    this.set({});
    this.#beginJournal();
    const others = process.env.LD_PRELOAD ? `:${process.env.LD_PRELOAD}` : "";
    this.env = {
      LD_PRELOAD: compiledShim() + others,
      DISK_SHIM_FOLDER: this.folder,
      DISK_SHIM_CONTROL: control,
      DISK_SHIM_JOURNAL: this.#journal,
    };
  }

  /** Changes the disk, also under a process that runs; what is left out is as on a good disk. */
  set({ fault = "none", slowMs = 0, bytesLeft = 0 }: DiskState): void {
    // `struct control` of the C file, of a little-endian machine.
    const bytes = Buffer.alloc(16);
    bytes.writeUInt32LE(FAULTS.indexOf(fault), 0);
    bytes.writeUInt32LE(slowMs, 4);
    bytes.writeBigInt64LE(BigInt(bytesLeft), 8);
    writeSync(this.#control, bytes, 0, bytes.length, 0);
  }

  /**
   * The power goes: of each file there is left what was synced, and of the rest as much as `chance`
   * says, which gives a whole number below its argument. No process may have the folder open.
   */
  cutPower(chance: (below: number) => number, lostAs: LostAs = "missing"): PowerCut {
    const synced = readJournal(this.#journal);
    let [files, bytes] = [0, 0];
    for (const { path, inode, size } of filesIn(this.folder)) {
      const safe = Math.min(size, synced.get(inode) ?? size);
      const kept = safe + chance(size - safe + 1);
      if (kept === size) continue;
      truncateSync(path, kept);
      if (lostAs === "zeros") truncateSync(path, size);
      files += 1;
      bytes += size - kept;
    }
    this.#beginJournal();
    return { files, bytes };
  }

  /** What is in the folder now is on the disk. */
  #beginJournal(): void {
    const lines = filesIn(this.folder).map(({ inode, size }) => `S ${inode} ${size}\n`);
    writeFileSync(this.#journal, lines.join(""));
  }
}

/** By inode, how much of a file is durable. */
function readJournal(path: string): Map<string, number> {
  const synced = new Map<string, number>();
  for (const line of readFileSync(path, "utf8").split("\n")) {
    const [what, inode = "", text] = line.split(" ");
    const size = Number(text);
    const before = synced.get(inode);
    if (what === "C") synced.set(inode, 0);
    // Syncs of several threads may be told in another order than they ended.
    if (what === "S") synced.set(inode, Math.max(before ?? 0, size));
    if (what === "T" && before !== undefined) synced.set(inode, Math.min(before, size));
  }
  return synced;
}

interface FoundFile {
  readonly path: string;
  readonly inode: string;
  readonly size: number;
}

/** In one order everywhere, so that one seed cuts in one way. */
function filesIn(folder: string): FoundFile[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => {
      const { ino, size } = statSync(path, { bigint: true });
      return { path, inode: String(ino), size: Number(size) };
    });
}

/** The shared object, made where it is not there yet for this source. */
function compiledShim(): string {
  const user = process.getuid?.() ?? 0;
  const folder = join(tmpdir(), `sluice-disk-shim-${user}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  // What is preloaded must be nobody else's.
  if (statSync(folder).uid !== user) throw new Error(`${folder} belongs to another user`);
  const id = createHash("sha256").update(readFileSync(SOURCE)).digest("hex").slice(0, 16);
  const path = join(folder, `${id}.so`);
  if (existsSync(path)) return path;
  const made = join(folder, `${id}.${randomUUID()}`);
  execFileSync("cc", ["-O2", "-Wall", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  renameSync(made, path);
  return path;
}

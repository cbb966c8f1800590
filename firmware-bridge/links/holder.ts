// holder: finds which program holds a device node, to name it to the operator.
// Path: port → [holder]. Touches: /proc.

import type { Stats } from "node:fs";
import { readdir, readFile, readlink, realpath, stat } from "node:fs/promises";

/**
 * `name (pid 123)` of the program that has the node behind `path` locked, else of one that has it
 * open; undefined when none shows. Only root sees the open files of other users' programs.
 */
export async function holderOf(path: string): Promise<string | undefined> {
  const pid = (await lockerOf(path)) ?? (await openerOf(path));
  if (pid === undefined) return undefined;
  if (Number(pid) === process.pid) return "another link of this process";
  const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "a program");
  return `${name.trim()} (pid ${pid})`;
}

/**
 * From /proc/locks (proc_locks(5)): "1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> …", which
 * any user may read; major and minor, in hexadecimal, are those of the file system.
 */
async function lockerOf(path: string): Promise<string | undefined> {
  const node = await stat(path).catch(() => undefined);
  const locks = await readFile("/proc/locks", "utf8").catch(() => "");
  for (const line of locks.split("\n")) {
    const [, type, , , pid = "", place = ""] = line.trim().split(/\s+/);
    if (node && type === "FLOCK" && place === placeOf(node)) return pid;
  }
  return undefined;
}

function placeOf({ dev, ino }: Stats): string {
  const hex = (number: number) => number.toString(16).padStart(2, "0");
  // As makedev(3) has them, for the small numbers of file systems without a disk.
  return `${hex((dev >> 8) & 0xfff)}:${hex((dev & 0xff) | ((dev >> 12) & 0xfff00))}:${ino}`;
}

async function openerOf(path: string): Promise<string | undefined> {
  for (const pid of await list("/proc")) {
    if (/^\d+$/.test(pid) && (await hasOpen(pid, path))) return pid;
  }
  return undefined;
}

async function hasOpen(pid: string, path: string): Promise<boolean> {
  const node = await realpath(path).catch(() => path);
  const folder = `/proc/${pid}/fd`;
  for (const fd of await list(folder)) {
    if ((await readlink(`${folder}/${fd}`).catch(() => "")) === node) return true;
  }
  return false;
}

async function list(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []); // ended meanwhile, or not ours to see
}

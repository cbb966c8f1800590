// holder: finds which program holds a device node, to name it to the operator.
// Path: port → [holder]. Touches: /proc.

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

/** From /proc/locks (proc_locks(5)): "1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> …". */
async function lockerOf(path: string): Promise<string | undefined> {
  const inode = await stat(path).then(
    ({ ino }) => String(ino),
    () => undefined,
  );
  const locks = await readFile("/proc/locks", "utf8").catch(() => "");
  for (const line of locks.split("\n")) {
    const [, type, , , pid = "", place = ""] = line.trim().split(/\s+/);
    if (type !== "FLOCK" || place.split(":")[2] !== inode) continue;
    // Files on other devices may have the same inode number.
    if (await hasOpen(pid, path)) return pid;
  }
  return undefined;
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

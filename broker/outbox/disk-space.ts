// disk-space: how much of the file system that the store lies on is free.
// Path: outbox → [disk space]. Touches: the file system.

import { statfsSync } from "node:fs";

/** Bytes that are free for an ordinary user; undefined where that cannot be told. */
export function diskFreeBytes(folder: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

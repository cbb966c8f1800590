// node-watch: waits for a device node to appear, told by the kernel and not by a timer.
// Path: links → [node-watch]. Touches: the folders around the node, by inotify.

import { type FSWatcher, watch } from "node:fs";
import { readlink, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { wait } from "#runtime/backoff";

/** Between two looks: a folder may be busy, and udev sets a node's owner after making it. */
const LOOK_MS_LEAST = 50;
/** Symbolic links are followed this far, as the kernel does (path_resolution(7)). */
const LINKS_MAX = 40;

/** Is there a file at `path`, behind whatever symbolic links? */
export async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (fault) {
    // What may not be looked at is there; opening it says why it cannot be used.
    return !["ENOENT", "ENOTDIR", "ELOOP"].includes((fault as NodeJS.ErrnoException).code ?? "");
  }
}

/** Resolves when `path` is there, or when `signal` aborts. */
export function appears(path: string, rescanMs: number, signal: AbortSignal): Promise<void> {
  return holds(() => isThere(path), [path], rescanMs, signal);
}

/**
 * Resolves when `check` says true, or when `signal` aborts. It watches the folders in which the next
 * missing piece of each path must appear, and looks again every `rescanMs` in case the kernel tells
 * nothing.
 */
export async function holds(
  check: () => Promise<boolean>,
  paths: readonly string[],
  rescanMs: number,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const change = new AbortController();
    const folders = await foldersAround(paths);
    const watchers = folders.flatMap((folder) => watchFolder(folder, () => change.abort()));
    try {
      if (await check()) return;
      // A folder that appeared before the watches stood is not among them.
      const isWatched = String(folders) === String(await foldersAround(paths));
      if (isWatched) await wait(rescanMs, AbortSignal.any([signal, change.signal]));
    } finally {
      for (const watcher of watchers) watcher.close();
    }
    await wait(LOOK_MS_LEAST, signal);
  }
}

/** For each path and each symbolic link on its way: the nearest folder above that exists. */
async function foldersAround(paths: readonly string[]): Promise<string[]> {
  const folders = new Set<string>();
  for (const path of paths) {
    let at: string | undefined = resolve(path);
    for (let links = 0; at !== undefined && links < LINKS_MAX; links += 1) {
      folders.add(await nearestFolder(at));
      at = await linkTarget(at);
    }
  }
  return [...folders];
}

async function nearestFolder(path: string): Promise<string> {
  let folder = dirname(path);
  while (folder !== "/" && !(await isThere(folder))) folder = dirname(folder);
  return folder;
}

async function linkTarget(path: string): Promise<string | undefined> {
  try {
    return resolve(dirname(path), await readlink(path));
  } catch {
    return undefined; // no symbolic link, or nothing there
  }
}

function watchFolder(folder: string, changed: () => void): FSWatcher[] {
  try {
    // A folder that is removed itself is told as a change, too.
    return [watch(folder, changed).on("error", changed)];
  } catch (fault) {
    if ((fault as NodeJS.ErrnoException).code === "ENOENT") changed();
    // Otherwise inotify has no watch left, and the look every rescanMs is what remains.
    return [];
  }
}

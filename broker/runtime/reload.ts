// reload: which of the settings that changed can be applied to a process that runs.
// Path: process. Touches: nothing.

import type { ListenerSettings, Settings } from "./settings-schema.ts";

export interface Reload {
  /** What the process now runs by: the old settings with what can change in them. */
  readonly applied: Settings;
  /** Changed keys that wait for a restart, as `limits.packet_bytes_max` or `links[0].path`. */
  readonly needsRestart: readonly string[];
}

/**
 * What becomes of settings that were read again. [access], the log level and all of a listener but
 * protocol and address, which say which listener it is, can change while clients stay connected.
 */
export function reloadable(before: Settings, after: Settings): Reload {
  const listeners = before.listeners.map((old) => after.listeners.find(isSame(old)) ?? old);
  const applied = Object.freeze({
    ...before,
    log: after.log,
    access: after.access,
    listeners: Object.freeze(listeners) as Settings["listeners"],
  });
  return { applied, needsRestart: changedKeys(applied, after, "") };
}

function isSame(old: ListenerSettings): (other: ListenerSettings) => boolean {
  return ({ protocol, address }) => protocol === old.protocol && address === old.address;
}

/** The keys under which the two differ; a table or an array that only one of them has counts as one. */
function changedKeys(before: unknown, after: unknown, path: string): string[] {
  if (Array.isArray(before) && Array.isArray(after) && before.length === after.length) {
    return before.flatMap((inner, index) => changedKeys(inner, after[index], `${path}[${index}]`));
  }
  if (isTable(before) && isTable(after)) {
    const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
    return [...keys].flatMap((key) =>
      changedKeys(before[key], after[key], path === "" ? key : `${path}.${key}`),
    );
  }
  return before === after ? [] : [path];
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

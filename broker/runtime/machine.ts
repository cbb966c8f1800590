// machine: what the machine says of itself: a name for the gateway, and whether its clock is set.
// Path: settings, uplink. Touches: /etc/machine-id.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";

/** No clock that is right says less: 2026-01-01. Boards without a battery start in 1970. */
const PLAUSIBLE_SINCE_MS = Date.UTC(2026, 0, 1);

/** `gw-` and 8 hex digits, from a hash of the machine id, which itself must not be shown
 * (machine-id(5)); from the host name where there is no machine id. */
export function defaultName(): string {
  return `gw-${createHash("sha256").update(`sluice:${machineId()}`).digest("hex").slice(0, 8)}`;
}

function machineId(): string {
  try {
    return readFileSync("/etc/machine-id", "utf8").trim() || hostname();
  } catch {
    return hostname();
  }
}

/** Is `nowMs` (milliseconds since 1970) a time at which this software can be running? */
export function isClockPlausible(nowMs: number): boolean {
  return nowMs >= PLAUSIBLE_SINCE_MS;
}

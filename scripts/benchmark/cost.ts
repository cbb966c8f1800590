// cost: what a process has used so far: CPU time and memory.
// Path: load, broker-process → [cost]. Touches: /proc of that process.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/**
 * CPU time, user and system, in microseconds, of all threads that the process has now; of those
 * that have ended it knows nothing, so brokers must keep theirs.
 */
export function cpuUs(pid: number): number {
  return schedulerUs(pid) ?? ticksUs(pid);
}

/** Resident memory, in bytes. */
export function rssBytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1] ?? 0) * 1024;
}

/** By the scheduler's own account, in ns; undefined where the kernel keeps none. */
function schedulerUs(pid: number): number | undefined {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const text = readOrNothing(`/proc/${pid}/task/${thread}/schedstat`);
    ns += Number(text.split(" ")[0]);
  }
  return ns > 0 ? ns / 1_000 : undefined;
}

/** By the clock ticks of proc(5), mostly 10 ms each. */
function ticksUs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name, in parentheses, may hold anything; after it the third field comes first.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  return (ticks * 1_000_000) / ticksPerSecond();
}

let ticksKnown = 0;

function ticksPerSecond(): number {
  ticksKnown ||= Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));
  return ticksKnown;
}

/** A thread may end between the listing and the look at it. */
function readOrNothing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

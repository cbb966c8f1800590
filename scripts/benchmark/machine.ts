// machine: what the figures were measured on, and which of its cores is whose.
// Path: main, broker-process → [machine]. Touches: /proc.

import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";

/** One for the broker alone, one for the load and all else. */
export interface Cores {
  readonly broker: number;
  readonly load: number;
}

const MOVE_TRIES_MAX = 5;

/** The first two cores that this process may use; undefined where there is but one. */
export function chooseCores(): Cores | undefined {
  const status = readFileSync("/proc/self/status", "utf8");
  const list = /^Cpus_allowed_list:\s*(.+)$/m.exec(status)?.[1] ?? "";
  const [broker, load] = list.split(",").flatMap(coresOf);
  return broker === undefined || load === undefined ? undefined : { broker, load };
}

/** "0-3" or "5", of a list of cpuset(7). */
function coresOf(range: string): number[] {
  const [from = 0, to = from] = range.split("-").map(Number);
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

/** Makes room on the broker's core: this process, and what it starts, leaves it. */
export function leaveBrokersCore({ load }: Cores): void {
  moveTo([load], process.pid);
}

/** The process runs on these cores from now on. */
export function moveTo(cores: readonly number[], pid: number): void {
  const args = ["--all-tasks", "--cpu-list", "--pid", cores.join(), String(pid)];
  // It fails, too, when a thread ends between its listing and its move.
  for (let tries = 1; tries < MOVE_TRIES_MAX; tries++) {
    if (spawnSync("taskset", args, { stdio: "ignore" }).status === 0) return;
  }
  execFileSync("taskset", args, { stdio: "ignore" });
}

/** In a line: processor, cores, memory, kernel, Node, and how busy it is. */
export function describeMachine(cores: Cores | undefined): string {
  const [processor] = cpus();
  const load = loadavg()
    .map((value) => value.toFixed(2))
    .join(" ");
  const pinned = cores
    ? `the broker on core ${cores.broker}, the load on core ${cores.load}`
    : "one core for broker and load";
  return [
    `${processor?.model.trim() ?? "unknown processor"}, ${cpus().length} cores`,
    `${(totalmem() / 1e9).toFixed(1)} GB`,
    `Linux ${release()}`,
    `Node ${process.versions.node}`,
    `load average ${load}`,
    pinned,
  ].join("; ");
}

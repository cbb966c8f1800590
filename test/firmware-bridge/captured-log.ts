// captured-log: a log whose lines a test can read.
// Path: tests. Touches: nothing.

import { pino } from "pino";
import type { Log } from "#runtime/log";

export interface CapturedLog {
  readonly log: Log;
  readonly lines: readonly Record<string, unknown>[];
  /** How many lines of `level` say `msg`. */
  count(level: "warn" | "info" | "debug", msg: string): number;
}

export function capturedLog(): CapturedLog {
  const lines: Record<string, unknown>[] = [];
  const formatters = { level: (level: string) => ({ level }) };
  const write = (line: string) => void lines.push(JSON.parse(line));
  const count = (level: string, msg: string) =>
    lines.filter((line) => line.level === level && line.msg === msg).length;
  return { log: pino({ level: "debug", formatters }, { write }), lines, count };
}

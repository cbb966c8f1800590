// log: JSON lines on stdout with journald's priority, readable lines on a terminal.
// Path: every process. Touches: stdout.

import { pino } from "pino";
import { printable } from "./printable.ts";

export type Log = pino.Logger;

export interface LogOptions {
  readonly level: "error" | "warn" | "info" | "debug";
  /** Stands in each line as `process`. */
  readonly process: string;
}

// Priorities of syslog(3), which journald reads from the front of a line (sd-daemon(3)).
const PRIORITIES: Record<string, number> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7 };

/** A logger for stdout: text on a terminal, JSON elsewhere, behind `<priority>` under journald. */
export function createLog(options: LogOptions): Log {
  return pino(
    {
      level: options.level,
      base: { process: options.process },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label, priority: PRIORITIES[label] ?? 6 }) },
      serializers: { err: (error: unknown) => (error instanceof Error ? error.message : error) },
    },
    outputFor(process.stdout, process.env.JOURNAL_STREAM !== undefined),
  );
}

function outputFor(stdout: NodeJS.WriteStream, journal: boolean): pino.DestinationStream {
  // Synchronous, so that the last line before an exit is never lost.
  const plain = pino.destination({ fd: 1, sync: true });
  if (stdout.isTTY) return { write: (line) => plain.write(readable(line)) };
  if (journal) return { write: (line) => plain.write(`<${priorityOf(line)}>${line}`) };
  return plain;
}

function priorityOf(line: string): string {
  return /"priority":(\d)/.exec(line)?.[1] ?? "6";
}

/** One JSON line as a person reads it: time, level, message, then the fields that are left. */
export function readable(line: string): string {
  const { time, level, msg, process: name, priority: _, ...fields } = JSON.parse(line);
  const rest = Object.entries(fields)
    .map(([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join("");
  const text = printable(`${name}: ${msg ?? ""}${rest}`);
  return `${String(time).slice(11, 23)} ${String(level).padEnd(5)} ${text}\n`;
}

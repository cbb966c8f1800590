// format: ages, bytes, counts and tables as a person reads them.
// Path: status, outbox, tail → [format]. Touches: nothing.

const STEPS = [
  { seconds: 86_400, unit: "d", next: 3_600, nextUnit: "h" },
  { seconds: 3_600, unit: "h", next: 60, nextUnit: "m" },
  { seconds: 60, unit: "m", next: 1, nextUnit: "s" },
] as const;

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** `3d 4h`, `3m 12s`, `5s`; what lies in the future by a clock that jumped is `0s`. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  const step = STEPS.find((it) => seconds >= it.seconds);
  if (!step) return `${seconds}s`;
  const rest = Math.floor((seconds % step.seconds) / step.next);
  return `${Math.floor(seconds / step.seconds)}${step.unit} ${rest}${step.nextUnit}`;
}

/** `0 B`, `1.2 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 1023.95 would be rounded to 1024.0.
  while (value >= (unit === 0 ? 1_024 : 1_023.95) && unit < BYTE_UNITS.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

/** `119,190`. */
export function formatCount(count: number): string {
  return count.toLocaleString("en-US");
}

/** `1 message`, `2 messages`. */
export function formatCounted(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** `0.1%`. */
export function formatShare(part: number, whole: number): string {
  return `${(whole > 0 ? (part / whole) * 100 : 0).toFixed(1)}%`;
}

/** Lines with aligned columns: the first `left` to the left, the others, numbers, to the right. */
export function formatTable(rows: readonly (readonly string[])[], left = 1): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column < left ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join("  "),
    )
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

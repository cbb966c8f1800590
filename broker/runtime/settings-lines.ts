// settings-lines: finds the line on which a key stands in a TOML file.
// Path: settings. Touches: nothing.

type Key = string | number;

/**
 * The line, from 1, of the key at `path` in `text`, or of its nearest ancestor that has a line.
 * Knows tables, arrays of tables and dotted keys; a key in an inline table counts as its table's.
 */
export function lineOfKey(text: string, path: readonly Key[]): number {
  const lines = new Map<string, number>();
  const counts = new Map<string, number>();
  let table: Key[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const header = /^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?/.exec(line);
    const pair = /^\s*([\w"'.\s-]+?)\s*=/.exec(line);
    if (header?.[1] && header[2]) {
      table = resolveHeader(splitKey(header[2]), header[1] === "[[", counts);
      remember(lines, table, index + 1);
    } else if (pair?.[1]) {
      remember(lines, [...table, ...splitKey(pair[1])], index + 1);
    }
  }
  for (let length = path.length; length > 0; length -= 1) {
    const line = lines.get(id(path.slice(0, length)));
    if (line !== undefined) return line;
  }
  return 1;
}

/** The full path of a header: each name that is an array of tables gets its newest index. */
function resolveHeader(names: string[], isArray: boolean, counts: Map<string, number>): Key[] {
  const path: Key[] = [];
  for (const [depth, name] of names.entries()) {
    path.push(name);
    const key = id(path);
    if (isArray && depth === names.length - 1) counts.set(key, (counts.get(key) ?? 0) + 1);
    const count = counts.get(key);
    if (count !== undefined) path.push(count - 1);
  }
  return path;
}

function remember(lines: Map<string, number>, path: readonly Key[], line: number): void {
  for (let length = 1; length <= path.length; length += 1) {
    const key = id(path.slice(0, length));
    if (!lines.has(key)) lines.set(key, line);
  }
}

function splitKey(text: string): string[] {
  return text.split(".").map((part) => part.trim().replace(/^["']|["']$/g, ""));
}

function id(path: readonly Key[]): string {
  return JSON.stringify(path);
}

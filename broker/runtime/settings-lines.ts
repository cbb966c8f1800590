// settings-lines: finds the line on which a key stands in a TOML file.
// Path: settings. Touches: nothing.

type Key = string | number;

/**
 * How to find the line, from 1, of a key in `text`, or of its nearest ancestor that has a line.
 * The text has been read as TOML before: what is not TOML gives wrong lines, but an end.
 */
export function keyLines(text: string): (path: readonly Key[]) => number {
  const lines = new KeyScanner(text).scan();
  return (path) => {
    for (let length = path.length; length > 0; length -= 1) {
      const line = lines.get(id(path.slice(0, length)));
      if (line !== undefined) return line;
    }
    return 1;
  };
}

/** Walks a TOML text by its keys; of the values it reads only where they end. */
class KeyScanner {
  readonly #text: string;
  readonly #lines = new Map<string, number>();
  /** How many tables each array of tables has so far. */
  readonly #counts = new Map<string, number>();
  #at = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  scan(): ReadonlyMap<string, number> {
    let table: Key[] = [];
    for (this.#skipBlank(); this.#at < this.#text.length; this.#skipBlank()) {
      if (this.#next("[")) table = this.#header();
      else this.#pair(table);
    }
    return this.#lines;
  }

  /** Reads `[name]` or `[[name]]`; each name that is an array of tables gets its newest index. */
  #header(): Key[] {
    const line = this.#line;
    const isArray = this.#next("[[");
    this.#forward(isArray ? 2 : 1);
    const names = this.#names();
    const path: Key[] = [];
    for (const [depth, name] of names.entries()) {
      path.push(name);
      const key = id(path);
      if (isArray && depth === names.length - 1) {
        this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
      }
      const count = this.#counts.get(key);
      if (count !== undefined) path.push(count - 1);
    }
    this.#remember(path, line);
    while (this.#next("]")) this.#forward(1);
    return path;
  }

  #pair(table: readonly Key[]): void {
    const line = this.#line;
    const path = [...table, ...this.#names()];
    this.#remember(path, line);
    // One step at least, past the "=", so that no text holds the scan up.
    this.#forward(1);
    this.#value(path);
  }

  /** The parts of a dotted key, and the blanks behind it. */
  #names(): string[] {
    const names: string[] = [];
    for (;;) {
      this.#skipSpace();
      const start = this.#at;
      if (this.#next('"') || this.#next("'")) {
        this.#string();
        names.push(unquoted(this.#text.slice(start, this.#at)));
      } else {
        this.#forward(this.#match(/[\w-]*/y));
        names.push(this.#text.slice(start, this.#at));
      }
      this.#skipSpace();
      if (!this.#next(".")) return names;
      this.#forward(1);
    }
  }

  #value(path: readonly Key[]): void {
    this.#skipSpace();
    if (this.#next('"') || this.#next("'")) this.#string();
    else if (this.#next("[")) this.#array(path);
    else if (this.#next("{")) this.#inlineTable(path);
    else this.#forward(this.#match(/[^,\]}#\n]*/y));
  }

  #array(path: readonly Key[]): void {
    this.#items("]", (index) => {
      this.#remember([...path, index], this.#line);
      this.#value([...path, index]);
    });
  }

  #inlineTable(path: readonly Key[]): void {
    this.#items("}", () => this.#pair(path));
  }

  #items(end: string, item: (index: number) => void): void {
    this.#forward(1);
    for (let index = 0; ; index += 1) {
      this.#skipBlank();
      if (this.#next(end) || this.#at >= this.#text.length) break;
      const start = this.#at;
      item(index);
      this.#skipBlank();
      if (this.#next(",") || this.#at === start) this.#forward(1);
    }
    this.#forward(1);
  }

  #string(): void {
    const triple = this.#match(/"""|'''/y);
    if (triple > 0) {
      this.#forward(this.#match(/"""(?:\\.|[^\\])*?"""+|'''.*?'''+/sy) || triple);
    } else {
      this.#forward(this.#match(/"(?:\\.|[^"\\\n])*"|'[^'\n]*'/y) || 1);
    }
  }

  #skipSpace(): void {
    this.#forward(this.#match(/[ \t]*/y));
  }

  #skipBlank(): void {
    this.#forward(this.#match(/(?:\s+|#[^\n]*)*/y));
  }

  #next(text: string): boolean {
    return this.#text.startsWith(text, this.#at);
  }

  /** How many characters `pattern` takes here. */
  #match(pattern: RegExp): number {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#text)?.[0].length ?? 0;
  }

  #forward(length: number): void {
    const end = Math.min(this.#text.length, this.#at + length);
    for (; this.#at < end; this.#at += 1) if (this.#text[this.#at] === "\n") this.#line += 1;
  }

  /** Notes the line of a key, and of those of its ancestors that have none yet. */
  #remember(path: readonly Key[], line: number): void {
    for (let length = 1; length <= path.length; length += 1) {
      const key = id(path.slice(0, length));
      if (!this.#lines.has(key)) this.#lines.set(key, line);
    }
  }
}

function unquoted(quoted: string): string {
  if (quoted.startsWith("'")) return quoted.slice(1, -1);
  try {
    return String(JSON.parse(quoted));
  } catch {
    // An escape that TOML knows and JSON does not; such a key falls back to its table's line.
    return quoted;
  }
}

function id(path: readonly Key[]): string {
  return JSON.stringify(path);
}

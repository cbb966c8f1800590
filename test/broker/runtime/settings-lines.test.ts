// settings-lines.test: which line a key of a TOML file is said to stand on.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { keyLines } from "#runtime/settings-lines";

const RUNS = { seed: 20_260_201, numRuns: 1_000 } as const;

type Path = (string | number)[];

function assertLines(text: string, lines: readonly [number, Path][]): void {
  for (const ending of ["\n", "\r\n"]) {
    const lineOf = keyLines(text.replaceAll("\n", ending));
    for (const [line, path] of lines) assert.equal(lineOf(path), line, JSON.stringify(path));
  }
}

test("finds keys in tables and arrays of tables, each at its own", () => {
  const text = `# first
a = 1
[t]
b = 2
[[r]]
c = 3
[r.u]
d = 4
[[r]] # second
c = 5
[[r.s]]
e = 6
[[r.s]]
e = 7
`;
  assertLines(text, [
    [2, ["a"]],
    [3, ["t"]],
    [4, ["t", "b"]],
    [5, ["r", 0]],
    [6, ["r", 0, "c"]],
    [8, ["r", 0, "u", "d"]],
    [9, ["r", 1]],
    [10, ["r", 1, "c"]],
    [12, ["r", 1, "s", 0, "e"]],
    [14, ["r", 1, "s", 1, "e"]],
  ]);
});

test("finds dotted and quoted keys", () => {
  const text = `a.b = 1
a . c = 2
"a.b" = 3
[t."x.y"]
'z' = 4
"q\\"uote" = 5`;
  assertLines(text, [
    [1, ["a"]],
    [1, ["a", "b"]],
    [2, ["a", "c"]],
    [3, ["a.b"]],
    [4, ["t", "x.y"]],
    [5, ["t", "x.y", "z"]],
    [6, ["t", "x.y", 'q"uote']],
  ]);
});

test("finds keys of inline tables and items of arrays over several lines", () => {
  const text = `lanes = [
  { name = "a", bytes_max = 1 }, # [[not]]
  { name = "b",
    bytes_max = 2 },
]
names = [
  "x = 1",
  "]",
  [1, 2],
]
after = { deep = { key = 1 }, other = [ { last = 1 } ] }
end = 1`;
  assertLines(text, [
    [2, ["lanes", 0, "name"]],
    [2, ["lanes", 0, "bytes_max"]],
    [3, ["lanes", 1]],
    [4, ["lanes", 1, "bytes_max"]],
    [7, ["names", 0]],
    [9, ["names", 2, 1]],
    [11, ["after", "deep", "key"]],
    [11, ["after", "other", 0, "last"]],
    [12, ["end"]],
  ]);
});

test("takes nothing inside text or comments for a key", () => {
  const text = `# role = 1
a = """
role = 2 \\""" [x]
"""
b = '''
[role]
role = 3'''
c = "\\"] role = 4 #"
d = '#' # role = 5
role = 6`;
  assertLines(text, [
    [2, ["a"]],
    [5, ["b"]],
    [8, ["c"]],
    [10, ["role"]],
  ]);
});

test("gives a key that is not there the line of its nearest ancestor, else 1", () => {
  const text = "\n[a]\nb = 1\n[[c]]\n";
  assertLines(text, [
    [2, ["a", "none"]],
    [3, ["a", "b", "none", 5]],
    [4, ["c", 0, "none"]],
    [4, ["c", 7]],
    [1, ["none"]],
    [1, []],
  ]);
});

test("comes to an end with any text", () => {
  const piece = fc.constantFrom(
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    '"""',
    "=",
    ".",
    ",",
    "#",
    "\n",
    "a",
    " ",
    "\\",
  );
  const texts = fc.oneof(
    fc.array(piece, { maxLength: 40 }).map((it) => it.join("")),
    fc.string(),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const line = keyLines(text)(["a", 0, "b"]);
      assert.ok(line >= 1 && line <= text.split("\n").length);
    }),
    { ...RUNS, interruptAfterTimeLimit: 20_000 },
  );
});

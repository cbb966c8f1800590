// log.test: what a line of the log promises, to journald and on a terminal.
// Path: test. Touches: child processes.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { readable } from "#runtime/log";

/** The lines that a process logs which runs `script` with a `log` of level info. */
function logged(script: string, env: NodeJS.ProcessEnv = {}): string[] {
  const source = `import { createLog } from "#runtime/log";
    const log = createLog({ level: "info", process: "test" });
    ${script}`;
  const { JOURNAL_STREAM: _, ...inherited } = process.env;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ["--input-type=module-typescript", "-e", source],
    { env: { ...inherited, ...env }, encoding: "utf8", timeout: 20_000 },
  );
  assert.equal(stderr, "");
  return stdout.split("\n").filter((line) => line !== "");
}

test("writes one JSON object a line, with time, level, priority and process", () => {
  const [line = "", ...more] = logged('log.info({ lane: "default", seq: 7 }, "custody taken");');
  assert.equal(more.length, 0);
  const { time, ...rest } = JSON.parse(line);
  assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.deepEqual(rest, {
    level: "info",
    priority: 6,
    process: "test",
    lane: "default",
    seq: 7,
    msg: "custody taken",
  });
});

test("puts journald's priority in front of each line, and nothing where journald is not", () => {
  const script = 'log.error("a"); log.warn("b"); log.info("c"); log.fatal("d");';
  const lines = logged(script, { JOURNAL_STREAM: "8:12345" });
  assert.deepEqual(
    lines.map((line) => line.slice(0, 4)),
    ["<3>{", "<4>{", "<6>{", "<2>{"],
  );
  assert.ok(logged(script).every((line) => line.startsWith("{")));
});

test("takes the priority from the level, not from what a stranger put into the text", () => {
  const script = `log.info({ topic: '"priority":0' }, '"priority":1');`;
  assert.match(logged(script, { JOURNAL_STREAM: "8:1" })[0] ?? "", /^<6>/);
});

test("keeps quiet below its level", () => {
  assert.deepEqual(logged('log.debug("no");'), []);
});

test("keeps the last line before an exit", () => {
  assert.equal(logged('log.error("last"); process.exit(1);').length, 1);
});

test("names an error by its message, on the same line", () => {
  const [line = ""] = logged('log.error({ err: new Error("first\\nsecond") }, "failed");');
  assert.equal(JSON.parse(line).err, "first\nsecond");
});

test("reads on a terminal as time, level, process, message, then fields", () => {
  const line = JSON.stringify({
    level: "warn",
    priority: 4,
    time: "2026-01-02T03:04:05.678Z",
    process: "broker",
    lane: "default",
    seq: 7,
    labels: { a: 1 },
    msg: "outbox is full",
  });
  assert.equal(
    readable(line),
    '03:04:05.678 warn  broker: outbox is full lane=default seq=7 labels={"a":1}\n',
  );
});

test("shows control characters of strangers in escapes on a terminal", () => {
  const line = JSON.stringify({ level: "info", process: "x", msg: "\u001b[2J", client: "a\nb" });
  const text = readable(line);
  assert.ok(text.endsWith(" x: \\u{1b}[2J client=a\\nb\n"), text);
});

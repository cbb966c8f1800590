// sparing-log.test: what happens over and over is told of, but nobody can fill the log or hide the rest.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { SPARING_LOG, SparingLog } from "../../../broker/mqtt/sparing-log.ts";

function sparingLog() {
  const lines: Record<string, unknown>[] = [];
  const clock = { nowMs: 5 };
  const log = new SparingLog(
    (line) => lines.push(line as Record<string, unknown>),
    () => clock.nowMs,
  );
  const tell = (reason: string, ip: string | undefined, more = {}) =>
    log.tell(reason, ip, { ip, ...more });
  return { lines, clock, tell };
}

test("logs the reason and all that is known", () => {
  const { lines, tell } = sparingLog();
  tell("bad login", "192.0.2.1", { username: "meter" });
  const line = { reason: "bad login", ip: "192.0.2.1", username: "meter", unlogged: 0 };
  assert.deepEqual(lines, [line]);
});

test("logs an address once in a window, and then how often it was left out", () => {
  const { lines, clock, tell } = sparingLog();
  for (let count = 0; count < 1_000; count += 1) tell("bad login", "192.0.2.1");
  assert.equal(lines.length, 1);
  clock.nowMs += SPARING_LOG.windowMs;
  tell("bad login", "192.0.2.1");
  assert.deepEqual([lines.length, lines[1]?.unlogged], [2, 999]);
  clock.nowMs += SPARING_LOG.windowMs;
  tell("bad login", "192.0.2.1");
  assert.equal(lines[2]?.unlogged, 0);
});

test("lets no address and no reason hide another", () => {
  const { lines, tell } = sparingLog();
  for (let count = 0; count < 1_000; count += 1) tell("bad login", "192.0.2.1");
  tell("bad login", "192.0.2.2");
  tell("anonymous", "192.0.2.1");
  tell("anonymous", undefined);
  assert.deepEqual(
    lines.map(({ reason, ip, unlogged }) => [reason, ip, unlogged]),
    [
      ["bad login", "192.0.2.1", 0],
      ["bad login", "192.0.2.2", 999],
      ["anonymous", "192.0.2.1", 0],
      ["anonymous", undefined, 0],
    ],
  );
});

test("logs a bounded number of addresses in a window", () => {
  const { lines, tell } = sparingLog();
  for (let count = 0; count < 1_000; count += 1) tell("bad login", `2001:db8::${count}`);
  assert.equal(lines.length, SPARING_LOG.linesInWindowMax);
});

// refusal-log.test: refusals are told of, but no client can fill the log or hide the others.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { REFUSAL_LOG, RefusalLog } from "../../../broker/mqtt/refusal-log.ts";

function refusalLog() {
  const lines: Record<string, unknown>[] = [];
  const clock = { nowMs: 5 };
  const log = pino({ base: null }, { write: (line) => lines.push(JSON.parse(line)) });
  return { lines, clock, refusals: new RefusalLog(log, "CONNECT refused", () => clock.nowMs) };
}

test("logs a refusal with its reason, its address and what else is known", () => {
  const { lines, refusals } = refusalLog();
  refusals.tell("bad login", { ip: "192.0.2.1" }, { username: "meter" });
  const [{ level, reason, ip, username, unlogged, msg } = {}] = lines;
  assert.deepEqual(
    { level, reason, ip, username, unlogged, msg },
    {
      level: 40,
      reason: "bad login",
      ip: "192.0.2.1",
      username: "meter",
      unlogged: 0,
      msg: "CONNECT refused",
    },
  );
});

test("logs an address once in a window, and then how often it was left out", () => {
  const { lines, clock, refusals } = refusalLog();
  for (let count = 0; count < 1_000; count += 1) refusals.tell("bad login", { ip: "192.0.2.1" });
  assert.equal(lines.length, 1);
  clock.nowMs += REFUSAL_LOG.windowMs;
  refusals.tell("bad login", { ip: "192.0.2.1" });
  assert.deepEqual([lines.length, lines[1]?.unlogged], [2, 999]);
  clock.nowMs += REFUSAL_LOG.windowMs;
  refusals.tell("bad login", { ip: "192.0.2.1" });
  assert.equal(lines[2]?.unlogged, 0);
});

test("lets no address and no reason hide another", () => {
  const { lines, refusals } = refusalLog();
  for (let count = 0; count < 1_000; count += 1) refusals.tell("bad login", { ip: "192.0.2.1" });
  refusals.tell("bad login", { ip: "192.0.2.2" });
  refusals.tell("anonymous", { ip: "192.0.2.1" });
  refusals.tell("anonymous", { ip: undefined });
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
  const { lines, refusals } = refusalLog();
  for (let count = 0; count < 1_000; count += 1) {
    refusals.tell("bad login", { ip: `2001:db8::${count}` });
  }
  assert.equal(lines.length, REFUSAL_LOG.linesInWindowMax);
});

// main.test: what `sluice` says of itself, and how it refuses what it does not know.
// Path: test. Touches: child processes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { VERSION } from "#runtime/version";
import { sluice } from "./sluice-command.ts";

test("tells its version and its commands", async (t) => {
  const version = await sluice(t, "--version");
  assert.deepEqual(version, { code: 0, stdout: `sluice ${VERSION}\n`, stderr: "" });
  const { code, stdout, stderr } = await sluice(t, "--help");
  assert.deepEqual([code, stderr], [0, ""]);
  for (const command of ["status", "outbox", "user", "tail"]) {
    assert.match(stdout, RegExp(`^ +${command} +\\w`, "m"));
  }
});

test("tells each command's usage, and does nothing else", async (t) => {
  for (const command of ["status", "outbox", "user", "tail"]) {
    const { code, stdout, stderr } = await sluice(t, command, "add", "--help");
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, RegExp(`^usage: sluice ${command} `));
  }
});

test("names the nearest command for one that it does not know, and ends with 2", async (t) => {
  const { code, stdout, stderr } = await sluice(t, "stauts");
  assert.deepEqual([code, stdout], [2, ""]);
  assert.equal(
    stderr,
    'sluice: no command "stauts"; did you mean status?\nsluice --help tells more\n',
  );
});

test("ends with 2 without a command, and names them", async (t) => {
  const { code, stdout, stderr } = await sluice(t);
  assert.deepEqual([code, stdout], [2, ""]);
  assert.match(stderr, /status, outbox, links, flash, user, tail/);
});

test("names the nearest option, a missing value and an argument too many", async (t) => {
  const cases: [string[], RegExp][] = [
    [["status", "--jsn"], /^sluice: Unknown option '--jsn'; the nearest known option is --json\n/],
    [["tail", "--adress=x"], /Unknown option '--adress'; the nearest known option is --address\n/],
    [["status", "--config"], /^sluice: Option '--config <value>' argument missing\n/],
    [["outbox", "default"], /^sluice: unexpected argument "default"\n/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await sluice(t, ...args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /\n {4}at /);
  }
});

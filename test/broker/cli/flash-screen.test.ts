// flash-screen.test: the bar that an operator sees on a terminal.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { FlashStep } from "#contract/flash";
import { FlashScreen } from "../../../broker/cli/flash-screen.ts";

function screenOf(columns: number | undefined) {
  let text = "";
  const write = (more: string) => {
    text += more;
  };
  const screen = new FlashScreen(columns ? { isTTY: true, columns, write } : { write });
  const progress = (step: FlashStep, percent: number) =>
    screen.show({ state: "progress", link: "box", step, percent });
  return { screen, progress, text: () => text };
}

test("draws one bar for each step, in its place, and ends below it", () => {
  const { screen, progress, text } = screenOf(80);
  progress("writing", 0);
  progress("writing", 50);
  progress("writing", 100);
  progress("verifying", 2);
  screen.show({ state: "done", link: "box", bytes: 1, sha256: "", tookMs: 3_140 });
  const bar = (full: number) => `[${"#".repeat(full)}${"-".repeat(40 - full)}]`;
  assert.equal(
    text(),
    `\rwriting   ${bar(0)}   0%\rwriting   ${bar(20)}  50%\rwriting   ${bar(40)} 100%\n` +
      `\rverifying ${bar(1)}   2%\nflashed box in 3.1 s\n`,
  );
});

test("stays on one line of a narrow terminal", () => {
  for (const columns of [20, 24, 40, 59]) {
    const { progress, text } = screenOf(columns);
    progress("verifying", 100);
    assert.ok(text().length - 1 < columns, `${columns}: ${text()}`);
  }
});

test("writes a line for each quarter where there is no terminal", () => {
  const { progress, text } = screenOf(undefined);
  for (const step of ["writing", "verifying"] as const) {
    for (let percent = 0; percent <= 100; percent += 2) progress(step, percent);
  }
  const lines = (step: string) => [0, 26, 50, 76, 100].map((percent) => `${step} ${percent}%\n`);
  assert.equal(text(), [...lines("writing"), ...lines("verifying")].join(""));
});

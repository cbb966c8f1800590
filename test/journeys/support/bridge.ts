// bridge: one firmware-bridge as a process of its own, on the settings of a gateway.
// Path: journeys → [bridge] → firmware-bridge/main. Touches: a process.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";
import { NODE, programOf } from "../../../scripts/chain/plans.ts";
import { waitFor } from "../../support/wait-for.ts";

/** A process has to start first, on a machine that may be busy. */
export const START_MS_MAX = 20_000;

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

/** A bridge that has its links open: what a device says before, the port forgets. */
export async function startBridge(
  t: TestContext,
  file: string,
  links: number,
  env: Readonly<Record<string, string>> = {},
): Promise<ChildProcess> {
  const args = [programOf("sources", "firmware-bridge"), "--config", file];
  const child = spawn(NODE, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  t.after(() => end(child));
  let output = "";
  child.stdout.on("data", (text) => {
    output += text;
  });
  const up = () => output.split('"to":"up"').length > links;
  await waitFor("the links", up, START_MS_MAX).catch((fault) => assert.fail(`${fault}\n${output}`));
  return child;
}

// main: scripts/torture: one run, its table, and the seed with which to see it again.
// Path: scripts/torture → [main] → torture. Touches: a folder, stdout.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ChainFailure } from "../chain/failure.ts";
import { type Command, parseCommandLine, UsageFailure } from "./command-line.ts";
import { tableOf } from "./table.ts";
import { torture } from "./torture.ts";

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function run(command: Command): Promise<boolean> {
  const folder = command.folder ?? mkdtempSync(join(tmpdir(), "sluice-torture-"));
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());
  print(`seed ${command.seed}, in ${folder}`);
  const startedAtMs = performance.now();
  const say = (line: string) => {
    print(`${((performance.now() - startedAtMs) / 1_000).toFixed(1).padStart(7)} s  ${line}`);
  };
  const outcome = await torture({ ...command, folder, signal: stop.signal, say });
  print(`\n${tableOf(outcome)}\n`);
  const { broken } = outcome.findings;
  if (broken.length === 0) {
    if (command.folder === undefined) rmSync(folder, { recursive: true });
    print("kept: nothing that was acknowledged is lost, nothing landed twice, all is in order");
    return true;
  }
  for (const line of broken) print(`BROKEN: ${line}`);
  print(
    `see it again: scripts/torture --seed ${command.seed} --seconds ${command.seconds} --gateways ${command.gateways}; all files are in ${folder}`,
  );
  return false;
}

try {
  process.exitCode = (await run(parseCommandLine(process.argv.slice(2)))) ? 0 : 1;
} catch (fault) {
  if (!(fault instanceof ChainFailure || fault instanceof UsageFailure)) throw fault;
  process.stderr.write(`${fault.message}\n`);
  process.exitCode = fault instanceof UsageFailure ? 2 : 1;
}

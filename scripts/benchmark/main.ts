// main: scripts/bench: compares Sluice with mosquitto and vanilla Aedes, and says what is reached.
// Path: scripts/bench → [main] → bench, table. Touches: the terminal, what bench touches.

import { writeFileSync } from "node:fs";
import { type Run, runBench } from "./bench.ts";
import { type Command, parseCommandLine, UsageFailure } from "./command-line.ts";
import { BenchFailure } from "./failure.ts";
import { chooseCores, describeMachine, leaveBrokersCore } from "./machine.ts";
import { SCENARIOS } from "./scenarios.ts";
import { tablesOf } from "./table.ts";

async function bench(command: Command): Promise<void> {
  const { scenarios, brokers, seconds, repeats, json } = command;
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => stop.abort());
  const cores = chooseCores();
  if (cores) leaveBrokersCore(cores);
  const machine = describeMachine(cores);
  const runs = await runBench({ ...command, cores, signal: stop.signal, onRun: tell });
  if (stop.signal.aborted) throw new BenchFailure("stopped");
  const about = `${repeats} runs of ${seconds} s each, in turn; medians. ${machine}.`;
  print(`${about}\n\n${tablesOf(scenarios, brokers, runs, seconds)}\n`);
  if (json !== undefined) {
    writeFileSync(json, `${JSON.stringify({ machine, seconds, repeats, runs }, null, 2)}\n`);
  }
  const failed = runs.filter((run) => run.failure !== undefined);
  if (failed.length > 0) throw new BenchFailure(`${failed.length} of ${runs.length} runs failed`);
}

/** As it goes, beside the tables, for who waits for them. */
function tell({ scenario, broker, repeat, figures, failure }: Run): void {
  const found = figures
    ? Object.entries(figures).map(([key, value]) => `${key}=${value.toPrecision(4)}`)
    : [`failed: ${failure}`];
  process.stderr.write(`bench: ${scenario} #${repeat + 1} ${broker}: ${found.join(" ")}\n`);
}

function list(): void {
  for (const { name, about } of SCENARIOS) print(`${name.padEnd(17)}  ${about}\n`);
}

function print(text: string): void {
  process.stdout.write(text);
}

try {
  const command = parseCommandLine(process.argv.slice(2));
  if (command.list) list();
  else await bench(command);
} catch (failure) {
  if (!(failure instanceof BenchFailure)) throw failure;
  process.stderr.write(`${failure.message}\n`);
  process.exitCode = failure instanceof UsageFailure ? 2 : 1;
}

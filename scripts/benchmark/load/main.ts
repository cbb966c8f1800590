// main: a load process: does the job that its one argument describes, and prints what it found.
// Path: scenarios → [main] → jobs. Touches: stdout, what the jobs touch.

import { BenchFailure } from "../failure.ts";
import type { Figures, Job } from "../job.ts";
import { runCollect } from "./collect.ts";
import { runConnections } from "./connections.ts";
import { runFlood } from "./flood.ts";
import { runFill, runIntake } from "./intake.ts";
import { runLive } from "./live.ts";
import { runPaced } from "./paced.ts";
import { runPair } from "./pair.ts";
import { runQueue } from "./queue.ts";
import { runRetained } from "./retained.ts";
import { runStamped } from "./stamped.ts";

function run(job: Job): Promise<Figures | undefined> {
  switch (job.kind) {
    case "live":
      return runLive(job);
    case "retain":
      return runRetained(job);
    case "connections":
      return runConnections(job);
    case "pair":
      return runPair(job);
    case "flood":
      return runFlood(job).then(() => undefined);
    case "intake":
      return runIntake(job);
    case "fill":
      return runFill(job);
    case "paced":
      return runPaced(job);
    case "queue":
      return runQueue(job);
    case "collect":
      return runCollect(job);
    case "stamped":
      return runStamped(job);
  }
}

function fail(failure: unknown): never {
  const text = failure instanceof BenchFailure ? failure.message : String(failure);
  process.stderr.write(`${text}\n`);
  process.exit(1);
}

process.on("uncaughtException", fail);
const figures = await run(JSON.parse(process.argv[2] ?? ""));
if (figures) {
  process.stdout.write(`${JSON.stringify(figures)}\n`);
  process.exit(0);
}

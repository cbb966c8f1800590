// load-process: runs a job in a process of its own, so that its load does not meet our own work.
// Path: bench → [load-process] → load/main. Touches: processes.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { BenchFailure } from "./failure.ts";
import { type Figures, FLOODING, type FloodJob, type Job } from "./job.ts";

const MAIN = join(import.meta.dirname, "load/main.ts");
/** Beyond the seconds that it is asked to measure. */
const EXTRA_MS_MAX = 60_000;
const FLOOD_START_MS_MAX = 20_000;

/** @throws BenchFailure, with what it said, when it fails or takes too long. */
export async function runLoad(job: Job, signal: AbortSignal): Promise<Figures> {
  const seconds = "seconds" in job ? job.seconds + 3 * job.warmSeconds : 0;
  const load = new LoadProcess(job, signal);
  const line = await load.says((text) => text.endsWith("\n"), EXTRA_MS_MAX + seconds * 1_000);
  await load.stop();
  return JSON.parse(line);
}

/** Floods until it is stopped. */
export async function startFlood(job: FloodJob, signal: AbortSignal): Promise<LoadProcess> {
  const load = new LoadProcess(job, signal);
  await load.says((text) => text.startsWith(FLOODING), FLOOD_START_MS_MAX);
  return load;
}

export class LoadProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #output = "";
  #errors = "";

  constructor(job: Job, signal: AbortSignal) {
    const command = [process.execPath, MAIN, JSON.stringify(job)];
    // Who measures how late things are must not wait for a core that a flood fills.
    const asked = job.kind === "flood" ? ["nice", "-n", "19", ...command] : command;
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...asked], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
      signal,
    });
    child.on("error", (fault) => {
      this.#errors ||= fault.message;
    });
    child.stdout.setEncoding("utf8").on("data", (text) => {
      this.#output += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text) => {
      this.#errors += text;
    });
    this.#child = child;
    this.#ended = once(child, "close").catch(() => {});
  }

  /** Resolves with the output once it is as it should be. */
  async says(isIt: (output: string) => boolean, msMax: number): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    const timeIsUp = new Promise((resolve) => {
      timer = setTimeout(resolve, msMax);
    });
    const said = new Promise((resolve) => {
      this.#child.stdout?.on("data", () => isIt(this.#output) && resolve(undefined));
    });
    await Promise.race([said, this.#ended, timeIsUp]);
    clearTimeout(timer);
    if (isIt(this.#output)) return this.#output;
    await this.stop();
    throw new BenchFailure(this.#errors.trim() || "the load took too long");
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}

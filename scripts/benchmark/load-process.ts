// load-process: runs a job in a process of its own, so that its load does not meet our own work.
// Path: bench → [load-process] → load/main. Touches: processes.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { BenchFailure } from "./failure.ts";
import { type Figures, type Job, RUNNING } from "./job.ts";

const MAIN = join(import.meta.dirname, "load/main.ts");
/** Beyond the seconds that it is asked to measure. */
const EXTRA_MS_MAX = 60_000;
const START_MS_MAX = 20_000;
/** A broker that is slower than this with messages that are counted does not get to its end. */
const MESSAGES_PER_SECOND_LEAST = 1_000;

/** @throws BenchFailure, with what it said, when it fails or takes too long. */
export async function runLoad(job: Job, signal: AbortSignal): Promise<Figures> {
  return new LoadProcess(job, signal).figures(EXTRA_MS_MAX + secondsOf(job) * 1_000);
}

/** Resolves when the load says that it runs; it goes on until it is done, or is stopped. */
export async function startLoad(job: Job, signal: AbortSignal): Promise<LoadProcess> {
  const load = new LoadProcess(job, signal);
  await load.says((text) => text.startsWith(RUNNING), START_MS_MAX);
  return load;
}

/** For how long it may be expected to run. */
function secondsOf(job: Job): number {
  if ("messages" in job) return job.messages / MESSAGES_PER_SECOND_LEAST;
  return "seconds" in job ? job.seconds + 3 * job.warmSeconds : 0;
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

  /** What it found, which ends it; @throws BenchFailure when it fails or takes too long. */
  async figures(msMax: number): Promise<Figures> {
    const text = await this.says((output) => output.endsWith("}\n"), msMax);
    await this.stop();
    return JSON.parse(text.slice(text.indexOf("{")));
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}

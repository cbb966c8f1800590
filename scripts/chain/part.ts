// part: one process of a chain, kept running as systemd would.
// Path: chain → [part] → process. Touches: a process, its log file.

import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, closeSync, openSync, readFileSync, statSync } from "node:fs";
import { ChainFailure } from "./failure.ts";
import { becomes } from "./ready.ts";

export interface PartPlan {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly logFile: string;
  /** Where others reach it, for people. */
  readonly address: string;
  /** Does it do what it is there for? Gets what it logged since it was started. */
  readonly isReady: (logged: string) => Promise<boolean>;
  /** Once the process has ended. */
  readonly onExit?: () => void;
}

/** Who wants to know of it. */
export interface PartWatch {
  /** A line for people: it died, it is back. */
  say(line: string): void;
  started(name: string, pid: number): void;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export const PART_LIMITS = {
  readyMsMax: 20_000,
  /** Sluice's processes promise to stop within 10 s. */
  stopMsMax: 12_000,
  restartMs: 1_000,
  tailLines: 15,
} as const;

type Mode = "stopped" | "starting" | "running" | "waiting";

/**
 * stopped → starting by start; → running once it is ready, → stopped when it dies before that.
 * running → waiting when it dies later, and back to running a second after; any → stopped by stop.
 * Only #setMode writes #mode.
 */
export class Part {
  readonly name: string;
  readonly logFile: string;
  readonly address: string;
  readonly #plan: PartPlan;
  readonly #watch: PartWatch;
  #mode: Mode = "stopped";
  #child: ChildProcess | undefined;
  #exit: Exit | undefined;
  #exited: Promise<Exit> | undefined;
  #restartTimer: NodeJS.Timeout | undefined;
  #restartCount = 0;
  /** A signal that ends it is on its way: what it still answers says nothing. */
  #isDoomed = false;
  #logFrom = 0;

  constructor(plan: PartPlan, watch: PartWatch) {
    this.#plan = plan;
    this.#watch = watch;
    this.name = plan.name;
    this.logFile = plan.logFile;
    this.address = plan.address;
  }

  /** The process id while the process runs. */
  get pid(): number | undefined {
    return this.#hasProcess ? this.#child?.pid : undefined;
  }

  get #hasProcess(): boolean {
    return this.#mode === "starting" || this.#mode === "running";
  }

  /** How often it was started again because it had died. */
  get restartCount(): number {
    return this.#restartCount;
  }

  /**
   * Starts the process and waits until it does its work.
   * @throws ChainFailure, with the end of its log, when it ends or takes too long; it is down then.
   */
  async start(): Promise<void> {
    if (this.#mode !== "stopped") return this.ready();
    this.#setMode("starting");
    this.#spawn();
    const hasEnded = () => this.#mode !== "starting";
    const isReady = async () => hasEnded() || (await this.#plan.isReady(this.logged()));
    const inTime = await becomes(isReady, PART_LIMITS.readyMsMax);
    if (inTime && !hasEnded()) return this.#setMode("running");
    const how = hasEnded() ? `ended with ${describe(this.#exit)}` : "took too long";
    await this.stop();
    throw this.#failure(`${how} before it was ready`);
  }

  /** Resolves when it does its work, after a death too; @throws ChainFailure when not in time. */
  async ready(msMax: number = PART_LIMITS.readyMsMax): Promise<void> {
    const isReady = async () =>
      this.#hasProcess && !this.#isDoomed && (await this.#plan.isReady(this.logged()));
    if (await becomes(isReady, msMax)) return;
    throw this.#failure(`is not ready after ${msMax / 1_000} s`);
  }

  /** Sends a signal, SIGKILL unless told; a part that dies of it is started again after 1 s. */
  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    if (!this.#hasProcess) return;
    this.#isDoomed ||= signal === "SIGKILL" || signal === "SIGTERM";
    this.#child?.kill(signal);
  }

  /** Ends the process and leaves it down; SIGKILL follows when it takes longer than it may. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Exit | undefined> {
    clearTimeout(this.#restartTimer);
    const child = this.#hasProcess ? this.#child : undefined;
    this.#setMode("stopped");
    if (!child) return this.#exit;
    child.kill(signal);
    // One that a test has frozen must see the signal, too.
    child.kill("SIGCONT");
    const timer = setTimeout(() => child.kill("SIGKILL"), PART_LIMITS.stopMsMax);
    const exit = await this.#exited;
    clearTimeout(timer);
    return exit;
  }

  /** How the process that runs now ends; how the last one did when none runs. */
  async waitForExit(): Promise<Exit | undefined> {
    return this.#hasProcess ? this.#exited : this.#exit;
  }

  /** What it logged since it was last started. */
  logged(): string {
    return readLog(this.logFile).subarray(this.#logFrom).toString("utf8");
  }

  /** The last lines of its log. */
  tail(lines: number = PART_LIMITS.tailLines): string {
    return readLog(this.logFile).toString("utf8").trimEnd().split("\n").slice(-lines).join("\n");
  }

  #spawn(): void {
    const { command, args, env } = this.#plan;
    const log = openSync(this.logFile, "a");
    this.#logFrom = statSync(this.logFile).size;
    // Killed with us, should we be killed: nothing of a chain outlives it (prctl(2)).
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", command, ...args], {
      env: { ...cleanEnvironment(), ...env },
      stdio: ["ignore", log, log],
      // A session of its own: Ctrl-C in the terminal is for us, who end the parts in order.
      detached: true,
    });
    closeSync(log);
    this.#isDoomed = false;
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => resolve(this.#ended({ code, signal })));
      child.once("error", () => resolve(this.#ended({ code: 127, signal: null })));
    });
    if (child.pid !== undefined) this.#watch.started(this.name, child.pid);
  }

  #ended(exit: Exit): Exit {
    this.#exit = exit;
    this.#plan.onExit?.();
    if (this.#mode === "starting") this.#setMode("stopped");
    if (this.#mode !== "running") return exit;
    this.#setMode("waiting");
    this.#note(`${this.name} ended with ${describe(exit)}; it starts again in 1 s`);
    this.#restartTimer = setTimeout(() => {
      this.#restartCount += 1;
      this.#setMode("running");
      this.#spawn();
      this.#note(`${this.name} started again, pid ${this.pid}`);
    }, PART_LIMITS.restartMs);
    return exit;
  }

  #setMode(next: Mode): void {
    this.#mode = next;
  }

  #note(line: string): void {
    appendFileSync(this.logFile, `chain: ${line}\n`);
    this.#watch.say(line);
  }

  #failure(what: string): ChainFailure {
    return new ChainFailure(`${this.name} ${what}. The end of ${this.logFile}:\n${this.tail()}`);
  }
}

/**
 * Without what parts must not take over: systemd's notices to whoever started us, and the test
 * runner's. With the folder where Debian keeps haproxy, and an ordinary user's PATH does not lead.
 */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const { NOTIFY_SOCKET: _, JOURNAL_STREAM: __, NODE_TEST_CONTEXT: ___, ...rest } = process.env;
  return { ...rest, PATH: `${process.env.PATH}:/usr/sbin` };
}

function describe(exit: Exit | undefined): string {
  if (!exit) return "no process";
  return exit.signal ?? `exit code ${exit.code}`;
}

function readLog(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0);
  }
}

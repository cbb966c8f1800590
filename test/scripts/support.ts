// support: runs scripts/chain/main.ts as scripts/start does, and watches what it says.
// Path: start.test. Touches: processes, temporary folders.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { TestContext } from "node:test";
import { freePorts, type Ports } from "../../scripts/chain/ports.ts";
import { becomes } from "../../scripts/chain/ready.ts";

export const ROOT = resolve(import.meta.dirname, "../..");
const MAIN = join(ROOT, "scripts/chain/main.ts");

/** A start that does what it is to do takes a fraction of this. */
const MS_MAX = 40_000;

export async function temporaryFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "sluice-start-"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** One run of main.ts, its output and how it ended. */
export class Run {
  output = "";
  readonly pid: number;
  readonly #child: ChildProcess;
  #isOver = false;

  /** Ends with its test, even when that fails, or is killed itself. */
  constructor(test: TestContext, args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    const command = ["--pdeathsig", "KILL", "--", process.execPath, MAIN, ...args];
    const child = spawn("setpriv", command, {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        this.output += text;
      });
    }
    this.#child = child;
    this.pid = child.pid ?? 0;
    child.once("close", () => {
      this.#isOver = true;
    });
    test.after(() => child.kill("SIGKILL"));
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** The exit code, once it has ended and all of its output is there. */
  async ends(): Promise<number | null> {
    if (await becomes(async () => this.#isOver, MS_MAX)) return this.#child.exitCode;
    throw new Error(`does not end, and has said:\n${this.output}`);
  }

  /** Waits until the output matches. */
  async says(pattern: RegExp): Promise<void> {
    await becomes(async () => pattern.test(this.output) || this.#isOver, MS_MAX);
    if (pattern.test(this.output)) return;
    throw new Error(`does not say ${pattern}, but:\n${this.output}`);
  }
}

/** Options of a chain from the sources, in its own folder, on free ports. */
export async function ownPlace(folder: string): Promise<{ args: string[]; ports: Ports }> {
  const ports = await freePorts();
  const args = ["--sources", "--folder", folder, "--port-base", String(ports.gateway)];
  return { args, ports };
}

/** The processes that the chain in `folder` consists of. */
export function partPids(folder: string): number[] {
  const { parts } = JSON.parse(readFileSync(join(folder, "chain.json"), "utf8"));
  return parts.map((part: { pid: number }) => part.pid);
}

export function isRunning(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return false;
  return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
}

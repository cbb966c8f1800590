// sluice-command: runs `sluice` as an operator does: as a process, with pipes.
// Path: test. Touches: child processes.

import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

export const MAIN = fileURLToPath(new URL("../../../broker/cli/main.ts", import.meta.url));
const WAIT_MS_MAX = 20_000;

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A `sluice` that runs, and all that it said so far. */
export class Sluice {
  readonly process: ChildProcessWithoutNullStreams;
  stdout = "";
  stderr = "";
  readonly #closed: Promise<[number | null]>;

  constructor(t: TestContext, ...args: string[]) {
    this.process = spawn(process.execPath, [MAIN, ...args], { timeout: WAIT_MS_MAX });
    this.process.stdout.on("data", (chunk) => {
      this.stdout += chunk;
    });
    this.process.stderr.on("data", (chunk) => {
      this.stderr += chunk;
    });
    this.process.stdin.on("error", () => {});
    this.#closed = once(this.process, "close") as Promise<[number | null]>;
    t.after(() => this.process.kill("SIGKILL"));
  }

  /** Waits until it said, on either stream, what `pattern` looks for. */
  async said(stream: "stdout" | "stderr", pattern: RegExp): Promise<void> {
    const abort = AbortSignal.timeout(WAIT_MS_MAX);
    while (!pattern.test(this[stream])) {
      await once(this.process[stream], "data", { signal: abort }).catch(() => {
        assert.fail(`waited for ${pattern} in vain; heard ${this.stdout}${this.stderr}`);
      });
    }
  }

  async ended(): Promise<Result> {
    const [code] = await this.#closed;
    return { code, stdout: this.stdout, stderr: this.stderr };
  }
}

/** Runs it to its end. */
export function sluice(t: TestContext, ...args: string[]): Promise<Result> {
  const running = new Sluice(t, ...args);
  running.process.stdin.end();
  return running.ended();
}

/** Runs it to its end with `input` on its stdin. */
export function sluiceWith(t: TestContext, input: string, ...args: string[]): Promise<Result> {
  const running = new Sluice(t, ...args);
  running.process.stdin.end(input);
  return running.ended();
}

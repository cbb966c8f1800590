// peer-process: a foreign program at the other end of a link: what it says, what it is told.
// Path: peers → [peer-process]. Touches: one process.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import type { TestContext } from "node:test";
import { waitFor } from "../../support/wait-for.ts";

/** A peer that takes longer to say its first line will never do so. */
const FIRST_LINE_MS_MAX = 20_000;

export class PeerProcess {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #name: string;
  #output = "";
  #errors = "";

  private constructor(name: string, command: readonly string[]) {
    this.#name = name;
    // Ends with its test, even when that is killed.
    this.#child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
    });
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#errors += text;
    });
    // What it is told when it has gone is of no interest.
    this.#child.stdin.on("error", () => {});
  }

  /** A process that runs until `end`, or until the test ends. */
  static begin(
    t: Pick<TestContext, "after">,
    name: string,
    command: readonly string[],
  ): PeerProcess {
    const peer = new PeerProcess(name, command);
    t.after(() => peer.end());
    return peer;
  }

  /** As `begin`; resolves when it has said its first line. */
  static async start(
    t: Pick<TestContext, "after">,
    name: string,
    command: readonly string[],
  ): Promise<PeerProcess> {
    const peer = PeerProcess.begin(t, name, command);
    await waitFor(
      `${name} says its first line`,
      () => peer.lines.length > 0 || peer.#failure(),
      FIRST_LINE_MS_MAX,
    );
    if (peer.lines.length === 0) throw peer.#failure();
    return peer;
  }

  /** What it said on its standard output, in whole lines. */
  get lines(): readonly string[] {
    return this.#output.split("\n").slice(0, -1);
  }

  get firstLine(): string {
    return this.lines[0] ?? "";
  }

  /** What it said on its standard error. */
  get errors(): string {
    return this.#errors;
  }

  /** Resolves with the first line that fits, once it was said. */
  async says(pattern: RegExp, mostMs?: number): Promise<string> {
    const find = () => this.lines.find((line) => pattern.test(line)) ?? this.#failure();
    const found = await waitFor(`${this.#name} says ${pattern}`, find, mostMs);
    if (found instanceof Error) throw found;
    return found;
  }

  /** How often it said this very line. */
  count(line: string): number {
    return this.lines.filter((said) => said === line).length;
  }

  /** Resolves when it said this very line so often. */
  async saysTimes(line: string, times: number): Promise<void> {
    await waitFor(`${this.#name} says ${line} ${times} times`, () => this.count(line) >= times);
  }

  tell(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async end(): Promise<void> {
    if (this.isOver) return;
    this.#child.kill("SIGKILL");
    await once(this.#child, "close");
  }

  get isOver(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  #failure(): Error | undefined {
    if (!this.isOver || this.#child.signalCode !== null) return undefined;
    return new Error(`${this.#name} ended with code ${this.#child.exitCode}: ${this.#errors}`);
  }
}

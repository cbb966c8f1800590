// serial-ports: serial ports whose devices speak numbered lines at an even pace.
// Path: bridge-scenarios → [serial-ports] → serial-ports.c in a process. Touches: cc, pseudo-terminals.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { BenchFailure } from "../failure.ts";

const SOURCE = join(import.meta.dirname, "serial-ports.c");

export class SerialPorts {
  /** Their device nodes. */
  readonly paths: readonly string[];
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(
    child: ChildProcess,
    paths: readonly string[],
    answers: AsyncIterator<string>,
  ) {
    this.#child = child;
    this.paths = paths;
    this.#answers = answers;
  }

  /** `count` ports whose lines have `lineBytes` with their line feed, 32 to 4096. */
  static async open(folder: string, count: number, lineBytes: number): Promise<SerialPorts> {
    const program = join(folder, "serial-ports");
    execFileSync("cc", ["-O2", "-Wall", "-o", program, SOURCE]);
    const args = ["--pdeathsig", "KILL", "--", program, String(count), String(lineBytes)];
    const child = spawn("setpriv", args, { stdio: ["pipe", "pipe", "inherit"], detached: true });
    const answers = createInterface(child.stdout)[Symbol.asyncIterator]();
    const paths: string[] = [];
    while (paths.length < count) paths.push(await nextOf(answers));
    return new SerialPorts(child, paths, answers);
  }

  /** So many lines from each; resolves with how many had to wait for their reader. */
  async speak(lines: number, perSecond: number): Promise<number> {
    this.#child.stdin?.write(`${lines} ${perSecond}\n`);
    const [, held] = (await nextOf(this.#answers)).split(" ");
    return Number(held);
  }

  async close(): Promise<void> {
    const ended = once(this.#child, "close");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

async function nextOf(answers: AsyncIterator<string>): Promise<string> {
  const { done, value } = await answers.next();
  if (done) throw new BenchFailure("the serial ports ended");
  return value;
}

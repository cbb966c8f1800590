// run: a programmer as a child process: its progress, its end, its last words.
// Path: flasher → [run] → avrdude, esptool. Touches: a child process, the clock.

import { type ChildProcess, spawn } from "node:child_process";
import { reasonOf, SluiceError } from "#contract/errors";
import { LastWords, type Progress, ProgressReader } from "./progress.ts";

export interface Run {
  /** Absolute, so that nothing is searched. */
  readonly program: string;
  readonly args: readonly string[];
  /** The working folder, which is also the program's home. */
  readonly folder: string;
  readonly searchPath: string;
  readonly secondsMax: number;
  /** Ends the program; the reason of the abort is told. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
}

const LIMITS = {
  /** After SIGTERM; then SIGKILL. Less than a service has for its stop. */
  endMsMax: 2_000,
  /** For its last words, when it is gone and somebody whom it started still has its output. */
  lastWordsMsMax: 1_000,
  /** Read of what it prints before a pause: a program that prints without end has to wait. */
  readCharactersMax: 16_384,
  pauseMs: 100,
} as const;

/** Resolves when it ended with 0; @throws SluiceError FLASH_FAILED with the program's last words. */
export async function runProgrammer(run: Run): Promise<void> {
  const child = spawn(run.program, [...run.args], {
    cwd: run.folder,
    // Neither secrets nor settings of ours, nor files of whoever has our home.
    env: { PATH: run.searchPath, HOME: run.folder, LC_ALL: "C.UTF-8", PYTHONUNBUFFERED: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    shell: false,
    // A group of its own: a signal for us ends it in order, not beside us.
    detached: true,
  });
  const words = new LastWords();
  for (const stream of [child.stdout, child.stderr]) {
    const reader = new ProgressReader(words);
    stream.setEncoding("utf8");
    let read = 0;
    stream.on("data", (text: string) => {
      reader.push(text).forEach(run.onProgress);
      read += text.length;
      if (read < LIMITS.readCharactersMax) return;
      read = 0;
      stream.pause();
      setTimeout(() => stream.resume(), LIMITS.pauseMs);
    });
    stream.on("end", () => reader.end());
  }
  const why = await ended(child, run);
  if (why === undefined) return;
  const said = words.text === "" ? "" : `: ${words.text}`;
  throw new SluiceError("FLASH_FAILED", `${why}${said}`);
}

/** Resolves when it is gone and all that it said was read: undefined, or why it is no success. */
async function ended(child: ChildProcess, { args, ...run }: Run): Promise<string | undefined> {
  const name = run.program.slice(run.program.lastIndexOf("/") + 1);
  let cut: string | undefined;
  let kill: NodeJS.Timeout | undefined;
  let left: NodeJS.Timeout | undefined;
  const end = (why: string) => {
    cut ??= why;
    signalGroup(child, "SIGTERM");
    kill ??= setTimeout(() => signalGroup(child, "SIGKILL"), LIMITS.endMsMax);
  };
  const late = setTimeout(
    () => end(`${name} took longer than flash_seconds_max = ${run.secondsMax}`),
    run.secondsMax * 1_000,
  );
  const onAbort = () => end(`${name} was ended: ${reasonOf(run.signal.reason)}`);
  run.signal.addEventListener("abort", onAbort, { once: true });
  if (run.signal.aborted) onAbort();
  const outcome = await new Promise<string | undefined>((resolve) => {
    child.once("error", (cause) => resolve(`${name} cannot be run: ${reasonOf(cause)}`));
    child.once("exit", () => {
      // Whoever it started would still have the port.
      signalGroup(child, "SIGKILL");
      left = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, LIMITS.lastWordsMsMax);
    });
    child.once("close", (code, signal) => {
      if (code === 0) resolve(undefined);
      else resolve(`${name} ended with ${signal ?? `code ${code}`}`);
    });
  });
  clearTimeout(late);
  clearTimeout(kill);
  clearTimeout(left);
  run.signal.removeEventListener("abort", onAbort);
  return cut ?? outcome;
}

/** The program and whatever it started. */
function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (cause) {
    // It ended meanwhile.
    if ((cause as NodeJS.ErrnoException).code !== "ESRCH") throw cause;
  }
}

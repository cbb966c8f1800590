// run-file: who runs a chain in a folder, so that a second one keeps out, and a killed one is seen.
// Path: chain, main → [run-file]. Touches: chain.json in the chain's folder, /proc, processes that it names.

import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { ChainFailure } from "./failure.ts";
import type { ChainFolder } from "./folder.ts";

/** A process that is told apart from a later one with the same number by when it began. */
interface ProcessMark {
  readonly name: string;
  readonly pid: number;
  readonly ticks: string;
}

interface RunState {
  readonly owner: ProcessMark;
  readonly parts: readonly ProcessMark[];
}

export class RunFile {
  readonly #folder: ChainFolder;
  #state: RunState;

  private constructor(folder: ChainFolder) {
    this.#folder = folder;
    this.#state = { owner: markOf("scripts/start", process.pid), parts: [] };
  }

  /**
   * Makes the folder ours; says which processes of a chain that was killed were still there, and
   * ends them.
   * @throws ChainFailure when a chain runs here.
   */
  static claim(folder: ChainFolder, say: (line: string) => void): RunFile {
    const pid = runningPid(folder);
    if (pid !== undefined) {
      throw new ChainFailure(
        `it runs already in ${folder.path} (pid ${pid}). To stop it: ${folder.startCommand} stop`,
      );
    }
    for (const { name, pid } of readState(folder)?.parts.filter(isAlive) ?? []) {
      say(`${name} (pid ${pid}) was left over from a start that was killed; it is ended now`);
      process.kill(pid, "SIGKILL");
    }
    rmSync(folder.runFile, { force: true });
    const file = new RunFile(folder);
    file.#create();
    return file;
  }

  /** Remembers the process that a part is now. */
  record(name: string, pid: number): void {
    const others = this.#state.parts.filter((part) => part.name !== name);
    this.#state = { ...this.#state, parts: [...others, markOf(name, pid)] };
    const next = `${this.#folder.runFile}.new`;
    writeFileSync(next, JSON.stringify(this.#state, null, 2));
    renameSync(next, this.#folder.runFile);
  }

  release(): void {
    rmSync(this.#folder.runFile, { force: true });
  }

  #create(): void {
    try {
      writeFileSync(this.#folder.runFile, JSON.stringify(this.#state, null, 2), { flag: "wx" });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
      throw new ChainFailure(`another start was quicker in ${this.#folder.path}`, { cause });
    }
  }
}

/** The process that runs a chain in the folder; undefined when none does. */
export function runningPid(folder: ChainFolder): number | undefined {
  const owner = readState(folder)?.owner;
  return owner && isAlive(owner) ? owner.pid : undefined;
}

function readState(folder: ChainFolder): RunState | undefined {
  try {
    return JSON.parse(readFileSync(folder.runFile, "utf8")) as RunState;
  } catch {
    // None, or one that was cut off while it was written: nothing to go by.
    return undefined;
  }
}

function markOf(name: string, pid: number): ProcessMark {
  return { name, pid, ticks: ticksOf(pid) ?? "" };
}

function isAlive({ pid, ticks }: ProcessMark): boolean {
  return ticks !== "" && ticksOf(pid) === ticks;
}

/** When a process began, in clock ticks since boot: field 22 of proc(5)'s stat; none for a zombie. */
function ticksOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // Field 2 is the program's name in parentheses, and may hold spaces.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

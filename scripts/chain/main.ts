// main: scripts/start: runs the whole chain until it is stopped, or asks the one that runs.
// Path: scripts/start → [main] → chain. Touches: the terminal, what the chain touches.

import { setTimeout as sleep } from "node:timers/promises";
import { Chain } from "./chain.ts";
import { type Command, parseCommandLine, UsageFailure } from "./command-line.ts";
import { ask } from "./control.ts";
import { ChainFailure } from "./failure.ts";
import { ChainFolder } from "./folder.ts";
import { runningPid } from "./run-file.ts";
import { partLine } from "./screen.ts";
import { Session } from "./session.ts";

type Start = Extract<Command, { do: "start" }>;

const STOP_ASKED_MS_MAX = 60_000;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function start(command: Start): Promise<void> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => stop.abort());
  }
  const chain = await startChain(command, stop.signal);
  if (!chain) return;
  await new Session({ chain, stop, program: command.program, print }).run();
  await chain.stop();
  print("stopped");
}

async function startChain(command: Start, signal: AbortSignal): Promise<Chain | undefined> {
  try {
    return await Chain.start({
      ...command,
      signal,
      say: (line) => print(`-- ${line}`),
      onReady: (part) => print(partLine(part)),
    });
  } catch (fault) {
    // Called off while it started: all that there was is stopped.
    if (signal.aborted) return undefined;
    throw fault;
  }
}

async function askRunning(path: string, request: string): Promise<void> {
  const folder = new ChainFolder(path);
  const pid = runningPid(folder);
  print(await ask(folder, request));
  if (request !== "stop") return;
  const endAt = Date.now() + STOP_ASKED_MS_MAX;
  while (runningPid(folder) === pid && Date.now() < endAt) await sleep(50);
  if (runningPid(folder) === pid) throw new ChainFailure(`pid ${pid} still runs`);
  print("stopped");
}

async function main(): Promise<void> {
  try {
    const command = parseCommandLine(process.argv.slice(2));
    if (command.do === "start") await start(command);
    else await askRunning(command.folder, command.request);
  } catch (fault) {
    if (!(fault instanceof ChainFailure)) throw fault;
    process.stderr.write(`${fault.message}\n`);
    process.exitCode = fault instanceof UsageFailure ? 2 : 1;
  }
}

await main();

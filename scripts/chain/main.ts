// main: scripts/start: runs the whole chain until it is stopped, or asks the one that runs.
// Path: scripts/start → [main] → chain. Touches: the terminal, what the chain touches.

import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Chain } from "./chain.ts";
import { type Command, parseCommandLine, UsageFailure } from "./command-line.ts";
import { startConsumer } from "./consumer.ts";
import { ask, startControl } from "./control.ts";
import { ChainFailure } from "./failure.ts";
import { ChainFolder } from "./folder.ts";
import { NODE, programOf } from "./plans.ts";
import { runningPid } from "./run-file.ts";
import { commandsToTry, partLine, partState } from "./screen.ts";

type Start = Extract<Command, { do: "start" }>;

const STOP_ASKED_MS_MAX = 60_000;

const run = promisify(execFile);

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
  const session = new Session(chain, command, stop);
  await session.run();
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

/** What goes on while the chain runs: the consumer, the keys, other terminals' requests. */
class Session {
  readonly #chain: Chain;
  readonly #command: Start;
  readonly #stop: AbortController;
  #networkBack: NodeJS.Timeout | undefined;

  constructor(chain: Chain, command: Start, stop: AbortController) {
    this.#chain = chain;
    this.#command = command;
    this.#stop = stop;
  }

  /** Until it is to stop. */
  async run(): Promise<void> {
    const closeControl = await startControl(this.#chain.folder, (line) => this.#answer(line));
    print(`\n${commandsToTry(this.#chain, this.#command.program)}`);
    const endConsumer = this.#startConsumer();
    const releaseKeys = onKeys((key) => void this.#key(key));
    const stopped = new Promise((resolve) => {
      this.#stop.signal.addEventListener("abort", resolve, { once: true });
    });
    if (!this.#stop.signal.aborted) await stopped;
    print("\nstopping");
    clearTimeout(this.#networkBack);
    releaseKeys();
    closeControl();
    await endConsumer();
  }

  #startConsumer(): () => Promise<void> {
    const { urls, hasCloud } = this.#chain;
    return hasCloud
      ? startConsumer({
          ...{ url: urls.cloud, ca: this.#chain.certificates.ca },
          ...{ filter: "from/#", show: print },
        })
      : startConsumer({ url: urls.gateway, filter: "#", show: print });
  }

  async #key(key: string): Promise<void> {
    if (key === "q" || key === "\u0003") this.#stop.abort();
    if (key === "s") print(await this.#status());
    if (key === "n" && this.#chain.hasCloud) {
      const isOff = this.#chain.part("haproxy").pid === undefined;
      print(`-- ${await this.#network(!isOff).catch(messageOf)}`);
    }
  }

  async #answer(request: string): Promise<string> {
    const [verb, state, seconds] = request.split(" ");
    if (verb === "status") return this.#status();
    if (verb === "network") return this.#network(state === "off", Number(seconds ?? 0));
    if (verb === "stop") {
      this.#stop.abort();
      return "stopping";
    }
    throw new ChainFailure(`does not know "${request}"`);
  }

  async #network(off: boolean, seconds = 0): Promise<string> {
    clearTimeout(this.#networkBack);
    if (!off) {
      await this.#chain.networkOn();
      return "the network is back";
    }
    await this.#chain.networkOff();
    if (seconds > 0) {
      this.#networkBack = setTimeout(async () => {
        print(`-- ${await this.#network(false).catch(messageOf)}`);
      }, seconds * 1_000);
    }
    return `the network is pulled out (HAProxy is down)${seconds > 0 ? ` for ${seconds} s` : ""}`;
  }

  async #status(): Promise<string> {
    const states = this.#chain.parts.map(partState);
    if (this.#chain.hasCloud) states.push("", await this.#outbox());
    return states.join("\n");
  }

  async #outbox(): Promise<string> {
    const config = this.#chain.folder.settingsOf("gateway.toml");
    const sluice = programOf(this.#command.program, "sluice");
    try {
      return (await run(NODE, [sluice, "outbox", "--config", config])).stdout.trimEnd();
    } catch (fault) {
      const { stderr = "" } = fault as { stderr?: string };
      return `sluice outbox failed: ${stderr.trim().split("\n").at(-1)}`;
    }
  }
}

/** Calls `pressed` for each key where stdin is a terminal; returns what gives the terminal back. */
function onKeys(pressed: (key: string) => void): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => {};
  stdin.setRawMode(true).setEncoding("utf8").resume();
  stdin.on("data", (text) => {
    for (const key of String(text)) pressed(key);
  });
  return () => {
    stdin.setRawMode(false).pause();
  };
}

function messageOf(fault: unknown): string {
  return fault instanceof Error ? fault.message : String(fault);
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

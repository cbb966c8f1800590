// session: what goes on while a chain runs: the consumer, the keys, other terminals' requests.
// Path: main → [session] → chain. Touches: the terminal, the chain, `sluice outbox`.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import type { Chain } from "./chain.ts";
import { startConsumer } from "./consumer.ts";
import { startControl } from "./control.ts";
import { ChainFailure } from "./failure.ts";
import { NODE, programOf } from "./plans.ts";
import { commandsToTry, partState } from "./screen.ts";

const run = promisify(execFile);

export interface SessionOptions {
  readonly chain: Chain;
  /** Aborted by whatever asks for the end: a signal, a key, another terminal. */
  readonly stop: AbortController;
  readonly program: "bundles" | "sources";
  readonly print: (line: string) => void;
}

export class Session {
  readonly #chain: Chain;
  readonly #stop: AbortController;
  readonly #program: "bundles" | "sources";
  readonly #print: (line: string) => void;
  #networkBack: NodeJS.Timeout | undefined;

  constructor({ chain, stop, program, print }: SessionOptions) {
    this.#chain = chain;
    this.#stop = stop;
    this.#program = program;
    this.#print = print;
  }

  /** Until it is to stop. */
  async run(): Promise<void> {
    const closeControl = await startControl(this.#chain.folder, (line) => this.#answer(line));
    this.#print(`\n${commandsToTry(this.#chain, this.#program)}`);
    const endConsumer = this.#startConsumer();
    const releaseKeys = onKeys((key) => void this.#key(key));
    const stopped = new Promise((resolve) => {
      this.#stop.signal.addEventListener("abort", resolve, { once: true });
    });
    if (!this.#stop.signal.aborted) await stopped;
    this.#print("\nstopping");
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
          ...{ filter: "from/#", show: this.#print },
        })
      : startConsumer({ url: urls.gateway, filter: "#", show: this.#print });
  }

  async #key(key: string): Promise<void> {
    if (key === "q" || key === "\u0003") this.#stop.abort();
    if (key === "s") this.#print(await this.#status());
    if (key === "n" && this.#chain.hasCloud) {
      const isOff = this.#chain.part("haproxy").pid === undefined;
      this.#print(`-- ${await this.#network(!isOff).catch(messageOf)}`);
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
        this.#print(`-- ${await this.#network(false).catch(messageOf)}`);
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
    const sluice = programOf(this.#program, "sluice");
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
  if (!stdin.isTTY || !isForeground()) return () => {};
  stdin.setRawMode(true).setEncoding("utf8").resume();
  stdin.on("data", (text) => {
    for (const key of String(text)) pressed(key);
  });
  return () => {
    stdin.setRawMode(false).pause();
  };
}

/** In the background, the kernel would stop us for changing the terminal's mode (tcsetattr(3)). */
function isForeground(): boolean {
  const stat = readFileSync("/proc/self/stat", "utf8");
  // Behind the program's name in parentheses: state, parent, group, session, terminal, its group.
  const [, , group, , , terminalGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return group === terminalGroup;
}

function messageOf(fault: unknown): string {
  return fault instanceof Error ? fault.message : String(fault);
}

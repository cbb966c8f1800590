// bridge-process: what makes MQTT messages of serial ports: the firmware-bridge, or a mosquitto_pub a port.
// Path: bridge-scenarios → [bridge-process]. Touches: processes, its own folder.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "smol-toml";
import { cpuUs, rssBytes } from "../cost.ts";
import { BenchFailure } from "../failure.ts";
import type { Site } from "../scenario.ts";

const BUNDLE = join(import.meta.dirname, "../../../dist/firmware-bridge.cjs");
/** As the unit of systemd has them, and its environment. */
export const NODE_FLAGS = [
  "--max-old-space-size=96",
  "--max-semi-space-size=2",
  "--optimize-for-size",
];
export const ENVIRONMENT = { UV_THREADPOOL_SIZE: "16", MALLOC_ARENA_MAX: "2" };
const START_MS_MAX = 20_000;
const LOOK_MS = 2;

/** Processes that read serial ports, and what they cost together. */
export class BridgeProcess {
  readonly #children: readonly ChildProcess[];

  constructor(children: readonly ChildProcess[]) {
    this.#children = children;
  }

  get cpuUs(): number {
    return this.#pids.reduce((sum, pid) => sum + cpuUs(pid), 0);
  }

  get rssBytes(): number {
    return this.#pids.reduce((sum, pid) => sum + rssBytes(pid), 0);
  }

  async stop(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
  }

  get #pids(): number[] {
    return this.#children.flatMap(({ pid, exitCode, signalCode }) =>
      pid === undefined || exitCode !== null || signalCode !== null ? [] : [pid],
    );
  }
}

/** A mosquitto_pub for each port, which is how it is done without a gateway. */
export function startPublishers(site: Site, brokerPort: number, paths: readonly string[]) {
  const children = paths.map((path, index) => {
    const input = openSync(path, "r");
    const to = ["-p", String(brokerPort), "-q", "1", "-t", `serial/${index}/line`, "-l"];
    const child = launch(site, ["mosquitto_pub", ...to], input, "ignore");
    closeSync(input);
    return child;
  });
  return new BridgeProcess(children);
}

/** The firmware-bridge with a link a port; resolves when all of them are up. */
export async function startBridge(site: Site, brokerPort: number, paths: readonly string[]) {
  if (!existsSync(BUNDLE)) throw new BenchFailure(`${BUNDLE} is missing: npm run build`);
  mkdirSync(site.folder, { recursive: true });
  const file = join(site.folder, "bridge.toml");
  const logFile = join(site.folder, "bridge.log");
  writeFileSync(file, settingsOf(site.folder, brokerPort, paths));
  const log = openSync(logFile, "w");
  const command = [process.execPath, ...NODE_FLAGS, BUNDLE, "--config", file];
  const bridge = new BridgeProcess([launch(site, command, "ignore", log)]);
  closeSync(log);
  const endAtMs = performance.now() + START_MS_MAX;
  while (linksUp(logFile) < paths.length) {
    if (performance.now() > endAtMs) {
      await bridge.stop();
      throw new BenchFailure(
        `the links do not come up: ${readFileSync(logFile, "utf8").slice(-500)}`,
      );
    }
    await sleep(LOOK_MS);
  }
  return bridge;
}

function settingsOf(folder: string, brokerPort: number, paths: readonly string[]): string {
  return stringify({
    role: "gateway",
    name: "gw-bench",
    data: join(folder, "bridge-data"),
    bridge: { broker: `mqtt://127.0.0.1:${brokerPort}`, status: { address: "none" } },
    links: paths.map((path, index) => ({ path, device: String(index), driver: "lines" })),
  });
}

function linksUp(logFile: string): number {
  return readFileSync(logFile, "utf8").split('"to":"up"').length - 1;
}

function launch(
  { cores, folder, cacheFolder }: Site,
  command: readonly string[],
  input: number | "ignore",
  output: number | "ignore",
): ChildProcess {
  const { NOTIFY_SOCKET: _, NODE_TEST_CONTEXT: __, ...rest } = process.env;
  const pinned = cores ? ["taskset", "--cpu-list", String(cores.broker), ...command] : command;
  return spawn("setpriv", ["--pdeathsig", "KILL", "--", ...pinned], {
    cwd: folder,
    env: { ...rest, ...ENVIRONMENT, NODE_COMPILE_CACHE: cacheFolder },
    stdio: [input, output, output],
    detached: true,
  });
}

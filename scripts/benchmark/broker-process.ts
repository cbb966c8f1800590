// broker-process: one broker, from its start to its end.
// Path: bench → [broker-process] → brokers. Touches: a process, its own folder, loopback sockets.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freeRun } from "../chain/ports.ts";
import { type BrokerName, type BrokerPlan, planOf } from "./brokers.ts";
import { cpuUs } from "./cost.ts";
import { BenchFailure } from "./failure.ts";
import { connectPacket } from "./load/packets.ts";
import type { Setup } from "./scenario.ts";

const START_MS_MAX = 20_000;
const BETWEEN_MS = 2;
const PROBE_MS_MAX = 2_000;
/** Sluice promises to stop within 10 s. */
const STOP_MS_MAX = 12_000;

export interface StartOptions {
  readonly name: BrokerName;
  readonly folder: string;
  readonly setup: Setup;
  /** A free one unless told; the one after it is its own, too. */
  readonly port?: number;
  /** The cores that it may use, all unless told. */
  readonly cores?: readonly number[] | undefined;
  /** Of Node's compiled code, kept from one start to the next as on a gateway. */
  readonly cacheFolder: string;
  readonly signal: AbortSignal;
}

export class BrokerProcess {
  readonly port: number;
  readonly pid: number;
  /** CPU time from exec to the first CONNACK, in ms. */
  readonly startCpuMs: number;
  /** The same by the clock. */
  readonly startMs: number;
  readonly #child: ChildProcess;
  readonly #logFile: string;

  private constructor(
    child: ChildProcess,
    pid: number,
    port: number,
    logFile: string,
    startMs: number,
  ) {
    this.startCpuMs = cpuUs(pid) / 1e3;
    this.startMs = startMs;
    this.#child = child;
    this.#logFile = logFile;
    this.pid = pid;
    this.port = port;
  }

  /** @throws BenchFailure, with the end of its log, when it does not answer a CONNECT in time. */
  static async start(options: StartOptions): Promise<BrokerProcess> {
    const { name, folder, signal } = options;
    const port = options.port ?? (await freeRun(2));
    mkdirSync(folder, { recursive: true });
    const plan = planOf(name, { ...options, port });
    if (plan.file) writeFileSync(plan.file.path, plan.file.text);
    const logFile = join(folder, "log");
    const child = spawnBroker(plan, logFile, options);
    const { pid } = child;
    if (pid === undefined) throw new BenchFailure(`${name} could not be started`);
    const beganMs = performance.now();
    const endAtMs = beganMs + START_MS_MAX;
    while (!(await answers(port))) {
      if (performance.now() < endAtMs && isRunning(child) && !signal.aborted) {
        await sleep(BETWEEN_MS);
        continue;
      }
      await end(child, "SIGKILL");
      throw new BenchFailure(`${name} did not start; its log ends: ${tail(logFile)}`);
    }
    return new BrokerProcess(child, pid, port, logFile, performance.now() - beganMs);
  }

  get isRunning(): boolean {
    return isRunning(this.#child);
  }

  /** The last lines of what it logged. */
  tail(): string {
    return tail(this.#logFile);
  }

  /** SIGKILL follows when it takes longer than it may. */
  stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    return end(this.#child, signal);
  }
}

/** It dies with us (prctl(2)), and Ctrl-C in the terminal is for us alone. */
function spawnBroker(plan: BrokerPlan, logFile: string, options: StartOptions): ChildProcess {
  const { NOTIFY_SOCKET: _, NODE_TEST_CONTEXT: __, ...rest } = process.env;
  const { cores } = options;
  const command = [plan.command, ...plan.args];
  const pinned = cores ? ["taskset", "--cpu-list", cores.join(), ...command] : command;
  const log = openSync(logFile, "a");
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...pinned], {
    cwd: options.folder,
    env: { ...rest, NODE_COMPILE_CACHE: options.cacheFolder, ...plan.environment },
    stdio: ["ignore", log, log],
    detached: true,
  });
  closeSync(log);
  // Without a process there is no pid either, which is what is looked at.
  child.on("error", () => {});
  return child;
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.pid === undefined || !isRunning(child)) return;
  const ended = once(child, "exit");
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
  await ended;
  clearTimeout(timer);
}

/** Does it answer a CONNECT with a CONNACK that lets in? */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", timeout: PROBE_MS_MAX });
    const finish = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => socket.write(connectPacket("bench-probe")));
    socket.once("data", (bytes) => finish(bytes[0] === 0x20 && bytes[3] === 0));
    socket.once("error", () => finish(false));
    socket.once("timeout", () => finish(false));
    socket.once("close", () => finish(false));
  });
}

function tail(logFile: string): string {
  return readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-3).join("\n");
}

// watched-gateway: a gateway as a process, and what can be seen of it from outside.
// Path: tests of hostile input → [watched-gateway] → broker/main. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { ROOT } from "../../../scripts/chain/folder.ts";
import { accepts } from "../../../scripts/chain/ready.ts";
import type { ConnectOptions, Version } from "../../conformance/support/wire-build.ts";
import { WireClient } from "../../conformance/support/wire-client.ts";
import { freePlace, type Gateway, startGateway } from "../../journeys/support/gateway.ts";
import { waitFor } from "../../support/wait-for.ts";

const UNIT = readFileSync(join(ROOT, "systemd/sluice-broker.service"), "utf8");
/** The heap's bounds in the service, by which garbage is collected in time. */
const HEAP_BOUNDS = (UNIT.match(/--max-[\w-]+=\d+/g) ?? []).join(" ");

/** What the service may hold before the kernel ends it: MemoryMax, in bytes. */
export const MEMORY_BYTES_MAX = Number(/^MemoryMax=(\d+)M$/m.exec(UNIT)?.[1]) * 2 ** 20;

/** What a process that is about to end takes for it. */
const END_MS_MAX = 2_000;

const COLLECTED = /^collected (.*)$/gm;

/** Bytes that the process holds once its garbage is collected. */
export interface Memory {
  readonly rss: number;
  readonly heapUsed: number;
  readonly external: number;
}

export interface Watched extends Gateway {
  readonly port: number;
  /** A connection on which nothing was said. */
  open(version?: Version): Promise<WireClient>;
  /** A client that was accepted; 3.1.1 unless the options say another version. */
  connect(options?: ConnectOptions): Promise<WireClient>;
  /** A sample by its name and labels; without labels the sum over all of them; 0 where none is. */
  metric(name: string): Promise<number>;
  /** What it holds, after a collection of its garbage. */
  memory(): Promise<Memory>;
  /** The most that it ever held, in bytes: VmHWM of proc_pid_status(5). */
  peakBytes(): number;
  /** Fails when the process has ended, however it did. */
  assertAlive(): void;
  /** Lets a client in, and answers it. */
  assertAnswers(): Promise<void>;
  /** Lines of the log that tell of an error, and all that is no log line. */
  faults(): string[];
}

/** A gateway with the smallest settings and `more` over them, until the test ends. */
export async function watchedGateway(
  t: TestContext,
  more: Record<string, unknown> = {},
): Promise<Watched> {
  const place = await freePlace(t);
  const preload = join(import.meta.dirname, "collect-garbage.ts");
  const env = { NODE_OPTIONS: `--import=${preload} ${HEAP_BOUNDS}` };
  const gateway = startGateway(t, place, more, env);
  const port = place.mqttPort;
  const isUp = () => {
    if (gateway.child.exitCode !== null) throw new Error(`it ended: ${gateway.output()}`);
    return accepts(port);
  };
  await waitFor("the gateway to accept", isUp, 20_000);
  const metric = async (name: string) => {
    const answer = await fetch(`http://127.0.0.1:${place.statusPort}/metrics`);
    return sampleIn(await answer.text(), name);
  };
  return {
    ...gateway,
    port,
    open: (version) => WireClient.open(t, port, version),
    connect: (options) => WireClient.connect(t, port, options),
    metric,
    memory: () => collected(gateway),
    peakBytes: () => peakOf(gateway.child.pid),
    assertAlive: () => assertAlive(gateway),
    assertAnswers: async () => {
      try {
        await (await WireClient.connect(t, port)).ping();
      } catch (cause) {
        // Its connections break before it is known why.
        await Promise.race([gateway.exited, wait(END_MS_MAX)]);
        assertAlive(gateway);
        throw cause;
      }
    },
    faults: () => gateway.output().split("\n").filter(isFault),
  };
}

function assertAlive({ child, output }: Gateway): void {
  const { exitCode, signalCode } = child;
  const how = `it ended (${exitCode ?? signalCode}): ${output().slice(-1_000)}`;
  assert.ok(exitCode === null && signalCode === null, how);
}

async function collected({ child, output }: Gateway): Promise<Memory> {
  const told = () => [...output().matchAll(COLLECTED)];
  const before = told().length;
  child.kill("SIGUSR2");
  const [, text = ""] = await waitFor("a collection", () => told()[before], 10_000);
  return JSON.parse(text) as Memory;
}

function peakOf(pid = 0): number {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(text)?.[1]) * 1_024;
}

function sampleIn(text: string, name: string): number {
  const isWanted = (sample: string) => sample === name || sample.startsWith(`${name}{`);
  return text
    .split("\n")
    .map((line) => /^(\w+(?:\{.*\})?) (\S+)$/.exec(line))
    .filter((match) => match?.[1] !== undefined && isWanted(match[1]))
    .reduce((sum, match) => sum + Number(match?.[2]), 0);
}

function isFault(line: string): boolean {
  if (line === "" || line.startsWith("collected ")) return false;
  if (!line.startsWith("{")) return true;
  const { level } = JSON.parse(line) as { level: string };
  return level === "error" || level === "fatal";
}

// gateway: one gateway broker as a process of its own, with the smallest settings.
// Path: journeys → [gateway] → broker/main. Touches: a folder, two loopback ports, a process.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "smol-toml";
import type { StatusDocument } from "#contract/status";
import { NODE, programOf } from "../../../scripts/chain/plans.ts";
import { freeRun } from "../../../scripts/chain/ports.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

/** Of a test, or of a file of tests. */
type After = { after(finish: () => Promise<void>): void };

export interface Place {
  readonly folder: string;
  readonly mqttPort: number;
  readonly statusPort: number;
}

export async function freePlace(t: After): Promise<Place> {
  const base = await freeRun(2);
  return { folder: temporaryFolder(t), mqttPort: base, statusPort: base + 1 };
}

export interface Gateway {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  /** All that it wrote, stdout and stderr. */
  output(): string;
  /** undefined while nobody answers. */
  status(): Promise<StatusDocument | undefined>;
  /** /metrics, whole. */
  metrics(): Promise<string>;
}

/**
 * Starts it with `more` laid over the settings; it ends with the test. `within` is a command that
 * becomes the one behind it, such as env(1).
 */
export function startGateway(
  t: After,
  { folder, mqttPort, statusPort }: Place,
  more: Record<string, unknown> = {},
  env: Record<string, string> = {},
  within: readonly string[] = [],
): Gateway {
  const file = join(folder, "sluice.toml");
  const settings = {
    role: "gateway",
    name: "gw-001",
    data: join(folder, "data"),
    listeners: [{ protocol: "mqtt", address: `127.0.0.1:${mqttPort}` }],
    status: { address: `127.0.0.1:${statusPort}` },
    ...more,
  };
  writeFileSync(file, stringify(settings));
  const broker = [NODE, programOf("sources", "broker"), "--config", file];
  const [command = NODE, ...args] = [...within, ...broker];
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  const exited = once(child, "exit").then(([code]) => code as number | null);
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
  });
  const status = async () => {
    const answer = await fetch(`http://127.0.0.1:${statusPort}/status.json`).catch(() => undefined);
    return answer && ((await answer.json()) as StatusDocument);
  };
  const metrics = async () => (await fetch(`http://127.0.0.1:${statusPort}/metrics`)).text();
  return { child, exited, output: () => output, status, metrics };
}

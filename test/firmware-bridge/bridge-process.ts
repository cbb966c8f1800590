// bridge-process: the firmware-bridge as a process of its own, with settings of a test's choice.
// Path: tests → [bridge-process] → main. Touches: a child process, a temporary folder.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { temporaryFolder } from "../support/temporary-folder.ts";

export const MAIN = join(import.meta.dirname, "../../firmware-bridge/main.ts");
/** A process has to start first, on a machine that may be busy. */
export const START_MS_MAX = 20_000;

/** In the settings PORT stands for `port`, and DATA for a folder of this test alone. */
export class Bridge {
  readonly config: string;
  readonly port: string;
  readonly #env: NodeJS.ProcessEnv;
  #child: ReturnType<typeof spawn> | undefined;
  output = "";

  constructor(t: TestContext, settings: string, env: NodeJS.ProcessEnv = {}) {
    const folder = temporaryFolder(t);
    this.config = join(folder, "sluice.toml");
    this.port = join(folder, "port");
    this.#env = { ...process.env, ...env };
    writeFileSync(
      this.config,
      settings.replaceAll("PORT", this.port).replaceAll("DATA", join(folder, "data")),
    );
    t.after(() => this.end("SIGKILL"));
  }

  start(): void {
    const child = spawn(process.execPath, [MAIN, "--config", this.config], {
      stdio: ["ignore", "pipe", "pipe"],
      env: this.#env,
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk) => {
        this.output += chunk;
      });
    }
    this.#child = child;
  }

  /** Resolves with the exit code. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return null;
    child.kill(signal);
    await once(child, "close");
    return child.exitCode;
  }
}

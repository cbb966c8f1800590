// pty: a serial port to test with: a pseudo-terminal that can be unplugged.
// Path: test → [pty]. Touches: the system's pseudo-terminals, by script(1) of bsdutils.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { rename, symlink } from "node:fs/promises";
import type { TestContext } from "node:test";
import { waitFor } from "./wait-for.ts";

// Prints the name of the terminal that it is on, then keeps it open.
const HOLD_TERMINAL = "stty raw -echo; tty; exec sleep infinity";

export class Pty {
  readonly #script: ChildProcess;
  #received = Buffer.alloc(0);
  /** The device node. */
  readonly path: string;

  private constructor(script: ChildProcess, path: string) {
    this.#script = script;
    this.path = path;
    script.stdout?.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
    });
    // Bytes on their way when the terminal goes are of no interest.
    script.stdin?.on("error", () => {});
  }

  /** A port that is plugged in until `unplug`, or until the test ends. */
  static async open(t: Pick<TestContext, "after">): Promise<Pty> {
    const script = spawn("script", ["-qfc", HOLD_TERMINAL, "/dev/null"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    let name = "";
    for await (const chunk of script.stdout.iterator({ destroyOnReturn: false })) {
      name += chunk;
      if (name.endsWith("\n")) break;
    }
    assert.match(name, /^\/dev\/pts\/\d+\s$/);
    const pty = new Pty(script, name.trim());
    t.after(() => pty.unplug());
    return pty;
  }

  /** Makes, or turns, the symbolic link at `path` to this port, as udev does for /dev/serial. */
  async linkAs(path: string): Promise<void> {
    await symlink(this.path, `${path}.new`);
    await rename(`${path}.new`, path);
  }

  /** The device says this. False when it must wait for the port, as for streams. */
  write(bytes: string | Uint8Array): boolean {
    return this.#script.stdin?.write(bytes) ?? false;
  }

  /** All that the device was told. */
  get received(): Buffer {
    return this.#received;
  }

  /** `hear` gets what the device is told from now on, as it comes. */
  onTold(hear: (bytes: Buffer) => void): void {
    this.#script.stdout?.on("data", hear);
  }

  /** The device takes nothing until `resume`, and can still speak: XOFF. */
  stall(): void {
    execFileSync("stty", ["-F", this.path, "ixon"]);
    this.write("\x13");
  }

  resume(): void {
    this.write("\x11");
  }

  /** Resolves when the device was told all this, from the beginning. */
  async hears(expected: string): Promise<void> {
    await waitFor(`the device hears ${expected}`, () => {
      return this.#received.toString("latin1").startsWith(expected);
    });
  }

  /** Hangs the terminal up; resolves when it is gone. */
  async unplug(): Promise<void> {
    if (this.#script.exitCode !== null || this.#script.signalCode !== null) return;
    this.#script.kill("SIGKILL");
    await once(this.#script, "close");
  }
}

// outlet: a place of the machine in which a device is plugged, and out, and in again.
// Path: devices → [outlet] → pty. Touches: pseudo-terminals, one symbolic link.

import { rmSync } from "node:fs";
import type { TestContext } from "node:test";
import { Pty } from "../../support/pty.ts";

/** What sits on the outlet. */
export interface Plugged {
  /** In again, on a line on which nothing was said. */
  plugged(): void;
  unplugged(): void;
  hear(bytes: Buffer): void;
}

export class Outlet {
  readonly path: string;
  readonly #t: Pick<TestContext, "after">;
  #pty: Pty | undefined;
  #device: Plugged | undefined;

  constructor(t: Pick<TestContext, "after">, path: string) {
    this.#t = t;
    this.path = path;
  }

  use(device: Plugged): void {
    this.#device = device;
  }

  async plugIn(): Promise<void> {
    const pty = await Pty.open(this.#t);
    pty.onTold((bytes) => {
      if (this.#pty === pty) this.#device?.hear(bytes);
    });
    await pty.linkAs(this.path);
    this.#pty = pty;
    this.#device?.plugged();
  }

  /** As udev does: first the name, then the port. */
  async unplug(): Promise<void> {
    const pty = this.#pty;
    this.#pty = undefined;
    this.#device?.unplugged();
    rmSync(this.path, { force: true });
    await pty?.unplug();
  }

  write(bytes: string | Uint8Array): void {
    this.#pty?.write(bytes);
  }
}

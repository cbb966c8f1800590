// fake-usb: a tree as /sys and /dev show USB adapters, whose ports are real pseudo-terminals.
// Path: tests → [fake-usb]. Touches: a temporary folder.

import { mkdirSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { TestContext } from "node:test";
import { Pty } from "../../support/pty.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

export interface Adapter {
  /** The kernel's name of its port, as "ttyUSB0". */
  readonly tty: string;
  /** The socket that it is plugged into, as "1-1". */
  readonly socket: string;
  readonly vid?: string;
  readonly pid?: string;
  readonly serial?: string;
}

export class FakeUsb {
  readonly #t: TestContext;
  readonly #folder: string;

  constructor(t: TestContext) {
    this.#t = t;
    this.#folder = temporaryFolder(t);
    mkdirSync(this.#sys("class/tty"), { recursive: true });
    mkdirSync(this.#dev(""), { recursive: true });
    // There are always terminals that no USB adapter has.
    for (const name of ["tty0", "ttyS0"]) mkdirSync(this.#sys("class/tty", name));
  }

  get roots() {
    return { dev: this.#dev(""), sys: this.#sys("") };
  }

  /** As the settings name it. */
  byPath(socket: string): string {
    return this.#dev("serial/by-path", `pci-usb-0:${socket}:1.0-port0`);
  }

  byId(serial = ""): string {
    const name = ["usb-1a86_USB_Serial", serial].filter((it) => it !== "").join("_");
    return this.#dev("serial/by-id", `${name}-if00-port0`);
  }

  /** The kernel shows it, and udev names it; the newest of two that share a name has it. */
  async plug(adapter: Adapter): Promise<Pty> {
    const { tty, socket, vid = "1a86", pid = "7523", serial } = adapter;
    const pty = await Pty.open(this.#t);
    const usb = `devices/usb1/${socket}`;
    const leaf = `${usb}/${socket}:1.0/${tty}`;
    mkdirSync(this.#sys(leaf, "tty", tty), { recursive: true });
    const attributes = { idVendor: vid, idProduct: pid, product: "USB Serial", serial };
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined) writeFileSync(this.#sys(usb, name), `${value}\n`);
    }
    writeFileSync(this.#sys(usb, `${socket}:1.0`, "bInterfaceNumber"), "00\n");
    writeFileSync(this.#sys(leaf, "port_number"), "0\n");
    symlinkSync(`../../../${tty}`, this.#sys(leaf, "tty", tty, "device"));
    symlinkSync(`../../${leaf}/tty/${tty}`, this.#sys("class/tty", tty));
    symlinkSync(pty.path, this.#dev(tty));
    for (const name of [this.byPath(socket), this.byId(serial)]) {
      mkdirSync(join(name, ".."), { recursive: true });
      rmSync(name, { force: true });
      symlinkSync(`../../${tty}`, name);
    }
    return pty;
  }

  /** All names of it go; what another one shared is not given to that one yet. */
  async unplug({ tty, socket }: Adapter, pty: Pty): Promise<void> {
    rmSync(this.#sys("class/tty", tty));
    rmSync(this.#sys(`devices/usb1/${socket}`), { recursive: true });
    for (const kind of ["by-path", "by-id"]) {
      const folder = this.#dev("serial", kind);
      for (const name of readdirSync(folder)) {
        if (basename(readlinkSync(join(folder, name))) === tty) rmSync(join(folder, name));
      }
    }
    rmSync(this.#dev(tty));
    await pty.unplug();
  }

  /** As udev does after an event: the name points to this port from now on. */
  nameAs(name: string, tty: string): void {
    rmSync(name, { force: true });
    symlinkSync(`../../${tty}`, name);
  }

  #sys(...names: string[]): string {
    return join(this.#folder, "sys", ...names);
  }

  #dev(...names: string[]): string {
    return join(this.#folder, "dev", ...names);
  }
}

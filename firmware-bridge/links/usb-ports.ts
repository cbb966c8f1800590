// usb-ports: which serial ports hang on USB adapters, and what tells one from another.
// Path: place → [usb-ports]. Touches: /sys/class/tty, /dev/serial.

import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Where the kernel and udev show devices; a test has others. */
export interface Roots {
  readonly dev: string;
  readonly sys: string;
}

export const ROOTS: Roots = { dev: "/dev", sys: "/sys" };

/** One serial port of one USB adapter, as long as it is plugged in. */
export interface UsbPort {
  /** The device node that the kernel made, as /dev/ttyUSB0. */
  readonly node: string;
  readonly vid: string;
  readonly pid: string;
  /** "" where the adapter has none. */
  readonly serial: string;
  readonly interface: number | undefined;
  /** The same for two ports whose names in /dev/serial/by-id are the same. */
  readonly kind: string;
  /** The socket that it is plugged into. */
  readonly place: string;
  readonly byId: string | undefined;
  readonly byPath: string | undefined;
}

/** Consoles and the like, of which there are many and none is a USB adapter. */
const VIRTUAL = /^(?:tty\d*|console|ptmx|pty.*)$/;

/** All of them; the order is that of their nodes. */
export async function usbPorts(roots: Roots): Promise<UsbPort[]> {
  const folder = join(roots.sys, "class/tty");
  const names = (await list(folder)).filter((name) => !VIRTUAL.test(name)).toSorted();
  const top = await realpath(roots.sys).catch(() => roots.sys);
  const [byId, byPath] = await Promise.all([
    udevNames(roots, "by-id"),
    udevNames(roots, "by-path"),
  ]);
  const ports = await Promise.all(
    names.map(async (name): Promise<UsbPort[]> => {
      const device = await usbDevice(join(folder, name, "device"), top);
      const node = join(roots.dev, name);
      return device ? [{ ...device, node, byId: byId.get(name), byPath: byPath.get(name) }] : [];
    }),
  );
  return ports.flat();
}

type UsbDevice = Omit<UsbPort, "node" | "byId" | "byPath">;

/** From a tty's device up to the interface, and on to the adapter that has it. */
async function usbDevice(path: string, top: string): Promise<UsbDevice | undefined> {
  let at = await realpath(path).catch(() => undefined);
  if (at === undefined) return undefined;
  const port = await attribute(at, "port_number");
  let onInterface: string | undefined;
  let place = at;
  for (; at !== top && at !== dirname(at); at = dirname(at)) {
    const number = await attribute(at, "bInterfaceNumber");
    if (number !== undefined) {
      onInterface = number;
      place = at;
    }
    const vid = await attribute(at, "idVendor");
    if (vid === undefined) continue;
    const names = ["idProduct", "serial", "manufacturer", "product"];
    const [pid = "", serial = "", ...others] = await Promise.all(
      names.map((name) => attribute(at as string, name)),
    );
    return {
      vid: vid.toLowerCase(),
      pid: pid.toLowerCase(),
      serial,
      interface: onInterface === undefined ? undefined : Number.parseInt(onInterface, 16),
      kind: JSON.stringify([vid, pid, serial, ...others, onInterface, port]),
      place: `${place}#${port ?? ""}`,
    };
  }
  return undefined;
}

async function attribute(folder: string, name: string): Promise<string | undefined> {
  return readFile(join(folder, name), "utf8").then(
    (text) => text.trim(),
    () => undefined,
  );
}

/** The names that udev gave, by the kernel's name of the terminal that each points to. */
async function udevNames(roots: Roots, kind: "by-id" | "by-path"): Promise<Map<string, string>> {
  const folder = join(roots.dev, "serial", kind);
  const names = new Map<string, string>();
  for (const name of (await list(folder)).toSorted()) {
    const target = await readlink(join(folder, name)).catch(() => undefined);
    // Newer versions of udev give two names by path; the first is the one that older ones give.
    if (target !== undefined && !names.has(basename(target))) {
      names.set(basename(target), join(folder, name));
    }
  }
  return names;
}

async function list(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

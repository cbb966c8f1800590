// port-writer: gives a serial port bytes, and knows when they have left the machine.
// Path: port → [port-writer] → device. Touches: the port; the clock.

import { writeSync } from "node:fs";
import type { LinuxPortBinding } from "@serialport/bindings-cpp";
import { wait } from "#runtime/backoff";
import { unsentBytes } from "./ioctl.ts";

const BITS_PER_BYTE = 10;

/** Resolves when the kernel has them; rejects when the port is closed or gone. */
export async function writeAll(port: LinuxPortBinding, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    if (!port.isOpen) throw new Error("the port was closed");
    const count = writeNow(Number(port.fd), bytes.subarray(at));
    at += count;
    if (count === 0) await writable(port);
  }
}

/** 0 where there is no room: with O_NONBLOCK a write never waits (tty_write_lock in the kernel). */
function writeNow(fd: number, bytes: Uint8Array): number {
  try {
    return writeSync(fd, bytes);
  } catch (cause) {
    const { code = "" } = cause as NodeJS.ErrnoException;
    if (code === "EAGAIN" || code === "EINTR") return 0;
    throw cause;
  }
}

function writable(port: LinuxPortBinding): Promise<void> {
  return new Promise((resolve, reject) => {
    port.poller.once("writable", (fault: unknown) => (fault ? reject(fault) : resolve()));
  });
}

/**
 * Resolves when the kernel has sent all. By asking, since tcdrain(3) keeps one of the few threads
 * for as long as a device holds back.
 */
export async function allSent(port: LinuxPortBinding, baudRate: number): Promise<void> {
  for (;;) {
    if (!port.isOpen) throw new Error("closed before the bytes had left");
    const unsent = unsentBytes(Number(port.fd));
    if (unsent === 0) return;
    await wait(Math.max(1, Math.ceil((unsent * BITS_PER_BYTE * 1_000) / baudRate / 2)));
  }
}

// binding: serialport's own binding for Linux, with its known faults mended.
// Path: device node → [binding] → port. Touches: the port, by serialport.
//
// Three faults of @serialport/bindings-cpp 13.0.0, each with a test that fails without its mend:
// - A read of 0 bytes is tried again for ever, so a port that was hung up looks open, and costs a
//   core.
// - A write that has to wait makes the port deaf: it takes the place of the read that waits.
// - Once a write had to wait, the poller goes on asking for what nobody waits for, at the cost of
//   a core.

import { read } from "node:fs";
import { promisify } from "node:util";
import {
  LinuxBinding,
  type LinuxOpenOptions,
  type LinuxPortBinding,
} from "@serialport/bindings-cpp";
import { unixRead } from "@serialport/bindings-cpp/dist/unix-read.js";

/** Opens a port whose read fails when it is hung up, and does not get in the way of its write. */
export async function openBinding(options: LinuxOpenOptions): Promise<LinuxPortBinding> {
  const port = await LinuxBinding.open(options);
  port.read = (buffer, offset, length) =>
    unixRead({ binding: port, buffer, offset, length, fsReadAsync: readUnlessHungUp });
  mendPoller(port);
  return port;
}

const readFile = promisify(read);

/**
 * Reading 0 bytes from a terminal means that it was hung up (tty_ioctl(4)). With this code
 * serialport takes the port for gone.
 */
async function readUnlessHungUp(...args: Parameters<typeof readFile>) {
  const result = await readFile(...args);
  if (result.bytesRead === 0) throw Object.assign(new Error("hung up"), { code: "EBADF" });
  return result;
}

// The flags of the poller's events (EVENTS in its poller.js).
const READABLE = 0b01;
const WRITABLE = 0b10;

/** Makes the poller ask for what is waited for at that moment: no less, and no more. */
function mendPoller(port: LinuxPortBinding): void {
  const { poller } = port;
  const poll = poller.poll.bind(poller);
  poller.poll = (flags = 0) => poll(flags | awaited());
  const awaited = () =>
    (poller.listenerCount("readable") > 1 ? READABLE : 0) |
    (poller.listenerCount("writable") > 1 ? WRITABLE : 0);
  const askAnew = () =>
    process.nextTick(() => {
      if (!port.isOpen) return;
      if (awaited() === 0) poller.poller.stop();
      else poller.poll();
    });
  // These two are why a listener more than one is somebody who waits.
  poller.on("readable", askAnew);
  poller.on("writable", askAnew);
}

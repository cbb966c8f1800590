// binding: serialport's own binding for Linux, with its known faults mended.
// Path: device node → [binding] → port. Touches: the port, by serialport.
//
// Two faults of @serialport/bindings-cpp 13.0.0, each with a test that fails without its mend:
// - A write that has to wait makes the port deaf: it takes the place of the read that waits.
// - Once a write had to wait, the poller goes on asking for what nobody waits for, at the cost of
//   a core.
// A third one is why its read is not used at all, but port-reader.ts: a read of 0 bytes is tried
// again for ever, so a port that was hung up looks open, and costs a core.

import {
  LinuxBinding,
  type LinuxOpenOptions,
  type LinuxPortBinding,
} from "@serialport/bindings-cpp";

/** Opens a port that can be told to be gone at any time, and whose write does not make it deaf. */
export async function openBinding(options: LinuxOpenOptions): Promise<LinuxPortBinding> {
  const port = await LinuxBinding.open(options);
  mendPoller(port);
  return port;
}

// The flags of the poller's events (EVENTS in its poller.js).
const READABLE = 0b01;
const WRITABLE = 0b10;
/** Always asked for: the end of a port is told also while nobody reads. */
const DISCONNECT = 0b100;

/** Makes the poller ask for what is waited for at that moment: no less, and no more. */
function mendPoller(port: LinuxPortBinding): void {
  const { poller } = port;
  const poll = poller.poll.bind(poller);
  poller.poll = (flags = 0) => poll(flags | awaited());
  const awaited = () =>
    DISCONNECT |
    (poller.listenerCount("readable") > 1 ? READABLE : 0) |
    (poller.listenerCount("writable") > 1 ? WRITABLE : 0);
  const askAnew = () =>
    process.nextTick(() => {
      if (port.isOpen) poller.poll();
    });
  // These two are why a listener more than one is somebody who waits.
  poller.on("readable", askAnew);
  poller.on("writable", askAnew);
}

// usb-ports.test: what the look at USB adapters promises.
// Path: test. Touches: pseudo-terminals, a temporary folder that looks like /sys and /dev.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { test } from "node:test";
import { usbPorts } from "../../../firmware-bridge/links/usb-ports.ts";
import { FakeUsb } from "./fake-usb.ts";

test("finds less, and never fails, while what it looks at is taken away", async (t) => {
  for (let at = 0; at < 10; at += 1) {
    const usb = new FakeUsb(t);
    await usb.plug({ tty: "ttyUSB0", socket: "1-1" });
    const looks: Promise<unknown>[] = [];
    // Each look is at another step when the folder goes.
    for (let n = 0; n < 20; n += 1) {
      looks.push(usbPorts(usb.roots));
      await new Promise(setImmediate);
    }
    rmSync(usb.roots.sys, { recursive: true, force: true });
    await assert.doesNotReject(Promise.all(looks));
  }
});

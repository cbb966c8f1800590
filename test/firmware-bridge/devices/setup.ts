// setup: a bridge's devices against the broker's own MQTT part.
// Path: tests of devices → [setup] → devices, test-broker. Touches: loopback ports, temporary folders.

import type { TestContext } from "node:test";
import type { BridgeSettings, LinkSettings } from "#runtime/settings-links";
import { Devices } from "../../../firmware-bridge/devices/devices.ts";
import type { LinkHost } from "../../../firmware-bridge/devices/link-host.ts";
import type { CarryOut, Device } from "../../../firmware-bridge/driver.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TestBroker, type TestBrokerOptions } from "../../support/test-broker.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type CapturedLog, capturedLog } from "../captured-log.ts";
import { bridgeSettings, linkSettings } from "../link-settings.ts";

export const AVAILABILITY = "serial/box/availability";
export const done: CarryOut = async () => ({ state: "done" });

export interface Setup {
  readonly devices: Devices;
  readonly host: LinkHost;
  readonly device: Device;
  readonly captured: CapturedLog;
}

export interface Some {
  readonly link?: Partial<LinkSettings>;
  readonly data?: string;
}

/** A bridge with one link of one device, "box". */
export function setUp(t: TestContext, settings: Partial<BridgeSettings>, some: Some = {}): Setup {
  const captured = capturedLog();
  const devices = new Devices(
    { bridge: bridgeSettings(settings), data: some.data ?? temporaryFolder(t), name: "gw-001" },
    captured.log,
  );
  t.after(() => devices.stop());
  const host = devices.host(linkSettings({ device: "box", ...some.link, path: "/dev/box" }));
  return { devices, host, device: host.device("box"), captured };
}

/** … and its broker, which it has reached. */
export async function connected(
  t: TestContext,
  settings: Partial<BridgeSettings> = {},
  some: Some & { readonly options?: TestBrokerOptions } = {},
) {
  const broker = await TestBroker.start(t, some.options);
  const setup = setUp(t, { broker: broker.url, ...settings }, some);
  await waitFor("the device at the broker", () => broker.texts(AVAILABILITY).length > 0);
  return { broker, ...setup };
}

/** Publishes `from` to `to`, one after the other; tells how many had room so far. */
export function publishing(device: Device, from: number, to: number): () => number {
  let taken = 0;
  void (async () => {
    for (let n = from; n <= to; n += 1) {
      await device.publish({ channel: "line", payload: Buffer.from(String(n)) });
      taken += 1;
    }
  })();
  return () => taken;
}

export const upTo = (last: number) => Array.from({ length: last }, (_, index) => String(index + 1));
export const firsts = (texts: readonly string[]) => [...new Set(texts)];

/** What is not as the one before: what was not acknowledged comes again, and availability is corrected. */
export const changes = (texts: readonly string[]) =>
  texts.filter((it, index) => it !== texts[index - 1]);

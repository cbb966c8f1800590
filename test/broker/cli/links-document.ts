// links-document: what a firmware-bridge with seven links may say of them.
// Path: tests. Touches: nothing.

import type { DeviceStatus, LinkStatus, LinksDocument } from "#contract/links";

export const NOW = Date.UTC(2026, 10, 25, 20);

export const DEVICE: DeviceStatus = {
  device: "meter",
  online: true,
  why: null,
  sinceMs: NOW - 7_500_000,
  messages: 1_204,
  acknowledged: 1_200,
  refused: 1,
  droppedByPolicy: 2,
  droppedWithoutRoom: 4,
  unacknowledged: 1,
  commands: { accepted: 3, done: 2, failed: 1 },
};

export const LINK: LinkStatus = {
  link: "meter",
  driver: "modbus",
  state: "up",
  why: "/dev/ttyUSB0 is open",
  sinceMs: NOW - 7_500_000,
  path: "/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0",
  identity: "by-id usb-1a86_USB_Serial-if00-port0",
  bytesIn: 48_160,
  bytesOut: 9_632,
  frames: 1_204,
  faults: 2,
  opens: 1,
  disconnects: 0,
  errors: 1,
  overruns: null,
  dropped: 0,
  heldBackMs: 1_500,
  heardAtMs: NOW - 3_000,
  devices: [DEVICE],
};

const ABSENT: LinkStatus = {
  ...LINK,
  link: "boiler",
  driver: "lines",
  state: "absent",
  why: "/dev/serial/by-id/usb-boiler is not there",
  sinceMs: NOW - 192_000,
  path: "/dev/serial/by-id/usb-boiler",
  identity: null,
  bytesIn: 0,
  bytesOut: 0,
  frames: 0,
  faults: 0,
  errors: 0,
  heardAtMs: null,
  devices: [],
};

const FAILING: LinkStatus = {
  ...ABSENT,
  link: "arduino",
  state: "failing",
  why: "avrdude ended with code 1: avrdude error: unable to open programmer",
  path: "/dev/ttyACM0",
};

export const WELL: LinksDocument = {
  name: "gw-001",
  version: "1.2.3",
  startedAtMs: NOW - 8_000_000,
  links: [LINK],
};

export const TROUBLED: LinksDocument = {
  ...WELL,
  links: [LINK, ABSENT, { ...LINK, link: "pump", state: "lent", devices: [] }, FAILING],
};

// link-status: how each link is, by its supervisor and its host, as the status tells it.
// Path: links, devices → [link-status] → status. Touches: nothing.

import type { DeviceStatus, LinkState, LinkStatus } from "#contract/links";
import { type LinkSettings, whereOf } from "#runtime/settings-links";

/** Of a link's supervisor. */
export interface Watched {
  readonly mode: LinkState;
  readonly why: string;
  readonly sinceMs: number;
  readonly identity: string | undefined;
  readonly counts: {
    readonly bytesIn: number;
    readonly bytesOut: number;
    readonly opens: number;
    readonly disconnects: number;
    readonly errors: number;
    readonly dropped: number;
    readonly heldBackMs: number;
    readonly lastHeardAtMs: number | undefined;
    readonly overruns: number | undefined;
  };
}

/** Of what its driver has around it. */
export interface Hosting {
  readonly name: string;
  readonly counts: {
    readonly frames: number;
    readonly faults: number;
    readonly devices: readonly HostedDevice[];
  };
}

interface HostedDevice extends Omit<DeviceStatus, "device" | "online" | "why" | "commands"> {
  readonly name: string;
  readonly isOnline: boolean;
  readonly why: string | undefined;
  readonly commands: object;
}

/** One link, as it is now. */
export function linkStatus(settings: LinkSettings, link: Watched, host: Hosting): LinkStatus {
  const { frames, faults, devices } = host.counts;
  const { bytesIn, bytesOut, opens, disconnects, errors, dropped, heldBackMs } = link.counts;
  return {
    link: host.name,
    driver: settings.driver,
    state: link.mode,
    why: link.why,
    sinceMs: link.sinceMs,
    path: whereOf(settings),
    identity: link.identity ?? null,
    bytesIn,
    bytesOut,
    frames,
    faults,
    opens,
    disconnects,
    errors,
    overruns: link.counts.overruns ?? null,
    dropped,
    heldBackMs: Math.round(heldBackMs),
    heardAtMs: link.counts.lastHeardAtMs ?? null,
    devices: devices.map(deviceStatus),
  };
}

function deviceStatus({
  name,
  isOnline,
  why,
  sinceMs,
  commands,
  ...counts
}: HostedDevice): DeviceStatus {
  const { messages, acknowledged, refused, unacknowledged } = counts;
  return {
    device: name,
    online: isOnline,
    why: why ?? null,
    sinceMs,
    messages,
    acknowledged,
    refused,
    droppedByPolicy: counts.droppedByPolicy,
    droppedWithoutRoom: counts.droppedWithoutRoom,
    unacknowledged,
    commands: { ...commands },
  };
}

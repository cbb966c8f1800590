// links: what the firmware-bridge says of its links at /links, and `sluice links` reads.
// Path: firmware-bridge → status → [document] → cli. Touches: nothing.

/** lent: a programmer has the port, to flash what is plugged in. */
export type LinkState = "absent" | "opening" | "up" | "failing" | "lent" | "stopped";

export interface LinksDocument {
  /** The gateway's name. */
  readonly name: string;
  readonly version: string;
  readonly startedAtMs: number;
  /** In the order of the settings. */
  readonly links: readonly LinkStatus[];
}

/** One link; what is counted is counted since the bridge started. */
export interface LinkStatus {
  readonly link: string;
  readonly driver: string;
  readonly state: LinkState;
  /** Of the state, in an operator's words. */
  readonly why: string;
  readonly sinceMs: number;
  /** As the settings name it. */
  readonly path: string;
  /** What is open by that name, as far as that is known: "by-id …", "by-path …", or a path. */
  readonly identity: string | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Frames that the driver understood, and that it did not. */
  readonly frames: number;
  readonly faults: number;
  /** How often the port was opened, ended on us, and could not be had or broke. */
  readonly opens: number;
  readonly disconnects: number;
  readonly errors: number;
  /** Bytes that the kernel lost because they were not read in time; null where it does not tell. */
  readonly overruns: number | null;
  /** Datagrams that came while too many waited. */
  readonly dropped: number;
  /** For how long the port had to wait because its messages had no room. */
  readonly heldBackMs: number;
  /** When the last byte came; null when none did. */
  readonly heardAtMs: number | null;
  readonly devices: readonly DeviceStatus[];
}

/** What speaks on a link: one client of the broker. */
export interface DeviceStatus {
  readonly device: string;
  readonly online: boolean;
  /** Why it is offline, or is not at the broker, in an operator's words; null if neither is so. */
  readonly why: string | null;
  /** Since when that is so. */
  readonly sinceMs: number;
  /** Messages that were taken from the driver. */
  readonly messages: number;
  /** What the broker acknowledged, and what it refused for good: of messages and all else. */
  readonly acknowledged: number;
  readonly refused: number;
  /** Not told, because a policy of the channel says so. */
  readonly droppedByPolicy: number;
  /** Lost: too many waited for the broker already, and the driver does not wait. */
  readonly droppedWithoutRoom: number;
  /** Messages that the broker has not acknowledged yet. */
  readonly unacknowledged: number;
  /** Commands by what became of them: accepted, done, failed. */
  readonly commands: Readonly<Record<string, number>>;
}

/** Does a link in this state do what it is there for? */
export function isWell(state: LinkState): boolean {
  return state === "up" || state === "lent";
}

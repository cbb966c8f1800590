// open-port: what an open link is to its supervisor, whatever it is made of.
// Path: port, tcp-link, udp-link → [open-port] → links. Touches: nothing.

import type { Link } from "../driver.ts";

/** Why a port is closed whose plug was pulled. */
export const UNPLUGGED = "unplugged";

/** A link that its supervisor can end, and whose end it sees. */
export interface OpenPort extends Link {
  /** Resolves, with the reason, at once when the port is gone. */
  readonly closed: Promise<string>;
  close(reason: string): Promise<void>;
  /**
   * Ends the link for its driver, and touches no byte from then on; the port stays open and locked
   * until `close`. Resolves when nothing of ours is under way; @throws SluiceError LINK_FAILED when
   * a write is stuck. Only serial ports have it.
   */
  withdraw?(): Promise<void>;
  /** Takes the lock, or lets go of it; false where another program has it. As `withdraw`. */
  lock?(isHeld: boolean): Promise<boolean>;
  /** Bytes that the chip or the kernel had no room for, where they are counted. */
  overruns?(): number | undefined;
}

/** What a link counts, as long as the process lives. */
export interface LinkCounts {
  bytesIn: number;
  bytesOut: number;
  chunks: number;
  opens: number;
  /** An open link that ended by itself. */
  disconnects: number;
  /** Openings and links that failed. */
  errors: number;
  /** Datagrams that came while too many waited. */
  dropped: number;
  /** How long the driver had so much to do that nothing was read for it. */
  heldBackMs: number;
  lastHeardAtMs: number | undefined;
  overruns: number | undefined;
}

export function newCounts(): LinkCounts {
  return {
    bytesIn: 0,
    bytesOut: 0,
    chunks: 0,
    opens: 0,
    disconnects: 0,
    errors: 0,
    dropped: 0,
    heldBackMs: 0,
    lastHeardAtMs: undefined,
    overruns: undefined,
  };
}

// lane-room: whether a lane has room, and what an operator is told when it has not.
// Path: lane → [lane room]. Touches: nothing.

import { SluiceError } from "#contract/errors";
import type { TailLimits } from "./tail.ts";

/** What becomes of a message that does not fit: not acknowledged, or a gap record for a message. */
export type WhenFull = "reject" | "drop_oldest" | "drop_newest";

export interface LaneLimits extends TailLimits {
  readonly bytesMax: number;
  /** How long a message may wait for the cloud, in seconds; undefined: for ever. */
  readonly ageSecondsMax?: number | undefined;
  /** Free bytes of the file system that the lane leaves to others. */
  readonly diskFreeBytesMin: number;
  readonly whenFull: WhenFull;
}

/** The reasons of gap records, each a limit's. */
export const DROP_REASONS = {
  bytes: "over bytes_max",
  large: "longer than bytes_max",
  age: "over age_seconds_max",
  disk: "under disk_free_bytes_min",
} as const;

export type DropReason = (typeof DROP_REASONS)[keyof typeof DROP_REASONS];

/** How long a lane that was full counts as in trouble. */
const TROUBLE_MS = 10_000;

export interface RoomOptions {
  readonly lane: string;
  readonly limits: LaneLimits;
  /** What is free on the store's file system. */
  readonly diskFreeBytes: () => number;
  readonly clock: () => number;
}

export class LaneRoom {
  readonly #options: RoomOptions;
  /** What the last message met that did not fit, and when. */
  #trouble: { readonly why: string; readonly atMs: number } | undefined;

  constructor(options: RoomOptions) {
    this.#options = options;
  }

  /** Which limit `bytes` more would break beside those that wait; undefined: none. */
  fullReason(bytes: number, waitingBytes: number): DropReason | undefined {
    const { limits, diskFreeBytes } = this.#options;
    if (bytes > limits.bytesMax) return DROP_REASONS.large;
    if (waitingBytes + bytes > limits.bytesMax) return DROP_REASONS.bytes;
    return diskFreeBytes() < limits.diskFreeBytesMin ? DROP_REASONS.disk : undefined;
  }

  /** What the publisher of a message hears that the lane refuses. */
  refusal(reason: DropReason, waitingBytes: number): SluiceError {
    const { lane, limits, diskFreeBytes } = this.#options;
    const { bytesMax, diskFreeBytesMin } = limits;
    const what =
      reason === DROP_REASONS.disk
        ? `the disk has ${diskFreeBytes()} bytes free, ${diskFreeBytesMin} are to stay`
        : `it holds ${waitingBytes} of ${bytesMax} bytes`;
    const why = `lane ${lane} takes nothing more: ${what}`;
    this.#met(why);
    return new SluiceError("OUTBOX_FULL", why);
  }

  /** The lane has dropped messages. */
  dropped(which: "oldest" | "newest", reason: DropReason): void {
    this.#met(`lane ${this.#options.lane} drops its ${which} messages, ${reason}`);
  }

  /** What messages met of late that did not fit; null: all did. */
  get trouble(): string | null {
    if (!this.#trouble || this.#options.clock() - this.#trouble.atMs >= TROUBLE_MS) return null;
    return this.#trouble.why;
  }

  #met(why: string): void {
    this.#trouble = { why, atMs: this.#options.clock() };
  }
}

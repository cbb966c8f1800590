// send-lane: what the uplink needs of a lane of the outbox, and of the landing.
// Path: outbox → [send-lane] → sender. Touches: nothing.

import type { Run } from "#contract/frame";
import type { AppendAnswer, AppendRequest, PositionAnswer, ProbeRequest } from "#contract/landing";

export interface SendLane {
  readonly name: string;
  readonly epoch: number;
  readonly position: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** Who may have written this epoch to the cloud: this process, then those before it. */
  readonly writers: readonly string[];
  onAppend(listener: () => void): void;
  /** The next records behind `seq`, as many as a frame takes; undefined when there are none. */
  readAfter(seq: number): Promise<Run | undefined>;
  /** The cloud holds `run` now, which follows the position. */
  cloudHolds(run: Run): Promise<void>;
  /** Moves the position to what the cloud says that it holds, ahead or back into the tail. */
  moveTo(seq: number): Promise<void>;
  /** Begins a new epoch in which what still waits is numbered from 1. */
  beginEpoch(newerThan: number): Promise<void>;
  /** Messages that were lost beyond the tail, for which a gap record stands. */
  countDropped(count: number): Promise<void>;
}

/** One connection to the landing. */
export interface SendLanding {
  probe(request: ProbeRequest): Promise<PositionAnswer>;
  append(request: AppendRequest): Promise<AppendAnswer>;
  leave(why: string): Promise<void>;
  close(): void;
}

/** Who writes a lane now. */
export function writerOf(lane: SendLane): string {
  return lane.writers[0] ?? "";
}

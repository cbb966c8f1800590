// lane-state: what of a lane must outlive a restart beside its records, as JSON under its state key.
// Path: lane → [lane state] → store. Touches: nothing.

import * as v from "valibot";
import { SluiceError } from "#contract/errors";

/** Processes that are remembered to have written an epoch. */
const WRITERS_MAX = 32;
/** Holes that are remembered one by one. */
const HOLES_MAX = 64;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** Bytes that were dropped in front of the end of the record that ends at the stored number `at`. */
const Hole = v.object({ at: count, bytes: v.pipe(v.number(), v.safeInteger()) });
type Hole = v.InferOutput<typeof Hole>;

const LaneStateSchema = v.object({
  epoch: count,
  /** Stored number minus this = sequence; grows when an epoch begins anew. */
  base: count,
  /** Position: last sequence that the cloud is known to hold. */
  position: count,
  /** Messages that gap records stand for, by reason. */
  dropped: v.record(v.string(), count),
  /** Who may have written this epoch to the cloud: a process each, the newest first. */
  writers: v.array(v.string()),
  holes: v.array(Hole),
  /** Stored numbers up to here may have gone to the cloud with messages that no sync has covered. */
  unsyncedUpTo: v.optional(count, 0),
});

export type LaneState = v.InferOutput<typeof LaneStateSchema>;

export function newLaneState(epoch: number): LaneState {
  return { epoch, base: 0, position: 0, dropped: {}, writers: [], holes: [], unsyncedUpTo: 0 };
}

export function encodeLaneState(state: LaneState): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(state));
}

/** @throws SluiceError STORE_FAILED for what is no lane's state. */
export function decodeLaneState(lane: string, bytes: Uint8Array): LaneState {
  try {
    return v.parse(LaneStateSchema, JSON.parse(new TextDecoder().decode(bytes)));
  } catch (cause) {
    throw new SluiceError("STORE_FAILED", `the state of lane ${lane} cannot be read`, { cause });
  }
}

/** `writer` is the newest of those who write this lane. */
export function rememberWriter(state: LaneState, writer: string): void {
  state.writers = [writer, ...state.writers].slice(0, WRITERS_MAX);
}

/** Bytes that are missing at the end of the record that ends at the stored number `at`. */
export function holeAt({ holes }: LaneState, at: number): number {
  return holes.find((hole) => hole.at === at)?.bytes ?? 0;
}

/** Bytes that are missing between two stored numbers, behind `after` up to `to`. */
export function holeBytes({ holes }: LaneState, after: number, to: number): number {
  let bytes = 0;
  for (const hole of holes) if (hole.at > after && hole.at <= to) bytes += hole.bytes;
  return bytes;
}

/**
 * `holes` with one at the end of a gap record from `from` to `at`, in place of those in it. Of very
 * many the oldest two count as one: sizes in the tail are then a little too large.
 */
export function withHole({ holes }: LaneState, from: number, at: number, bytes: number): Hole[] {
  const all = holes.filter((hole) => hole.at < from || hole.at > at);
  if (bytes !== 0) all.push({ at, bytes });
  all.sort((one, other) => one.at - other.at);
  const [oldest, next] = all;
  if (all.length <= HOLES_MAX || !oldest || !next) return all;
  return [{ at: next.at, bytes: oldest.bytes + next.bytes }, ...all.slice(2)];
}

/** Forgets the holes before the first record that is kept. */
export function forgetHoles(state: LaneState, first: number): void {
  state.holes = state.holes.filter(({ at }) => at >= first);
}

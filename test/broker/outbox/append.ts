// append: takes a record into custody as a gateway does: room first, then one write.
// Path: tests of lane and sender → [append] → lane. Touches: what the lane touches.

import type { Lane } from "../../../broker/outbox/lane.ts";
import type { LaneStore } from "../../../broker/outbox/lane-records.ts";

/** Resolves when it is synced. @throws SluiceError OUTBOX_FULL, STORE_FAILED. */
export async function append(
  store: Pick<LaneStore, "commit">,
  lane: Lane,
  record: Uint8Array,
): Promise<void> {
  const room = lane.makeRoom(record.length);
  if (room) await room;
  await store.commit(lane.write(record, true));
}

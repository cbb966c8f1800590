import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { encodeMessage } from "#contract/message";
import { Lane } from "../../../broker/outbox/lane.ts";
import type { LaneLimits } from "../../../broker/outbox/lane-room.ts";
import { Store } from "../../../broker/store/store.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { append } from "./append.ts";

const MIB = 1024 * 1024;
const FILL_BYTES = process.env.SLUICE_TEST_LONG ? 1024 * MIB : 128 * MIB;
const TAIL_BYTES = 16 * MIB;
const MESSAGE_BYTES = 64 * 1024;
const AT_ONCE = 64;
/** LevelDB's log, and what one compaction leaves for the next. */
const SLACK_BYTES = 48 * MIB;

const LIMITS: LaneLimits = {
  bytesMax: 2 * FILL_BYTES,
  tailBytesMax: TAIL_BYTES,
  tailSecondsMax: 600,
  diskFreeBytesMin: 0,
  whenFull: "reject",
};

function bytesIn(folder: string): number {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true });
  return files
    .filter((file) => file.isFile())
    .map((file) => statSync(join(file.parentPath, file.name), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, size) => sum + size, 0);
}

/** No two are alike, so that nothing is saved by compression. */
function record(): Uint8Array {
  const payload = randomBytes(MESSAGE_BYTES);
  return encodeMessage({ topic: "t", payload, qos: 1, retain: false, takenAtMs: 1 });
}

test("gives the space of an outage back to the file system as the cloud takes what waited", async (t) => {
  const folder = temporaryFolder(t);
  const store = await Store.open(folder);
  t.after(() => store.close());
  const lane = await Lane.open("default", { store, limits: LIMITS });
  for (let bytes = 0; bytes < FILL_BYTES; bytes += AT_ONCE * MESSAGE_BYTES) {
    await Promise.all(Array.from({ length: AT_ONCE }, () => append(store, lane, record())));
  }
  const filled = bytesIn(folder);
  assert.ok(filled >= FILL_BYTES, `${filled} bytes`);
  for (let run = await lane.readAfter(0); run; run = await lane.readAfter(lane.position)) {
    await lane.cloudHolds(run);
  }
  await lane.close();
  // LevelDB removes files that it has done with a moment later.
  await waitFor("the space", () => bytesIn(folder) <= TAIL_BYTES + SLACK_BYTES, 10_000);
  t.diagnostic(`${Math.round(filled / MIB)} MiB, then ${Math.round(bytesIn(folder) / MIB)} MiB`);
});

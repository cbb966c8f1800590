// slow-disk: intake while a sync of the disk takes as long as on an SD card.
// Path: custody-scenarios → [slow-disk] → broker-process, load-process, disk-shim. Touches: what
// those touch.

import { join } from "node:path";
import { DiskShim } from "../disk-shim/disk-shim.ts";
import type { Figures } from "./job.ts";
import { runLoad } from "./load-process.ts";
import type { Site } from "./scenario.ts";
import { UNREACHABLE } from "./waiting.ts";

const SYNC_MS = 20;
const PER_SECOND = 1_000;
const PAYLOAD_BYTES = 100;

/** At full speed, then, on the code that is warm by now, at an even pace. */
export async function runSlowDisk(site: Site): Promise<Figures> {
  const { folder, seconds, signal } = site;
  const disk = new DiskShim(join(folder, "data"), folder);
  disk.set({ slowMs: SYNC_MS });
  const broker = await site.start({ sluice: UNREACHABLE, environment: disk.env });
  try {
    const { port, pid } = broker;
    const full = await runLoad(
      {
        ...{ kind: "intake", port, pid, publishers: 100, window: 10, payloadBytes: PAYLOAD_BYTES },
        ...{ seconds, warmSeconds: seconds },
      },
      signal,
    );
    const messages = Math.ceil(seconds * PER_SECOND);
    const { p99Ms = Number.NaN } = await runLoad(
      {
        ...{ kind: "paced", port, pid, messages },
        ...{ messagesPerSecond: PER_SECOND, payloadBytes: PAYLOAD_BYTES },
      },
      signal,
    );
    return { ...full, pacedP99Ms: p99Ms };
  } finally {
    await broker.stop();
  }
}

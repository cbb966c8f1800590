import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { encodeFrame } from "#contract/frame";
import { LANDING_FUNCTIONS, landingKeys } from "#contract/landing";
import { encodeMessage } from "#contract/message";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { SettingsSchema } from "#runtime/settings-schema";
import { Ingest } from "../../../broker/ingest/ingest.ts";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";

const log = createLog({ level: "error", process: "test" });
log.level = "silent";

/** Longer than the time between two claims, so that the next entry finds a claim due. */
const CLAIM_IS_DUE_MS = 1_200;

function frameOf(seq: number): Buffer {
  const payload = new TextEncoder().encode(String(seq));
  const message = { topic: "t", payload, qos: 1, retain: false, takenAtMs: 1 } as const;
  return Buffer.from(encodeFrame(seq, [encodeMessage(message)]));
}

test("delivers again, from the first on, what a cluster Redis that comes back has forgotten", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  await loadLandingLibrary(landing.client);
  const { up, pos } = landingKeys("gw-001");
  for (const seq of [1, 2, 3]) {
    const args = ["default", 7, seq - 1, seq, frameOf(seq)] as const;
    await landing.client.call("FCALL", LANDING_FUNCTIONS.append, 2, up, pos, ...args);
  }
  const delivered: string[] = [];
  const { ingest: settings } = v.parse(SettingsSchema, {
    ...{ role: "cloud", name: "cloud-1" },
    ...{ landing: { url: landing.url }, cluster: { url: cluster.url } },
  });
  const ingest = new Ingest({
    landing: { url: landing.url },
    cluster: { url: cluster.url },
    settings,
    deliver: async ({ topic, payload }) => {
      if (topic !== "from/gw-001/t") return;
      delivered.push(new TextDecoder().decode(payload));
      if (delivered.length > 1) return;
      // The first message is queued, and then the cluster Redis is emptied and cut off.
      await cluster.client.flushall();
      await cluster.client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      await sleep(CLAIM_IS_DUE_MS);
    },
    log,
    metrics: new Metrics(),
  });
  const running = ingest.run();
  t.after(async () => {
    await ingest.stop();
    await running;
  });
  await waitFor("the last message", () => delivered.includes("3"), 15_000);
  assert.deepEqual(delivered, ["1", "1", "2", "3"]);
});

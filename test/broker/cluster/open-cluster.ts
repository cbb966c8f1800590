// open-cluster: a cluster's shared half on a real Redis, for one test.
// Path: tests → cluster. Touches: a Redis of its own, loopback.

import type { TestContext } from "node:test";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { Cluster } from "../../../broker/cluster/cluster.ts";
import type { ClusterSessionsOptions } from "../../../broker/cluster/sessions.ts";

export const silentLog = createLog({ level: "error", process: "test" });
silentLog.level = "silent";

const AMPLE: ClusterSessionsOptions = {
  queueMessagesMax: 1_000_000,
  queueBytesMax: 1_000_000_000,
  dropped: () => {},
  missing: () => {},
};

/** Not connected yet; its connections end with the test. */
export function createCluster(
  t: TestContext,
  url: string,
  sessions: Partial<ClusterSessionsOptions> = {},
  metrics = new Metrics(),
): Cluster {
  const cluster = new Cluster({
    settings: { url },
    sessions: { ...AMPLE, ...sessions },
    log: silentLog,
    metrics,
  });
  t.after(() => cluster.close());
  return cluster;
}

/** As createCluster, and connected. */
export async function openCluster(...args: Parameters<typeof createCluster>): Promise<Cluster> {
  const cluster = createCluster(...args);
  await cluster.connected();
  return cluster;
}

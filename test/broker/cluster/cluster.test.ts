import assert from "node:assert/strict";
import { test } from "node:test";
import { createLog } from "#runtime/log";
import { Cluster, unsafeFilter } from "../../../broker/cluster/cluster.ts";
import { startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";

const log = createLog({ level: "error", process: "test" });
log.level = "silent";

test("tells when messages may have passed by, and when the cluster is back", async (t) => {
  const redis = await startRedis(t);
  const cluster = new Cluster({ url: redis.url }, log);
  t.after(() => cluster.close());
  assert.match(cluster.unavailable() ?? "", /connecting/);
  await cluster.connected();
  assert.equal(cluster.unavailable(), undefined);

  const lost: string[] = [];
  cluster.onLost((why) => lost.push(why));
  await redis.kill();
  await waitFor("the loss to be told", () => lost.length > 0);
  assert.notEqual(cluster.unavailable(), undefined);
  await redis.start();
  await waitFor("the cluster to be back", () => cluster.unavailable() === undefined, 10_000);
});

test("waits for a Redis that is not there yet", async (t) => {
  const redis = await startRedis(t);
  await redis.kill();
  const cluster = new Cluster({ url: redis.url }, log);
  t.after(() => cluster.close());
  const connected = cluster.connected();
  await waitFor("the reason", () => /ECONNREFUSED/.test(cluster.unavailable() ?? ""));
  await redis.start();
  await connected;
  assert.equal(cluster.unavailable(), undefined);
});

test("refuses filters that would silence others' on mqemitter-redis", () => {
  for (const filter of ["a/*", "a/[1]/+", "what?", "back\\slash", "constructor", "__proto__"]) {
    assert.notEqual(unsafeFilter(filter), undefined, filter);
  }
  for (const filter of ["from/#", "+/constructor/+", "$SYS/broker/#"]) {
    assert.equal(unsafeFilter(filter), undefined, filter);
  }
});

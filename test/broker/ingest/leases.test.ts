import assert from "node:assert/strict";
import { test } from "node:test";
import { loadCheckpoint, saveCheckpoint } from "../../../broker/ingest/checkpoints.ts";
import {
  claimPartitions,
  leaseKey,
  PARTITIONS,
  partitionOf,
  releasePartitions,
} from "../../../broker/ingest/leases.ts";
import { startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";

const GATEWAY = "gw-001";

test("each partition has one owner, and nodes share them evenly as they come and go", async (t) => {
  const { client } = await startRedis(t);
  const claim = (node: string) => claimPartitions(client, node, 60_000);
  assert.equal((await claim("a")).size, PARTITIONS);
  assert.equal((await claim("b")).size, 0, "a has not given back its share yet");
  const a = await claim("a");
  const b = await claim("b");
  assert.deepEqual([a.size, b.size], [PARTITIONS / 2, PARTITIONS / 2]);
  assert.equal(new Set([...a, ...b]).size, PARTITIONS, "nobody shares one");
  await releasePartitions(client, "a");
  assert.equal((await claim("b")).size, PARTITIONS);
});

test("the leases of a node that died run out", async (t) => {
  const { client } = await startRedis(t);
  const claim = (node: string) => claimPartitions(client, node, 200);
  await claim("dead");
  const claimed = await waitFor("the leases to run out", async () => {
    const owned = await claim("alive");
    return owned.size === PARTITIONS ? owned : undefined;
  });
  assert.equal(claimed.size, PARTITIONS);
});

test("a node that lost its lease cannot save a checkpoint any more", async (t) => {
  const { client } = await startRedis(t);
  const save = (node: string, seq: number) =>
    saveCheckpoint(client, node, GATEWAY, {
      cursor: `${seq}-0`,
      lanes: new Map([["default", { epoch: 7, seq }]]),
    });
  await client.set(leaseKey(partitionOf(GATEWAY)), "a");
  assert.equal(await save("a", 5), true);
  await client.set(leaseKey(partitionOf(GATEWAY)), "b");
  assert.equal(await save("a", 6), false);
  assert.deepEqual(await loadCheckpoint(client, GATEWAY), {
    cursor: "5-0",
    lanes: new Map([["default", { epoch: 7, seq: 5 }]]),
  });
});

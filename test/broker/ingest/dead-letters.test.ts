import assert from "node:assert/strict";
import { test } from "node:test";
import {
  bury,
  countDeadLetters,
  DEAD_LETTERS_KEY,
  type DeadLetter,
} from "../../../broker/ingest/dead-letters.ts";
import { startRedis } from "../../support/redis-server.ts";

const MEBIBYTE = 1024 * 1024;

const letter: DeadLetter = {
  ...{ gateway: "gw-001", lane: "default", epoch: 7, id: "5-0", sequence: 42 },
  ...{ reason: "no topic", bytes: Uint8Array.of(0, 255) },
};

test("a dead letter says where it comes from, why and when, and holds the bytes", async (t) => {
  const { client } = await startRedis(t);
  await bury(client, letter, Date.UTC(2026, 0, 2));
  await bury(client, { ...letter, sequence: undefined }, 0);
  const [first, second] = await client.xrangeBuffer(DEAD_LETTERS_KEY, "-", "+");
  const pairs = (first?.[1] ?? []).map(String);
  assert.deepEqual(pairs.slice(0, -1), [
    ...["gateway", "gw-001", "lane", "default", "epoch", "7", "id", "5-0", "sequence", "42"],
    ...["reason", "no topic", "time", "2026-01-02T00:00:00.000Z", "bytes_total", "2", "bytes"],
  ]);
  assert.deepEqual(first?.[1].at(-1), Buffer.of(0, 255));
  assert.ok(!second?.[1].map(String).includes("sequence"), "unknown");
  assert.equal(await countDeadLetters(client), 2);
});

test("dead letters take only so much of the cluster Redis, and the oldest go first", async (t) => {
  const { client } = await startRedis(t);
  const bytes = new Uint8Array(3 * MEBIBYTE);
  for (let id = 1; id <= 150; id += 1) await bury(client, { ...letter, id: `${id}-0`, bytes }, 0);
  const usage = (await client.memory("USAGE", DEAD_LETTERS_KEY, "SAMPLES", 0)) ?? 0;
  assert.ok(usage <= 64 * MEBIBYTE, `${usage} bytes`);
  assert.ok((await countDeadLetters(client)) >= 20);
  const [newest] = await client.xrevrangeBuffer(DEAD_LETTERS_KEY, "+", "-", "COUNT", 1);
  const fields = newest?.[1] ?? [];
  assert.equal(String(fields[7]), "150-0");
  assert.equal(String(fields.at(-3)), String(3 * MEBIBYTE), "how many there were");
  assert.equal(fields.at(-1)?.length, MEBIBYTE);
});

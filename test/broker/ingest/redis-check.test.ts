import assert from "node:assert/strict";
import { test } from "node:test";
import { Redis } from "ioredis";
import { checkRedis, faultsOf } from "../../../broker/ingest/redis-check.ts";
import { startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";

test("finds nothing wrong with a Redis that keeps what it has acknowledged", async (t) => {
  const { client } = await startRedis(t, "--appendfsync", "always");
  assert.deepEqual(await checkRedis("landing Redis", client), []);
  assert.deepEqual(await checkRedis("cluster Redis", client), []);
});

test("names what a power cut may take of the cluster's Redis; of the landing it comes again", async (t) => {
  const { client } = await startRedis(t, "--appendfsync", "everysec");
  assert.deepEqual(await checkRedis("landing Redis", client), []);
  const why = "cluster Redis: a power cut may take its last second: CONFIG SET appendfsync always";
  assert.deepEqual(await checkRedis("cluster Redis", client), [{ level: "warn", why }]);
  await client.config("SET", "appendfsync", "no");
  const [fault] = await checkRedis("cluster Redis", client);
  assert.match(fault?.why ?? "", /what the system had not written/);
});

test("names a policy that evicts, and a Redis that keeps nothing, each with its mend", async (t) => {
  const { client } = await startRedis(t);
  await client.config("SET", "maxmemory-policy", "volatile-ttl");
  await client.config("SET", "appendonly", "no");
  const faults = await checkRedis("landing Redis", client);
  assert.deepEqual(
    faults.map(({ level }) => level),
    ["error", "warn"],
  );
  assert.match(faults[0]?.why ?? "", /^landing Redis: volatile-ttl .*noeviction$/);
  assert.match(faults[1]?.why ?? "", /appendonly is off.*CONFIG SET appendonly yes$/);
  for (const { why } of faults) {
    const [, name = "", value = ""] = /CONFIG SET (\S+) (\S+)$/.exec(why) ?? [];
    await client.config("SET", name, value);
  }
  assert.deepEqual(await checkRedis("landing Redis", client), []);
  // It writes its new file in the background, where the test's folder is about to go.
  await waitFor("the new file", async () => {
    const info = await client.info("persistence");
    return /aof_rewrite_in_progress:0/.test(info) && /aof_rewrite_scheduled:0/.test(info);
  });
});

test("says nothing where its user may not ask", async (t) => {
  const { client, port } = await startRedis(t);
  await client.config("SET", "maxmemory-policy", "allkeys-lru");
  await client.acl("SETUSER", "cloud", "on", ">secret", "~*", "+@all", "-config", "-info");
  const cloud = new Redis(port, "127.0.0.1", {
    ...{ username: "cloud", password: "secret", enableReadyCheck: false },
  });
  t.after(() => cloud.disconnect());
  assert.deepEqual(await checkRedis("cluster Redis", cloud), []);
});

test("names a Redis that is too old, and what it lacks", () => {
  const told = { policy: "noeviction", appendOnly: "yes", appendFsync: "always" };
  const whys = ["6.2.14", "7.0.0", "10.1.0"].map((version) =>
    faultsOf("cluster Redis", { version, ...told }).map(({ level, why }) => `${level} ${why}`),
  );
  const tooOld = "version 6.2.14 is too old, 7.0 is the oldest that has functions";
  assert.deepEqual(whys, [[`error cluster Redis: ${tooOld}`], [], []]);
});

// uplink.test: both directions together: who may not write does not carry out commands either.
// Path: test. Touches: a real Redis on loopback.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { landingKeys } from "#contract/landing";
import { encodeMessage, type Message } from "#contract/message";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { parseSettings } from "#runtime/settings";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { startUplink } from "../../../broker/uplink/uplink.ts";
import { type RedisServer, startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";
import { MemoryLane } from "./memory-lane.ts";

const log = createLog({ level: "error", process: "test" });
log.level = "silent";

const { pos, down } = landingKeys("gw-001");

async function start(t: TestContext, redis: RedisServer, lane: MemoryLane) {
  const text = `role = "gateway"\nuplink = { url = "${redis.url}", probe_seconds = 1 }`;
  const settings = parseSettings(text, "test").uplink;
  assert(settings);
  const delivered: Message[] = [];
  let stored: string | undefined;
  const uplink = startUplink({
    ...{ settings, gateway: "gw-001", lanes: [lane], log, metrics: new Metrics() },
    commands: {
      cursor: async () => stored,
      deliver: async (message, id) => {
        delivered.push(message);
        stored = id;
      },
      answer: async () => {},
    },
  });
  t.after(() => uplink.stop());
  return { uplink, delivered };
}

function command(redis: RedisServer): Promise<unknown> {
  const message = { topic: "valve/set", payload: new Uint8Array(), qos: 1, retain: false } as const;
  const record = Buffer.from(encodeMessage({ ...message, takenAtMs: 1 }));
  return redis.client.xadd(down, "*", "record", record);
}

test("a box carries out commands while it has its lanes, and none once it is fenced off", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  await command(redis);
  const lane = new MemoryLane("default");
  const { uplink, delivered } = await start(t, redis, lane);
  await waitFor("the command", () => delivered.length === 1);
  await redis.client.hset(pos, "lane:default", `${lane.epoch + 1}:0`);
  await waitFor("the fence", () => uplink.status().state === "fenced");
  await command(redis);
  await uplink.stop();
  assert.equal(delivered.length, 1);
});

test("a box that is fenced off from its start carries out no command", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const lane = new MemoryLane("default");
  await redis.client.hset(pos, "lane:default", `${lane.epoch + 1}:0`);
  await command(redis);
  const { uplink, delivered } = await start(t, redis, lane);
  await waitFor("the fence", () => uplink.status().state === "fenced");
  await uplink.stop();
  assert.deepEqual(delivered, []);
});

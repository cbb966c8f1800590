import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { decodeFrame } from "#contract/frame";
import { landingKeys } from "#contract/landing";
import { encodeMessage, type Message } from "#contract/message";
import { steadyNowMs } from "#runtime/clock";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { Lane } from "../../../broker/outbox/lane.ts";
import type { LaneLimits } from "../../../broker/outbox/lane-room.ts";
import { Store } from "../../../broker/store/store.ts";
import { Landing } from "../../../broker/uplink/landing.ts";
import { Sender } from "../../../broker/uplink/sender.ts";
import { freePort, type RedisServer, startRedis } from "../../support/redis-server.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { append } from "../outbox/append.ts";

const GATEWAY = "gw-001";
const LIMITS: LaneLimits = {
  bytesMax: 1e6,
  tailBytesMax: 1e6,
  tailSecondsMax: 600,
  diskFreeBytesMin: 0,
  whenFull: "reject",
};
const log = createLog({ level: "error", process: "test" });

/** A lane, a landing and a sender between them. */
async function startSender(
  t: TestContext,
  redis: { readonly url: string | readonly string[] },
  limits = LIMITS,
  clock = steadyNowMs,
) {
  const metrics = new Metrics();
  const store = await Store.open(temporaryFolder(t));
  const lane = await Lane.open("default", { store, limits });
  const run = () => {
    const sender = new Sender({
      lanes: [lane],
      probeMs: 200,
      urls: [redis.url].flat(),
      connect: (url, lost) => Landing.connect({ url }, GATEWAY, lost),
      windowFramesMax: 4,
      bytesPerSecondMax: undefined,
      downCursor: () => "0-0",
      holdsLanes: () => {},
      clock,
      log,
      metrics,
    });
    const running = sender.run();
    const stopped = async () => {
      sender.stop();
      await running;
    };
    return { sender, stopped };
  };
  let current = run();
  t.after(async () => {
    await current.stopped();
    await store.close();
  });
  const appendAll = (from: number, to: number, extras: Partial<Message> = {}) =>
    Promise.all(
      Array.from({ length: to - from + 1 }, (_, index) => {
        const payload = new TextEncoder().encode(String(from + index));
        const message = { topic: "t", payload, qos: 1, retain: false, takenAtMs: 1 } as const;
        return append(store, lane, encodeMessage({ ...message, ...extras }));
      }),
    );
  return {
    lane,
    append: appendAll,
    metrics,
    get sender() {
      return current.sender;
    },
    async pause() {
      await current.stopped();
    },
    resume() {
      current = run();
    },
  };
}

/** What the landing holds: payloads, and gaps as "from..to reason". */
async function landed(redis: RedisServer): Promise<string[]> {
  const entries = await redis.client.xrangeBuffer(landingKeys(GATEWAY).up, "-", "+");
  return entries.flatMap(([, fields]) => {
    const frame = fields[fields.findIndex((field) => field.toString() === "frame") + 1];
    return decodeFrame(frame ?? Buffer.alloc(0)).map(({ record }) =>
      record.kind === "gap"
        ? `${record.gap.from}..${record.gap.to} ${record.gap.reason}`
        : new TextDecoder().decode(record.message.payload),
    );
  });
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => String(from + index));

test("the landing gets each message once and in order, through lost connections", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { lane, append } = await startSender(t, redis);
  await append(1, 700);
  await waitFor("the first part to arrive", () => lane.position === 700);
  for (let round = 0; round < 5; round += 1) {
    const from = 701 + round * 300;
    const appending = append(from, from + 299);
    await redis.client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    await appending;
  }
  await waitFor("all to arrive", () => lane.position === 2200, 10_000);
  assert.deepEqual(await landed(redis), numbers(1, 2200));
});

test("rewinds into the tail when the landing forgot what it had acknowledged", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { lane, append, sender } = await startSender(t, redis);
  await append(1, 100);
  await waitFor("the first part to arrive", () => lane.position === 100);
  const { up, pos } = landingKeys(GATEWAY);
  const [saved, dump] = [await redis.client.hgetall(pos), await redis.client.dumpBuffer(up)];
  await append(101, 200);
  await waitFor("the second part to arrive", () => lane.position === 200);
  await redis.client.restore(up, 0, dump, "REPLACE");
  await redis.client.hset(pos, saved);
  await waitFor("the rewind", async () => (await landed(redis)).length === 200);
  assert.deepEqual(await landed(redis), numbers(1, 200));
  assert.equal(sender.status().rewinds, 1);
});

test("puts a gap record in place of what the landing forgot beyond the tail", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { lane, append } = await startSender(t, redis, { ...LIMITS, tailSecondsMax: 0 });
  await append(1, 100);
  await waitFor("all to arrive", () => lane.position === 100);
  await redis.client.del(...Object.values(landingKeys(GATEWAY)));
  await append(101, 110);
  await waitFor("the rest to arrive", () => lane.position === 110);
  assert.deepEqual(await landed(redis), ["1..100 forgotten by the cloud", ...numbers(101, 110)]);
  assert.equal(lane.status().dropped["forgotten by the cloud"], 100, "and the operator sees it");
});

test("covers what expired while it waited by a gap record, and counts it apart", async (t) => {
  const redis = await startRedis(t);
  const nowMs = 1_000.5;
  const { lane, append, metrics } = await startSender(t, redis, LIMITS, () => nowMs);
  await append(1, 1);
  await append(2, 3, { expiresAtMs: 1_000 });
  await append(4, 4, { expiresAtMs: 1_001 });
  const before = await lane.readAfter(0);
  await loadLandingLibrary(redis.client);
  await waitFor("all to arrive", () => lane.position === 4, 10_000);
  assert.deepEqual(await landed(redis), ["1", "2..2 expired", "3..3 expired", "4"]);
  assert.equal(metrics.total("sluice_uplink_expired_total"), 2);
  assert.equal(metrics.total("sluice_uplink_messages_total"), 2);
  assert.deepEqual(lane.status().dropped, {}, "it is no loss by a limit");
  assert.deepEqual(await lane.readAfter(0), before, "the lane keeps what it had");
});

test("tells with each frame when it was sent by the gateway's clock", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { lane, append } = await startSender(t, redis, LIMITS, () => 1_000.5);
  await append(1, 1);
  await waitFor("it to arrive", () => lane.position === 1);
  const [entry] = await redis.client.xrange(landingKeys(GATEWAY).up, "-", "+");
  assert.deepEqual(entry?.[1].slice(-2), ["sent_ms", "1000"]);
});

test("an expired message stays one number of its lane when the cloud forgets it", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  let nowMs = 0;
  const { lane, append } = await startSender(t, redis, LIMITS, () => nowMs);
  await append(1, 3, { expiresAtMs: 500 });
  await waitFor("all to arrive", () => lane.position === 3);
  assert.deepEqual(await landed(redis), numbers(1, 3));
  nowMs = 500;
  await redis.client.del(...Object.values(landingKeys(GATEWAY)));
  await append(4, 4);
  await waitFor("the rewind", async () => (await landed(redis)).length === 4);
  const gaps = ["1..1 expired", "2..2 expired", "3..3 expired"];
  assert.deepEqual(await landed(redis), [...gaps, "4"]);
});

test("begins a new epoch when the cloud holds more than this outbox ever wrote", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { lane, append } = await startSender(t, redis);
  await append(1, 5);
  await waitFor("all to arrive", () => lane.position === 5);
  const before = lane.epoch;
  await redis.client.hset(landingKeys(GATEWAY).pos, "lane:default", `${before}:1000`);
  await waitFor("the new epoch", () => lane.epoch > before);
  await append(6, 10);
  await waitFor("the rest to arrive", () => lane.position === 5);
  assert.deepEqual(await landed(redis), numbers(1, 10), "nothing is taken for a repeat");
});

test("stops, and says so, when a newer epoch of the same name writes to the cloud", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { append, lane, sender } = await startSender(t, redis);
  await append(1, 5);
  await waitFor("all to arrive", () => lane.position === 5);
  await redis.client.hset(landingKeys(GATEWAY).pos, "lane:default", `${lane.epoch + 1}:3`);
  await append(6, 6);
  await waitFor("the fence", () => sender.status().state === "fenced");
  assert.match(sender.status().why, /another box has this name/);
  assert.equal(lane.position, 5);
});

test("goes on at the cloud's position after a restart that lost the answer", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const chain = await startSender(t, redis);
  await chain.append(1, 10);
  await waitFor("all to arrive", () => chain.lane.position === 10);
  await chain.pause();
  await chain.lane.moveTo(4);
  chain.resume();
  await chain.append(11, 12);
  await waitFor("the rest to arrive", () => chain.lane.position === 12);
  assert.deepEqual(await landed(redis), numbers(1, 12));
});

test("waits for room in the landing, says how full it is, and then goes on by itself", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { up, pos } = landingKeys(GATEWAY);
  await redis.client.hset(pos, "bytes_max", 20_000);
  const { lane, append, sender } = await startSender(t, redis);
  for (let from = 1; from <= 3_000; from += 300) await append(from, from + 299);
  await waitFor("the landing to be full", () => sender.status().state === "waiting", 10_000);
  assert.match(sender.status().why, /no room for this gateway: it holds \d+ of 20000 bytes/);
  const held = lane.position;
  assert.ok(held > 0 && held < 3_000, `${held}`);
  const before = await landed(redis);
  assert.deepEqual(before, numbers(1, held));
  await redis.client.hset(pos, "bytes_max", 1_000_000);
  await waitFor("the rest to arrive", () => lane.position === 3_000, 40_000);
  assert.deepEqual(await landed(redis), numbers(1, 3_000));
  assert.ok((await redis.client.xlen(up)) > 1);
  await waitFor("it to say so", () => sender.status().state === "online");
});

test("waits while the landing's Redis has no memory left, and then goes on by itself", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { lane, append, sender } = await startSender(t, redis);
  await append(1, 5);
  await waitFor("it to be online", () => lane.position === 5);
  await redis.client.config("SET", "maxmemory", "1mb");
  await append(6, 10);
  await waitFor("it to wait", () => sender.status().state === "waiting", 10_000);
  assert.match(sender.status().why, /^landing: Redis has no memory left .*maxmemory/);
  await redis.client.config("SET", "maxmemory", "0");
  await waitFor("the rest to arrive", () => lane.position === 10, 40_000);
  assert.deepEqual(await landed(redis), numbers(1, 10));
});

test("reaches the landing by its second address while the first is dead, and says so", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const dead = { ...redis, url: [`redis://127.0.0.1:${await freePort()}`, redis.url] };
  const { lane, append, sender } = await startSender(t, dead);
  await append(1, 5);
  await waitFor("all to arrive", () => lane.position === 5);
  assert.equal(sender.status().cloud, new URL(redis.url).host);
});

test("says what is wrong: no library, wrong password, nobody there", async (t) => {
  const redis = await startRedis(t);
  const { sender } = await startSender(t, redis);
  await waitFor("the reason", () => /function library/.test(sender.status().why));
  assert.equal(sender.status().state, "waiting");
  const missing = Landing.connect({ url: "redis://127.0.0.1:1" }, GATEWAY);
  await assert.rejects(missing, { code: "CLOUD_UNREACHABLE", message: /ECONNREFUSED/ });
});

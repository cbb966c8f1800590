import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { encodeFrame } from "#contract/frame";
import { LANDING_FUNCTIONS, landingKeys } from "#contract/landing";
import { decodeRecord, encodeMessage, type Message } from "#contract/message";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { SettingsSchema } from "#runtime/settings-schema";
import { Ingest } from "../../../broker/ingest/ingest.ts";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { type RedisServer, startRedis } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";

const log = createLog({ level: "error", process: "test" });
log.level = "silent";

/** Longer than the time between two claims, so that the next entry finds a claim due. */
const CLAIM_IS_DUE_MS = 1_200;

function messageOf(seq: number): Message {
  const payload = new TextEncoder().encode(String(seq));
  return { topic: "t", payload, qos: 1, retain: false, takenAtMs: 1 };
}

function frameOf(seq: number, extras: Partial<Message> = {}): Buffer {
  return Buffer.from(encodeFrame(seq, [encodeMessage({ ...messageOf(seq), ...extras })]));
}

function runIngest(
  t: TestContext,
  landing: RedisServer,
  cluster: RedisServer,
  deliver: (message: Message) => Promise<void>,
): Ingest {
  const { ingest: settings } = v.parse(SettingsSchema, {
    ...{ role: "cloud", name: "cloud-1" },
    ...{ landing: { url: landing.url }, cluster: { url: cluster.url } },
  });
  const ingest = new Ingest({
    landing: { url: landing.url },
    cluster: { url: cluster.url },
    settings,
    publisher: () => {
      let before = Promise.resolve();
      return (message) => {
        before = before.then(() => deliver(message));
        return before;
      };
    },
    log,
    metrics: new Metrics(),
  });
  const running = ingest.run();
  t.after(async () => {
    await ingest.stop();
    await running;
  });
  return ingest;
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
  let isForgotten = false;
  runIngest(t, landing, cluster, async ({ topic, payload }) => {
    if (topic !== "from/gw-001/t") return;
    delivered.push(new TextDecoder().decode(payload));
    if (isForgotten) return;
    // The first message is queued, and then the cluster Redis is emptied and cut off.
    await cluster.client.flushall();
    await cluster.client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    isForgotten = true;
    await sleep(CLAIM_IS_DUE_MS);
  });
  await waitFor("the first one once more", () => delivered.indexOf("1", 1) > 0, 15_000);
  await waitFor("the last message", () => delivered.at(-1) === "3", 15_000);
  // What was on its way behind the first one may have been handed on before that was noticed.
  assert.deepEqual(delivered.slice(delivered.indexOf("1", 1)), ["1", "2", "3"]);
});

test("tells expiry by the cluster's clock, whatever the gateway's clock says", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  await loadLandingLibrary(landing.client);
  const { up, pos } = landingKeys("gw-001");
  // A board without a battery: its clock began in 1970.
  const sentMs = 5_000;
  const append = (seq: number, expiresAtMs: number) => {
    const args = ["default", 7, seq - 1, seq, frameOf(seq, { expiresAtMs }), sentMs] as const;
    return landing.client.call("FCALL", LANDING_FUNCTIONS.append, 2, up, pos, ...args);
  };
  await append(1, sentMs - 1);
  const beforeMs = Date.now();
  await append(2, sentMs + 60_000);
  const afterMs = Date.now();
  const delivered: Message[] = [];
  runIngest(t, landing, cluster, async (message) => {
    if (message.topic === "from/gw-001/t") delivered.push(message);
  });
  await waitFor("the message that lives on", () => delivered.length > 0);
  assert.deepEqual(
    delivered.map(({ payload }) => new TextDecoder().decode(payload)),
    ["2"],
  );
  const expiresAtMs = delivered[0]?.expiresAtMs ?? 0;
  assert.ok(expiresAtMs >= beforeMs + 60_000 && expiresAtMs <= afterMs + 60_000);
});

test("sends a command with its expiry and properties, and without the publisher's name", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  const { down, pos } = landingKeys("gw-001");
  await landing.client.hset(pos, "seen_ms", 1);
  const ingest = runIngest(t, landing, cluster, async () => {});
  await waitFor("the landing", () => ingest.unavailable() === undefined);
  const passedOn = { ...messageOf(1), expiresAtMs: 9_000, properties: Buffer.from([1, 1]) };
  await ingest.takeCommand({ ...passedOn, topic: "to/gw-001/set", publisher: "app" });
  const [entry] = await landing.client.xrangeBuffer(down, "-", "+");
  const { kind, ...decoded } = decodeRecord(entry?.[1][1] ?? Buffer.alloc(0));
  assert.equal(kind, "message");
  const message = { ...passedOn, topic: "set", payload: Buffer.from("1") };
  assert.deepEqual(decoded, { message });
});

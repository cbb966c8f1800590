import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { encodeFrame } from "#contract/frame";
import { LANDING_FUNCTIONS, landingKeys } from "#contract/landing";
import { decodeRecord, encodeMessage, type Message } from "#contract/message";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { SettingsSchema } from "#runtime/settings-schema";
import { loadCheckpoint } from "../../../broker/ingest/checkpoints.ts";
import { Ingest } from "../../../broker/ingest/ingest.ts";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { leaseKey, partitionOf } from "../../../broker/ingest/leases.ts";
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

type Deliver = (message: Message) => Promise<void>;

interface Running {
  readonly ingest: Ingest;
  readonly metrics: Metrics;
  stop(): Promise<void>;
}

function startIngest(
  t: TestContext,
  landing: RedisServer,
  cluster: RedisServer,
  deliver: Deliver,
  more: Record<string, number> = {},
): Running {
  const { ingest: settings } = v.parse(SettingsSchema, {
    ...{ role: "cloud", name: "cloud-1", ingest: more },
    ...{ landing: { url: landing.url }, cluster: { url: cluster.url } },
  });
  const metrics = new Metrics();
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
    hold: () => undefined,
    log,
    metrics,
  });
  const running = ingest.run();
  const stop = async () => {
    await ingest.stop();
    await running;
  };
  t.after(stop);
  return { ingest, metrics, stop };
}

const runIngest = (...args: Parameters<typeof startIngest>): Ingest => startIngest(...args).ingest;

const textOf = ({ payload }: Message) => new TextDecoder().decode(payload);

/** Appends a frame of one message each as the gateway's sender would. */
async function append(
  { client }: RedisServer,
  gateway: string,
  from: number,
  to = from,
  extras: Partial<Message> = {},
): Promise<void> {
  await loadLandingLibrary(client);
  const { up, pos } = landingKeys(gateway);
  for (let seq = from; seq <= to; seq += 1) {
    const args = ["default", 7, seq - 1, seq, frameOf(seq, extras)] as const;
    await client.call("FCALL", LANDING_FUNCTIONS.append, 2, up, pos, ...args);
  }
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

test("a record that cannot be handed on goes to the dead letters, and delays no other gateway", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  await append(landing, "gw-001", 1, 1, { topic: "bad" });
  await append(landing, "gw-001", 2, 3);
  await append(landing, "gw-002", 1);
  const delivered: string[] = [];
  let triesOfBad = 0;
  const { metrics } = startIngest(t, landing, cluster, async (message) => {
    if (message.topic.endsWith("sluice/status")) return;
    if (message.topic === "from/gw-001/bad" && ++triesOfBad) throw new TypeError("no queue");
    delivered.push(`${message.topic} ${textOf(message)}`);
  });
  await waitFor("the first try", () => triesOfBad === 1);
  for (let seq = 2; seq <= 20; seq += 1) {
    const sinceMs = performance.now();
    await append(landing, "gw-002", seq);
    await waitFor(`gw-002's ${seq}`, () => delivered.includes(`from/gw-002/t ${seq}`));
    const tookMs = performance.now() - sinceMs;
    assert.ok(tookMs < 1_000, `${tookMs} ms`);
  }
  await waitFor("what is behind it", () => delivered.includes("from/gw-001/t 3"));
  assert.equal(triesOfBad, 3);
  assert.equal(metrics.total("sluice_ingest_failures_total"), 3);
  const [letter, ...more] = await cluster.client.xrange("sluice:dead", "-", "+");
  assert.deepEqual(letter?.[1].slice(0, 6), [
    ...["gateway", "gw-001", "lane", "default", "epoch", "7"],
  ]);
  assert.deepEqual(letter?.[1].slice(8, 12), ["sequence", "1", "reason", "no queue"]);
  assert.deepEqual(more, []);
});

test("forgets nothing of the landing that the cluster does not have", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  const { up } = landingKeys("gw-001");
  const held = Promise.withResolvers<void>();
  t.after(() => held.resolve());
  const started = Promise.withResolvers<void>();
  await append(landing, "gw-001", 1);
  const { metrics } = startIngest(
    t,
    landing,
    cluster,
    async (message) => {
      if (textOf(message) !== "3") return;
      started.resolve();
      await held.promise;
    },
    { tail_seconds_max: 0 },
  );
  const length = () => landing.client.xlen(up);
  const taken = () => metrics.total("sluice_ingest_messages_total");
  // Ids of one millisecond are trimmed together.
  await waitFor("the first one", () => taken() === 1);
  await append(landing, "gw-001", 2);
  await waitFor("the older one to be trimmed", async () => (await length()) === 1);
  await append(landing, "gw-001", 3);
  await started.promise;
  await append(landing, "gw-001", 4);
  const trims = async () => {
    const info = await landing.client.info("commandstats");
    return Number(/cmdstat_xtrim:calls=(\d+)/.exec(info)?.[1]);
  };
  const before = await trims();
  await waitFor("leases to be renewed, and trimming", async () => (await trims()) > before + 4);
  assert.equal(await length(), 3, "what is on its way, and the one that the checkpoint names");
  held.resolve();
  await waitFor("the rest to be trimmed", async () => (await length()) === 1);
});

test("an owner that was frozen hands nothing on that another one has taken over", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  await append(landing, "gw-001", 1);
  const program = fileURLToPath(new URL("./ingest-process.ts", import.meta.url));
  const frozen = spawn(process.execPath, [program, landing.url, cluster.url, "2"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => frozen.kill("SIGKILL"));
  let said = "";
  frozen.stdout.on("data", (chunk) => {
    said += chunk;
  });
  await waitFor("the first owner", () => said === "1\n", 15_000);
  const checkpoint = () => cluster.client.hvals("sluice:ingest:gw-001");
  await waitFor("its checkpoint", async () =>
    (await checkpoint()).some((it) => /^\d+:1$/.test(it)),
  );
  frozen.kill("SIGSTOP");
  // What it waits for comes while it is frozen: it lies in its socket when it wakes up.
  await append(landing, "gw-001", 2, 10);
  const delivered: string[] = [];
  runIngest(t, landing, cluster, async (message) => {
    if (message.topic === "from/gw-001/t") delivered.push(textOf(message));
  });
  await waitFor("the second owner", () => delivered.at(-1) === "10", 15_000);
  frozen.kill("SIGCONT");
  await waitFor("the first one to be back", async () => {
    return (await cluster.client.zcard("sluice:nodes")) === 2;
  });
  await append(landing, "gw-001", 11);
  await waitFor("what comes then", () => `${delivered.at(-1)} ${said}`.includes("11"));
  assert.deepEqual(delivered.slice(0, 9), ["2", "3", "4", "5", "6", "7", "8", "9", "10"]);
  assert.ok(["1\n", "1\n11\n"].includes(said), `the first owner handed on ${said}`);
});

test("stopped in the middle, it saves what is on its way and leaves the rest to the next owner", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  await append(landing, "gw-001", 1, 3);
  const held = Promise.withResolvers<void>();
  t.after(() => held.resolve());
  const delivered: string[] = [];
  const started = Promise.withResolvers<void>();
  const { ingest } = startIngest(t, landing, cluster, async (message) => {
    if (message.topic !== "from/gw-001/t") return;
    delivered.push(textOf(message));
    started.resolve();
    await held.promise;
  });
  await started.promise;
  const stopping = ingest.stop();
  await append(landing, "gw-001", 4);
  held.resolve();
  await stopping;
  assert.deepEqual(delivered, ["1", "2", "3"]);
  const { lanes } = await loadCheckpoint(cluster.client, "gw-001");
  assert.deepEqual(lanes.get("default"), { epoch: 7, seq: 3 });
  assert.equal(await cluster.client.exists(leaseKey(partitionOf("gw-001"))), 0);
});

test("reads many gateways in turn, however much the first of them have to say", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  const names = Array.from({ length: 300 }, (_, index) => `gw-${index}`);
  for (const name of names) await append(landing, name, 1, 5);
  const delivered = new Map<string, string[]>();
  let mostAtLastFirst = 0;
  runIngest(t, landing, cluster, async (message) => {
    const [, gateway = "", ...rest] = message.topic.split("/");
    if (rest.join("/") !== "t") return;
    const isFirst = !delivered.has(gateway);
    delivered.set(gateway, [...(delivered.get(gateway) ?? []), textOf(message)]);
    if (!isFirst || delivered.size < names.length) return;
    mostAtLastFirst = Math.max(...[...delivered.values()].map((texts) => texts.length));
  });
  const isAll = () => names.every((name) => delivered.get(name)?.length === 5);
  await waitFor("all of them", isAll, 15_000);
  for (const texts of delivered.values()) assert.deepEqual(texts, ["1", "2", "3", "4", "5"]);
  assert.ok(mostAtLastFirst < 4, `${mostAtLastFirst} of one before the first of another`);
});

test("tells what either Redis is set to, until it is mended", async (t) => {
  const landing = await startRedis(t, "--maxmemory-policy", "allkeys-lru");
  const cluster = await startRedis(t, "--appendfsync", "everysec");
  const ingest = runIngest(t, landing, cluster, async () => {});
  await waitFor("the check", () => ingest.warnings().length > 0);
  const [evicts, ...more] = ingest.warnings();
  assert.match(
    evicts ?? "",
    /^landing Redis: allkeys-lru .*CONFIG SET maxmemory-policy noeviction$/,
  );
  assert.deepEqual(more, [
    "cluster Redis: a power cut may take its last second: CONFIG SET appendfsync always",
  ]);
  assert.equal(ingest.unavailable(), undefined, "frames are taken in all the same");
  await landing.client.config("SET", "maxmemory-policy", "noeviction");
  await cluster.client.config("SET", "appendfsync", "always");
  await waitFor("the next check", () => ingest.warnings().length === 0, 20_000);
});

test("says how far behind a gateway is, and what was lost of it", async (t) => {
  const [landing, cluster] = [await startRedis(t), await startRedis(t)];
  const held = Promise.withResolvers<void>();
  t.after(() => held.resolve());
  const ingest = runIngest(t, landing, cluster, async (message) => {
    if (textOf(message) === "2") await held.promise;
  });
  const status = () => ingest.status().gateways[0];
  await append(landing, "gw-001", 1);
  await waitFor("the first one", () => status()?.ingestedMessages === 1);
  await append(landing, "gw-001", 2);
  await waitFor("it to be behind", () => (status()?.behindMs ?? 0) > 0);
  held.resolve();
  await waitFor("it to have all", () => status()?.behindMs === 0);
  // A landing that was restored, and the gateway's tail with it: 3 to 5 are nowhere.
  await landing.client.hset(landingKeys("gw-001").pos, "lane:default", "7:5");
  await append(landing, "gw-001", 6);
  await waitFor("the next one", () => status()?.ingestedMessages === 3);
  assert.deepEqual(
    [status()?.lostMessages, status()?.missingMessages, status()?.deadLetters],
    [3, {}, 0],
  );
});

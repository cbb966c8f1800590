// full-disk.test: on a disk that is full, broken or read-only nothing is promised, and all else goes on.
// Path: journeys → gateway on a disk that fails. Touches: what those touch.

import assert from "node:assert/strict";
import { appendFileSync, rmSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { loadLandingLibrary } from "../../broker/ingest/landing-library.ts";
import type { DiskFault } from "../../scripts/disk-shim/disk-shim.ts";
import { fresh, WireClient } from "../conformance/support/wire-client.ts";
import { startRedis } from "../support/redis-server.ts";
import { waitFor } from "../support/wait-for.ts";
import { Site } from "./support/site.ts";

const MESSAGES = 500;
/** From which reason code on a PUBACK says no (MQTT 5.0 §2.4). */
const REFUSED_FROM = 0x80;
/** How soon it serves again by itself. */
const RESUME_MS_MAX = 10_000;
/** What a disk that fills up still takes: the fault comes in the middle of a write. */
const BYTES_LEFT = 10_000;

const FAULTS: readonly [DiskFault, string, RegExp][] = [
  ["full", "is full", /no space left/i],
  ["io", "fails", /(input\/output|i\/o) error/i],
  ["readonly", "is read-only", /read-only file system/i],
];

/** A file system of its own, that nobody else sees; needs root. */
const ON_TMPFS = (data: string) => [
  ...["unshare", "--mount", "sh", "-c"],
  ...['mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@"', data],
];
const CHUNK = Buffer.alloc(4_096);
/** The reserve of the lane would be more than the whole file system. */
const NO_RESERVE = { outbox: { lanes: [{ name: "default", disk_free_bytes_min: 0 }] } };

for (const [fault, what, why] of FAULTS) {
  test(`a gateway whose disk ${what} acknowledges nothing, says why, and goes on by itself`, async (t) => {
    const redis = await startRedis(t);
    await loadLandingLibrary(redis.client);
    const site = await Site.open(t, { uplink: { url: redis.url } });
    await assertResumes(t, site, why, {
      begin: () => site.shim.set({ fault, bytesLeft: BYTES_LEFT }),
      end: () => site.shim.set({}),
    });
    await site.assertLanded(redis);
    // What a restart reads is what was told while it ran.
    await site.kill();
    await site.start();
    await site.assertQueued();
    await site.assertRetained();
  });
}

if (process.env.SLUICE_TEST_LONG === "1" && process.getuid?.() === 0) {
  test("so does one on a real file system that is full", async (t) => {
    const redis = await startRedis(t);
    await loadLandingLibrary(redis.client);
    const site = await Site.open(t, { uplink: { url: redis.url }, ...NO_RESERVE }, ON_TMPFS);
    // As the gateway sees it.
    const filler = `/proc/${site.gateway.child.pid}/root${site.shim.folder}/filler`;
    await assertResumes(t, site, /no space left/i, {
      begin: () => fillUp(filler),
      end: () => rmSync(filler),
    });
    await site.assertLanded(redis);
    await site.assertQueued();
    await site.assertRetained();
  });
}

/** Writes to `file` until there is no room for a byte. */
function fillUp(file: string): void {
  try {
    for (;;) appendFileSync(file, CHUNK);
  } catch (fault) {
    assert.equal((fault as NodeJS.ErrnoException).code, "ENOSPC");
  }
}

/** Under load, a disk that fails and is well again, while the gateway's process lives on. */
async function assertResumes(
  t: TestContext,
  site: Site,
  why: RegExp,
  fault: { begin(): void; end(): void },
): Promise<void> {
  const { pid } = site.gateway.child;
  await site.acknowledges(MESSAGES);
  fault.begin();
  await waitFor("the gateway to say why", () => saysWhy(site, why));
  assert.match(await site.gateway.metrics(), /^sluice_store_writable 0$/m);
  await assertRefused(t, site);
  await assertQos0(t, site);

  fault.end();
  await waitFor("an acknowledgement", () => isTaken(t, site), RESUME_MS_MAX);
  assert.ok(!(await saysWhy(site, why)), "it has nothing to complain of");
  assert.match(await site.gateway.metrics(), /^sluice_store_writable 1$/m);
  await site.acknowledges(MESSAGES);
  await site.rest();
  assert.equal(site.gateway.child.pid, pid);
}

async function saysWhy(site: Site, why: RegExp): Promise<boolean> {
  return (await site.gateway.status())?.reasons.some((reason) => why.test(reason)) ?? false;
}

/** In 5.0 with a reason code; 3.1.1 has no word for it but the end of the connection. */
async function assertRefused(t: TestContext, { port }: Site): Promise<void> {
  for (const qos of [1, 2]) {
    const five = await WireClient.connect(t, port, { version: 5 });
    const answer = await five.publish("refused", "x", { qos });
    assert.ok(answer && answer.code >= REFUSED_FROM, `QoS ${qos}: ${answer?.code}`);
    await five.disconnect();
    const four = await WireClient.connect(t, port);
    four.sendPublish({ topic: "refused", payload: "x", qos, packetId: 7 });
    assert.deepEqual(await four.closed(), [], `QoS ${qos} of 3.1.1`);
  }
}

async function assertQos0(t: TestContext, { port }: Site): Promise<void> {
  const topic = fresh("live");
  const subscriber = await WireClient.connect(t, port);
  await subscriber.subscribe(topic, 0);
  const publisher = await WireClient.connect(t, port);
  await publisher.publish(topic, "goes on", { qos: 0 });
  await subscriber.expect("publish", { topic, payload: "goes on", qos: 0 });
}

async function isTaken(t: TestContext, { port }: Site): Promise<boolean> {
  const client = await WireClient.connect(t, port, { version: 5 });
  const answer = await client.publish("taken", "x", { qos: 1 });
  client.cut();
  return answer !== undefined && answer.code < REFUSED_FROM;
}

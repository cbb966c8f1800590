// power-cut.test: what was acknowledged outlives the power, of the gateway and of the landing.
// Path: journeys → gateway, chain, on a disk that forgets what was not synced. Touches: what those do.

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { StatusDocument } from "#contract/status";
import { loadLandingLibrary } from "../../broker/ingest/landing-library.ts";
import { DiskShim } from "../../scripts/disk-shim/disk-shim.ts";
import { Device } from "../../scripts/ordeal/device.ts";
import { Random } from "../../scripts/ordeal/random.ts";
import { startRedis } from "../support/redis-server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { waitFor } from "../support/wait-for.ts";
import { assertLandedOnce, connectCloud, type Received, startChain } from "./support/journey.ts";
import { ARRIVE_MS_MAX, Site } from "./support/site.ts";

const SEED = 20_261_125;
const CUTS = 6;
const MESSAGES_LEAST = 400;
const MESSAGES_MORE = 1_200;
const DELAY_MS_MORE = 40;
const NEVER_MS = 3_600_000;

/** Cuts the power of a gateway under load, with the kept session's client there or away. */
async function cutAgainAndAgain(t: TestContext, site: Site): Promise<void> {
  const random = new Random(SEED);
  for (let cut = 0; cut < CUTS; cut += 1) {
    await site.acknowledges(MESSAGES_LEAST + random.int(MESSAGES_MORE));
    await sleep(random.int(DELAY_MS_MORE));
    await site.kill();
    const lostAs = cut % 2 === 0 ? "missing" : "zeros";
    const lost = site.shim.cutPower((below) => random.int(below), lostAs);
    t.diagnostic(`${lost.bytes} bytes of ${lost.files} files are ${lostAs}`);
    await site.start();
    if (cut % 3 > 0) await site.attend();
  }
  await site.rest();
}

test("a gateway that stands alone keeps what it acknowledged through power cuts", async (t) => {
  const site = await Site.open(t, {});
  await cutAgainAndAgain(t, site);
  await site.assertQueued();
  await site.assertRetained();
  t.diagnostic(`${site.acknowledged} acknowledged, ${CUTS} cuts, 0 lost`);
});

test("what a gateway acknowledged through power cuts reaches a landing that comes back", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  await redis.kill();
  const site = await Site.open(t, { uplink: { url: redis.url } });
  await cutAgainAndAgain(t, site);
  await redis.start();
  await site.assertLanded(redis);
  await site.assertQueued();
  await site.assertRetained();
  t.diagnostic(`${site.acknowledged} acknowledged, ${CUTS} cuts, 0 lost`);
});

test("what the landing forgets in a power cut comes again from the gateway's tail", async (t) => {
  const folder = temporaryFolder(t);
  const shim = new DiskShim(join(folder, "data/landing"), join(folder, "disk"));
  const environment = { landing: shim.env };
  const chain = await startChain(t, { folder, environment, deviceIntervalMs: 3_600_000 });
  const received: Received[] = [];
  const consumer = await connectCloud(t, chain, { clientId: "consumer", clean: false, received });
  await consumer.subscribeAsync("from/gw-001/cut", { qos: 1 });
  const pace = { windowMax: 100, everyMs: 5, burstMax: 5 };
  const identity = { clientId: "device", topic: "cut", qos: 1, version: 4 } as const;
  const device = new Device({ port: chain.ports.gateway, ...identity, ...pace });
  t.after(() => device.end());
  const firsts = () => [...new Set(received.map(({ payload }) => Number(payload)))];
  const flows = async (count: number) => {
    const until = device.sent + count;
    await waitFor(`${until} to arrive`, () => Number(firsts().at(-1)) >= until, ARRIVE_MS_MAX);
  };

  await flows(500);
  // Its last sync does not end before the cut, as everysec allows for a second.
  shim.set({ slowMs: NEVER_MS });
  await flows(500);
  const landing = chain.part("landing");
  await landing.stop("SIGKILL");
  const cut = shim.cutPower(() => 0);
  shim.set({});
  await landing.start();
  await flows(500);
  device.pause();
  await waitFor("the last acknowledgement", () => device.isIdle, ARRIVE_MS_MAX);
  await waitFor("all to arrive", () => firsts().at(-1) === device.sent, ARRIVE_MS_MAX);

  assert.ok(cut.bytes > 0, "the landing has lost something");
  const status = await fetch(`http://127.0.0.1:${chain.ports.gatewayStatus}/status.json`);
  const { uplink } = (await status.json()) as StatusDocument;
  assert.ok((uplink?.rewinds ?? 0) > 0, "the gateway has noticed");
  const all = Array.from({ length: device.sent }, (_, index) => index + 1);
  assert.deepEqual(firsts(), all, "each arrives, in order of first arrival");
  await assertLandedOnce(chain);
  t.diagnostic(`${cut.bytes} bytes lost, ${uplink?.rewinds} rewinds, ${received.length} received`);
});

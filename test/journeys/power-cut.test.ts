// power-cut.test: what was acknowledged outlives the power, of the gateway and of the landing.
// Path: journeys → gateway, chain, on a disk that forgets what was not synced. Touches: what those do.

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { MqttClient } from "mqtt";
import type { StatusDocument } from "#contract/status";
import { loadLandingLibrary } from "../../broker/ingest/landing-library.ts";
import { DiskShim, type LostAs } from "../../scripts/disk-shim/disk-shim.ts";
import { Device } from "../../scripts/torture/device.ts";
import { Random } from "../../scripts/torture/random.ts";
import { type RedisServer, startRedis } from "../support/redis-server.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { waitFor } from "../support/wait-for.ts";
import { freePlace, type Gateway, type Place, startGateway } from "./support/gateway.ts";
import {
  assertLandedOnce,
  assertOnce,
  connectCloud,
  connectTo,
  landedIn,
  type Received,
  startChain,
} from "./support/journey.ts";

const SEED = 20_261_125;
const CUTS = 6;
const MESSAGES_BEFORE_CUT_LEAST = 400;
const MESSAGES_BEFORE_CUT_MORE = 1_200;
const DELAY_MS_MORE = 40;
const NEVER_MS = 3_600_000;
const READY_MS_MAX = 20_000;
const ARRIVE_MS_MAX = 60_000;

const DEVICES = [
  { topic: "plain/1", qos: 1, version: 4 },
  { topic: "plain/2", qos: 2, version: 5 },
  { topic: "plain/3", qos: 2, version: 4 },
  { topic: "state/1", qos: 1, version: 5, retain: true },
  { topic: "state/2", qos: 2, version: 4, retain: true },
] as const;

/** A gateway whose disk can be cut off, its devices, and a session that is kept there. */
class Site {
  readonly shim: DiskShim;
  readonly devices: Device[] = [];
  /** What the kept session was given, over all its connections. */
  readonly received: Received[] = [];
  readonly #t: TestContext;
  readonly #place: Place;
  readonly #more: Record<string, unknown>;
  readonly #random = new Random(SEED);
  #gateway: Gateway | undefined;
  #kept: MqttClient | undefined;

  private constructor(t: TestContext, place: Place, more: Record<string, unknown>) {
    this.#t = t;
    this.#place = place;
    this.#more = more;
    this.shim = new DiskShim(join(place.folder, "data"), join(place.folder, "disk"));
  }

  static async open(t: TestContext, more: Record<string, unknown>): Promise<Site> {
    const site = new Site(t, await freePlace(t), more);
    await site.start();
    await site.attend();
    await site.#kept?.subscribeAsync("#", { qos: 1 });
    for (const device of DEVICES) {
      const clientId = `device-${device.topic}`;
      const pace = { windowMax: 200, everyMs: 5, burstMax: 50 };
      site.devices.push(new Device({ port: site.#place.mqttPort, clientId, ...device, ...pace }));
    }
    t.after(() => site.end());
    return site;
  }

  get #url(): string {
    return `mqtt://127.0.0.1:${this.#place.mqttPort}`;
  }

  get acknowledged(): number {
    return this.devices.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0);
  }

  async start(): Promise<void> {
    this.#gateway = startGateway(this.#t, this.#place, this.#more, this.shim.env);
    const gateway = this.#gateway;
    const isReady = () => {
      assert.equal(gateway.child.exitCode, null, gateway.output());
      return gateway.status();
    };
    await waitFor("the gateway", isReady, READY_MS_MAX);
  }

  /** The kept session's client comes. */
  async attend(): Promise<void> {
    const options = { clientId: "kept", clean: false, reconnectPeriod: 0 };
    this.#kept = await connectTo(this.#t, this.#url, { ...options, received: this.received });
  }

  /** The power goes at a moment that chance chooses. */
  async cutPower(lostAs: LostAs): Promise<void> {
    const random = this.#random;
    const until =
      this.acknowledged + MESSAGES_BEFORE_CUT_LEAST + random.int(MESSAGES_BEFORE_CUT_MORE);
    await waitFor("messages to cut", () => this.acknowledged >= until, ARRIVE_MS_MAX);
    await sleep(random.int(DELAY_MS_MORE));
    this.#gateway?.child.kill("SIGKILL");
    await this.#gateway?.exited;
    await this.#kept?.endAsync(true);
    const cut = this.shim.cutPower((below) => random.int(below), lostAs);
    this.#t.diagnostic(`cut of ${cut.bytes} bytes in ${cut.files} files`);
  }

  /** Does nothing wait for the cloud any more? */
  async isDrained(): Promise<boolean> {
    const { outbox = [] } = (await this.#gateway?.status()) ?? {};
    return outbox.length > 0 && outbox.every(({ waitingMessages }) => waitingMessages === 0);
  }

  /** Cuts the power several times, with the kept session's client there or away. */
  async cutAgainAndAgain(): Promise<void> {
    for (let cut = 0; cut < CUTS; cut += 1) {
      await this.cutPower(cut % 2 === 0 ? "missing" : "zeros");
      await this.start();
      if (cut % 3 > 0) await this.attend();
    }
    for (const device of this.devices) device.pause();
    const isIdle = () => this.devices.every((device) => device.isIdle);
    await waitFor("the devices' last acknowledgements", isIdle, ARRIVE_MS_MAX);
  }

  /** All that was acknowledged is among `payloads` of each topic, in order of first arrival. */
  assertHeld(
    payloadsOf: (topic: string) => readonly string[],
    times: "once" | "at least once",
  ): void {
    for (const { topic, qos, acknowledged } of this.devices) {
      const payloads = payloadsOf(topic);
      const firsts = new Set(payloads.map(Number));
      const lost = [...acknowledged].filter((number) => !firsts.has(number));
      const which = `${topic}: of ${acknowledged.size} are lost ${lost.length}: ${lost.slice(0, 9)}`;
      assert.equal(lost.length, 0, which);
      const order = [...firsts];
      assert.deepEqual(
        order,
        order.toSorted((a, b) => a - b),
        `${topic} is out of order`,
      );
      // What is sent again at QoS 2 is known by its packet id.
      if (times === "once" && qos === 2) assert.equal(payloads.length, firsts.size, topic);
    }
  }

  /** The kept session gets, in the end, all that was acknowledged. */
  async assertQueued(): Promise<void> {
    await this.#kept?.endAsync(true);
    await this.attend();
    const payloads = (topic: string) =>
      this.received.filter((it) => it.topic === topic).map(({ payload }) => payload);
    const isThere = () =>
      this.devices.every(({ topic, sent }) => Number(payloads(topic).at(-1)) === sent);
    // Who is too late is found missing below.
    await waitFor("the queue to end", isThere, ARRIVE_MS_MAX).catch(() => {});
    this.assertHeld(payloads, "at least once");
  }

  /** What a topic retains is not older than what was acknowledged last. */
  async assertRetained(): Promise<void> {
    const received: Received[] = [];
    const client = await connectTo(this.#t, this.#url, { received });
    await client.subscribeAsync("state/#", { qos: 1 });
    const states = this.devices.filter(({ topic }) => topic.startsWith("state/"));
    await waitFor("what is retained", () => received.length >= states.length);
    for (const { topic, acknowledged } of states) {
      const retained = received.find((it) => it.topic === topic && it.retain)?.payload;
      assert.ok(Number(retained) >= Math.max(...acknowledged), `${topic} retains ${retained}`);
    }
  }

  async end(): Promise<void> {
    await this.#kept?.endAsync(true);
    for (const device of this.devices) device.end();
  }
}

test("a gateway that stands alone keeps what it acknowledged through power cuts", async (t) => {
  const site = await Site.open(t, {});
  await site.cutAgainAndAgain();
  await site.assertQueued();
  await site.assertRetained();
  t.diagnostic(`${site.acknowledged} acknowledged, ${CUTS} cuts, 0 lost`);
});

test("what a gateway acknowledged through power cuts reaches a landing that comes back", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  await redis.kill();
  const site = await Site.open(t, { uplink: { url: redis.url, probe_seconds: 1 } });
  await site.cutAgainAndAgain();
  await redis.start();
  await assertLanded(site, redis);
  await site.assertQueued();
  await site.assertRetained();
  t.diagnostic(`${site.acknowledged} acknowledged, ${CUTS} cuts, 0 lost`);
});

async function assertLanded(site: Site, { client }: RedisServer): Promise<void> {
  await waitFor("the outbox to drain", () => site.isDrained(), ARRIVE_MS_MAX);
  const records = await landedIn(client, "gw-001");
  assertOnce(records);
  const payloads = (topic: string) =>
    records.flatMap(({ record }) =>
      record.kind === "message" && record.message.topic === topic
        ? [new TextDecoder().decode(record.message.payload)]
        : [],
    );
  site.assertHeld(payloads, "once");
}

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

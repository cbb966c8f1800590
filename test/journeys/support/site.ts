// site: one gateway on a disk that can fail, devices that load it, and a session that is kept there.
// Path: journeys → [site] → gateway, disk-shim, devices. Touches: what those touch.

import assert from "node:assert/strict";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { MqttClient } from "mqtt";
import { DiskShim } from "../../../scripts/disk-shim/disk-shim.ts";
import { Device } from "../../../scripts/ordeal/device.ts";
import { landedIn } from "../../../scripts/ordeal/landed.ts";
import type { RedisServer } from "../../support/redis-server.ts";
import { waitFor } from "../../support/wait-for.ts";
import { freePlace, type Gateway, type Place, startGateway } from "./gateway.ts";
import { assertOnce, connectTo, type Received } from "./journey.ts";

const READY_MS_MAX = 20_000;
export const ARRIVE_MS_MAX = 60_000;

/** QoS 1 and 2, 3.1.1 and 5.0, with and without RETAIN. */
const DEVICES = [
  { topic: "plain/1", qos: 1, version: 4 },
  { topic: "plain/2", qos: 2, version: 5 },
  { topic: "plain/3", qos: 2, version: 4 },
  { topic: "state/1", qos: 1, version: 5, retain: true },
  { topic: "state/2", qos: 2, version: 4, retain: true },
] as const;

/** The command, for a data folder, within which a gateway runs (see startGateway). */
export type Within = (data: string) => readonly string[];

/** A gateway whose disk can be cut off, its devices, and a session that is kept there. */
export class Site {
  readonly shim: DiskShim;
  readonly devices: Device[] = [];
  /** What the kept session was given, over all its connections. */
  readonly received: Received[] = [];
  readonly #t: TestContext;
  readonly #place: Place;
  readonly #more: Record<string, unknown>;
  readonly #within: readonly string[];
  #gateway: Gateway | undefined;
  #kept: MqttClient | undefined;

  private constructor(t: TestContext, place: Place, more: Record<string, unknown>, within: Within) {
    this.#t = t;
    this.#place = place;
    this.#more = more;
    this.shim = new DiskShim(join(place.folder, "data"), join(place.folder, "disk"));
    this.#within = within(this.shim.folder);
  }

  /** With `more` laid over the gateway's settings. */
  static async open(
    t: TestContext,
    more: Record<string, unknown>,
    within: Within = () => [],
  ): Promise<Site> {
    const site = new Site(t, await freePlace(t), more, within);
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

  get gateway(): Gateway {
    assert.ok(this.#gateway, "the gateway was started");
    return this.#gateway;
  }

  get port(): number {
    return this.#place.mqttPort;
  }

  get #url(): string {
    return `mqtt://127.0.0.1:${this.#place.mqttPort}`;
  }

  get acknowledged(): number {
    return this.devices.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0);
  }

  async start(): Promise<void> {
    this.#gateway = startGateway(
      ...[this.#t, this.#place, this.#more, this.shim.env, this.#within],
    );
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

  /** SIGKILL: what is not with the operating system yet is gone. */
  async kill(): Promise<void> {
    this.#gateway?.child.kill("SIGKILL");
    await this.#gateway?.exited;
    await this.#kept?.endAsync(true);
  }

  /** Does nothing wait for the cloud any more? */
  async isDrained(): Promise<boolean> {
    const { outbox = [] } = (await this.#gateway?.status()) ?? {};
    return outbox.length > 0 && outbox.every(({ waitingMessages }) => waitingMessages === 0);
  }

  /** Resolves when so many messages more are acknowledged. */
  async acknowledges(more: number): Promise<void> {
    const until = this.acknowledged + more;
    await waitFor(`${more} acknowledgements`, () => this.acknowledged >= until, ARRIVE_MS_MAX);
  }

  /** The devices publish no more; resolves when all that they have published is answered. */
  async rest(): Promise<void> {
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
      this.devices.every(({ topic, acknowledged }) => {
        return Number(payloads(topic).at(-1)) >= Math.max(...acknowledged);
      });
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

  /** The landing gets all that was acknowledged, each sequence once. */
  async assertLanded({ client }: RedisServer): Promise<void> {
    await waitFor("the outbox to drain", () => this.isDrained(), ARRIVE_MS_MAX);
    const records = await landedIn(client, "gw-001");
    assertOnce(records);
    const payloads = (topic: string) =>
      records.flatMap(({ record }) =>
        record.kind === "message" && record.message.topic === topic
          ? [new TextDecoder().decode(record.message.payload)]
          : [],
      );
    this.assertHeld(payloads, "once");
  }

  async end(): Promise<void> {
    await this.#kept?.endAsync(true);
    for (const device of this.devices) device.end();
  }
}

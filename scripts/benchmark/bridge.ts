// bridge: an edge broker, and the upstream that it bridges to: mosquitto's two, or Sluice's chain.
// Path: outage, bridged → [bridge] → broker-process, chain. Touches: what those touch.

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { landingKeys, POS_FIELDS, parsePosition } from "#contract/landing";
import { Chain } from "../chain/chain.ts";
import { GATEWAY } from "../chain/folder.ts";
import { freePorts, freeRun } from "../chain/ports.ts";
import { BrokerProcess } from "./broker-process.ts";
import { BenchFailure } from "./failure.ts";
import { startLoad } from "./load-process.ts";
import { moveTo } from "./machine.ts";
import type { Site } from "./scenario.ts";

/** What a supervisor waits until it starts a dead broker again, as scripts/chain does. */
const RESTART_MS = 1_000;
const CAUGHT_UP_MS_MAX = 120_000;
const LOOK_MS = 10;
/** Nobody's device is to talk while we measure. */
const NEVER_MS = 3_600_000;

/** "apart": the edge has a core of its own, all else the other; "together": all share both. */
export type Cast = "apart" | "together";

export interface Bridge {
  readonly edge: { readonly port: number; readonly pid: number };
  /** Where a consumer gets what came over. */
  readonly consumer: { readonly port: number; readonly filter: string; readonly caFile?: string };
  /** What it resolves with resolves when the upstream has so many messages more. */
  expect(messages: number): Promise<() => Promise<void>>;
  networkOff(): Promise<void>;
  networkOn(): Promise<void>;
  /** Kills the edge, without a warning, and resolves when it runs again. */
  killEdge(): Promise<void>;
  stop(): Promise<void>;
}

/** The options of mosquitto's own bridges, with which it loses nothing that it keeps. */
function bridgeLines(folder: string, upstreamPort: number): string[] {
  return [
    "persistence true",
    `persistence_location ${folder}/`,
    "connection upstream",
    `address 127.0.0.1:${upstreamPort}`,
    "topic bench/in/# out 1",
    "cleansession false",
    "clientid bench-edge",
    "notifications false",
    "try_private true",
    "bridge_attempt_unsubscribe false",
  ];
}

/** A mosquitto that bridges to where nothing is: all of it waits. */
export function unreachableMosquitto(folder: string): string[] {
  return bridgeLines(folder, 1);
}

/** How its two processes are started, each time on the same port, with the data that it had. */
interface Starts {
  edge(): Promise<BrokerProcess>;
  upstream(): Promise<BrokerProcess>;
}

async function startsOf(
  { folder, cacheFolder, cores, signal }: Site,
  cast: Cast,
  edgeLines: readonly string[],
): Promise<Starts> {
  const port = await freeRun(4);
  const both = cores && [cores.broker, cores.load];
  const start = (part: string, own: number | undefined, at: number, mosquitto: string[]) =>
    BrokerProcess.start({
      ...{ name: "mosquitto", folder: join(folder, part), port: at, cacheFolder, signal },
      cores: cast === "together" || own === undefined ? both : [own],
      setup: { mosquitto },
    });
  const lines = [...bridgeLines(join(folder, "edge"), port + 2), ...edgeLines];
  return {
    edge: () => start("edge", cores?.broker, port, lines),
    upstream: () => start("upstream", cores?.load, port + 2, ["max_inflight_messages 0"]),
  };
}

export class MosquittoBridge implements Bridge {
  readonly #starts: Starts;
  readonly #signal: AbortSignal;
  #edge: BrokerProcess;
  #upstream: BrokerProcess;

  private constructor(
    starts: Starts,
    signal: AbortSignal,
    edge: BrokerProcess,
    upstream: BrokerProcess,
  ) {
    this.#starts = starts;
    this.#signal = signal;
    this.#edge = edge;
    this.#upstream = upstream;
  }

  /** `edgeLines` are laid upon the settings of the edge. */
  static async start(
    site: Site,
    cast: Cast,
    edgeLines: readonly string[] = [],
  ): Promise<MosquittoBridge> {
    const starts = await startsOf(site, cast, edgeLines);
    const upstream = await starts.upstream();
    try {
      return new MosquittoBridge(starts, site.signal, await starts.edge(), upstream);
    } catch (failure) {
      await upstream.stop();
      throw failure;
    }
  }

  get edge(): BrokerProcess {
    return this.#edge;
  }

  get consumer() {
    return { port: this.#upstream.port, filter: "bench/in/#" };
  }

  async expect(messages: number): Promise<() => Promise<void>> {
    const silentSecondsMax = CAUGHT_UP_MS_MAX / 1_000;
    const job = { ...this.consumer, messages, numbered: false, silentSecondsMax };
    const consumer = await startLoad({ kind: "collect", ...job }, this.#signal);
    return async () => {
      const { missing } = await consumer.figures(2 * CAUGHT_UP_MS_MAX);
      if (missing !== 0) throw new BenchFailure(`${missing} messages do not get to the upstream`);
    };
  }

  async networkOff(): Promise<void> {
    await this.#upstream.stop();
  }

  async networkOn(): Promise<void> {
    this.#upstream = await this.#starts.upstream();
  }

  async killEdge(): Promise<void> {
    await this.#edge.stop("SIGKILL");
    await sleep(RESTART_MS);
    this.#edge = await this.#starts.edge();
  }

  async stop(): Promise<void> {
    await this.#edge.stop();
    await this.#upstream.stop();
  }
}

/** Gateway, HAProxy with TLS, landing, cluster's Redis, one cloud broker. */
export class SluiceBridge implements Bridge {
  readonly #chain: Chain;
  readonly #landing: Redis;
  readonly #cores: readonly number[] | undefined;

  private constructor(chain: Chain, cores: readonly number[] | undefined) {
    this.#chain = chain;
    this.#cores = cores;
    this.#landing = new Redis({ ...chain.redis("landing"), lazyConnect: true });
    // What is asked while it is away fails, and says so.
    this.#landing.on("error", () => {});
  }

  static async start({ folder, cores, signal }: Site, cast: Cast): Promise<SluiceBridge> {
    const chain = await Chain.start({
      ...{ folder: join(folder, "chain"), ports: await freePorts(), signal },
      deviceIntervalMs: NEVER_MS,
    });
    for (const name of ["firmware-bridge", "device", "cloud-2"] as const) {
      await chain.part(name).stop();
    }
    const both = cores && [cores.broker, cores.load];
    if (both && cast === "together") {
      for (const { pid } of chain.parts) if (pid !== undefined) moveTo(both, pid);
    }
    const bridge = new SluiceBridge(chain, cast === "together" ? both : cores && [cores.broker]);
    bridge.#placeEdge();
    return bridge;
  }

  get edge(): { port: number; pid: number } {
    const { pid } = this.#chain.part("gateway");
    if (pid === undefined) throw new BenchFailure("the gateway is down");
    return { port: this.#chain.ports.gateway, pid };
  }

  get consumer() {
    const { ports, certificates } = this.#chain;
    return { port: ports.mqtts, filter: `from/${GATEWAY}/bench/in/#`, caFile: certificates.ca };
  }

  async expect(): Promise<() => Promise<void>> {
    return () => this.hasLanded();
  }

  networkOff(): Promise<void> {
    return this.#chain.networkOff();
  }

  async networkOn(): Promise<void> {
    await this.#chain.networkOn();
    const { pid } = this.#chain.part("haproxy");
    if (this.#cores && pid !== undefined) moveTo(this.#cores, pid);
  }

  async killEdge(): Promise<void> {
    const part = this.#chain.part("gateway");
    part.kill();
    await part.ready();
    this.#placeEdge();
  }

  /** The last sequence that the landing holds. */
  async landed(): Promise<number> {
    const field = `${POS_FIELDS.lanePrefix}default`;
    const text = await this.#landing.hget(landingKeys(GATEWAY).pos, field);
    return parsePosition(text ?? "").seq;
  }

  /** Resolves when the landing has all that the gateway took so far. */
  async hasLanded(): Promise<void> {
    const last = await this.#lastTaken();
    const endAtMs = performance.now() + CAUGHT_UP_MS_MAX;
    while ((await this.landed()) < last) {
      if (performance.now() > endAtMs) throw new BenchFailure("the landing does not get all of it");
      await sleep(LOOK_MS);
    }
  }

  async stop(): Promise<void> {
    this.#landing.disconnect();
    await this.#chain.stop();
  }

  #placeEdge(): void {
    if (this.#cores) moveTo(this.#cores, this.edge.pid);
  }

  /** As the gateway counts. */
  async #lastTaken(): Promise<number> {
    const url = `http://127.0.0.1:${this.#chain.ports.gatewayStatus}/status.json`;
    const { outbox } = (await (await fetch(url)).json()) as { outbox: { lastSeq: number }[] };
    return outbox[0]?.lastSeq ?? 0;
  }
}

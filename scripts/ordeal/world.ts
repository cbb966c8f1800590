// world: all that a torture runs on: a chain on disks that fail, devices, and who listens to them.
// Path: main → [world] → chain, landings, devices, listeners. Touches: what those touch.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { StatusDocument } from "#contract/status";
import { Chain } from "../chain/chain.ts";
import {
  ChainFolder,
  type GatewayPartName,
  gatewayName,
  gatewayPartName,
} from "../chain/folder.ts";
import type { PartName } from "../chain/plans.ts";
import { freePorts, gatewayPorts } from "../chain/ports.ts";
import { DiskShim } from "../disk-shim/disk-shim.ts";
import { Device } from "./device.ts";
import { freeLandingPorts, Landings } from "./landings.ts";
import { Listener } from "./listener.ts";

export interface WorldOptions {
  readonly folder: string;
  readonly gateways: number;
  readonly program: "bundles" | "sources";
  /** What the landing keeps, in seconds: longer than the run, for the invariant is read from it. */
  readonly keptSeconds: number;
  readonly say: (line: string) => void;
}

/** One gateway, and what speaks to it. */
export interface Station {
  readonly part: GatewayPartName;
  /** Its name in the cluster. */
  readonly name: string;
  readonly statusPort: number;
  readonly devices: readonly Device[];
  /** A kept session that hears all that the devices say. */
  readonly session: Listener;
}

const PACE = { windowMax: 100, everyMs: 20, burstMax: 1, payloadBytes: 32 } as const;

/** The one of QoS 0 rides in the lane without a sync of its own, and is promised nothing. */
const DEVICES = [
  { topic: "device/1", qos: 1, version: 4 },
  { topic: "device/2", qos: 2, version: 5 },
  { topic: "device/3", qos: 2, version: 4 },
  { topic: "device/4", qos: 1, version: 5, retain: true },
  { topic: "device/5", qos: 0, version: 4 },
] as const;

const DEVICE_FILTER = "device/#";
const CONSUMERS = 2;
const LANDING_BYTES_MAX = 2 ** 30;
/** So that a forgetful landing is noticed soon after the devices rest. */
const PROBE_SECONDS = 2;

export class World {
  readonly chain: Chain;
  readonly landings: Landings;
  readonly stations: readonly Station[];
  readonly consumers: readonly Listener[];
  readonly #shims: ReadonlyMap<PartName, DiskShim>;

  private constructor(
    chain: Chain,
    landings: Landings,
    shims: ReadonlyMap<PartName, DiskShim>,
    gateways: number,
  ) {
    this.chain = chain;
    this.landings = landings;
    this.#shims = shims;
    this.stations = numbers(gateways).map((number) => stationOf(chain, number));
    this.consumers = numbers(CONSUMERS).map((number) => consumerOf(chain, number));
  }

  /** Starts everything; the devices publish when it resolves. */
  static async open(options: WorldOptions): Promise<World> {
    const { folder, gateways, program, say } = options;
    const shims = shimsIn(folder, gateways);
    const landingPorts = await freeLandingPorts();
    const chain = await Chain.start({
      ...{ folder, gateways, program, say },
      ports: await freePorts(gateways),
      landingReplica: true,
      haproxyReloads: true,
      redisBytesMax: LANDING_BYTES_MAX,
      gatewaySettings: { uplink: { probe_seconds: PROBE_SECONDS } },
      cloudSettings: {
        landing: { url: `redis://cloud@127.0.0.1:${landingPorts.door}` },
        ingest: {
          tail_seconds_max: options.keptSeconds,
          gateway_bytes_max: Math.floor(LANDING_BYTES_MAX / 2 / gateways),
        },
      },
      environment: Object.fromEntries([...shims].map(([part, { env }]) => [part, env])),
    });
    const landings = await Landings.open(chain, landingPorts);
    const world = new World(chain, landings, shims, gateways);
    const sessions = world.stations.map(({ session }) => session);
    await Promise.all([...sessions, ...world.consumers].map((listener) => listener.come()));
    for (const { devices } of world.stations) for (const device of devices) device.resume();
    return world;
  }

  get devices(): readonly Device[] {
    return this.stations.flatMap(({ devices }) => devices);
  }

  /** The disk of a gateway or a Redis. */
  shim(part: PartName): DiskShim {
    const shim = this.#shims.get(part);
    if (!shim) throw new Error(`${part} is on no disk of ours`);
    return shim;
  }

  session(part: PartName): Listener {
    const station = this.stations.find((it) => it.part === part);
    if (!station) throw new Error(`${part} is no gateway`);
    return station.session;
  }

  async close(): Promise<void> {
    for (const device of this.devices) device.end();
    const sessions = this.stations.map(({ session }) => session);
    await Promise.all([...sessions, ...this.consumers].map((listener) => listener.leave()));
    await this.chain.stop();
    await this.landings.close();
  }
}

/** What a gateway says of itself; undefined while it does not. */
export async function statusOf({ statusPort }: Station): Promise<StatusDocument | undefined> {
  try {
    const answer = await fetch(`http://127.0.0.1:${statusPort}/status.json`);
    return (await answer.json()) as StatusDocument;
  } catch {
    return undefined;
  }
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}

function shimsIn(folder: string, gateways: number): ReadonlyMap<PartName, DiskShim> {
  const parts: PartName[] = ["landing", "landing-replica", "cluster"];
  parts.push(...numbers(gateways).map(gatewayPartName));
  const files = new ChainFolder(folder);
  return new Map(
    parts.map((part) => [part, new DiskShim(files.dataOf(part), join(folder, "disks", part))]),
  );
}

function stationOf(chain: Chain, number: number): Station {
  const { mqtt: port, status: statusPort } = gatewayPorts(chain.ports, number);
  const part = gatewayPartName(number);
  const devices = DEVICES.map((kind) => {
    const device = new Device({ ...PACE, ...kind, port, clientId: kind.topic });
    device.pause();
    return device;
  });
  const url = `mqtt://127.0.0.1:${port}`;
  const clientId = `session of ${part}`;
  const session = new Listener({ url, clientId, version: 4, filter: DEVICE_FILTER });
  return { part, name: gatewayName(number), statusPort, devices, session };
}

function consumerOf(chain: Chain, number: number): Listener {
  const ca = readFileSync(chain.certificates.ca);
  const filter = `from/+/${DEVICE_FILTER}`;
  const url = chain.urls.cloud;
  return new Listener({ url, clientId: `consumer-${number}`, version: 5, filter, ca });
}

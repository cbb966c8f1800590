// chain: the whole path of a message on one machine, with real parts.
// Path: main, journeys → [chain] → parts. Touches: a folder, loopback ports, processes.

import { mkdir, rm } from "node:fs/promises";
import { type Certificates, ensureCertificates } from "./certificates.ts";
import { ChainFailure } from "./failure.ts";
import { ChainFolder, GATEWAY, gatewayName, gatewayPartName } from "./folder.ts";
import { Part } from "./part.ts";
import { type PartName, type PlanOptions, planOf } from "./plans.ts";
import { DEFAULT_PORTS, GATEWAY_PORT_NAMES, PORT_NAMES, type Ports, takenPorts } from "./ports.ts";
import { RunFile } from "./run-file.ts";
import { type Passwords, type SettingsTable, writeSettings } from "./settings-files.ts";

export interface ChainOptions {
  /** Where its files go: certificates, settings, data, logs. */
  readonly folder: string;
  readonly ports?: Ports;
  /** "gateway": broker, firmware-bridge and device, without a cloud. */
  readonly parts?: "all" | "gateway";
  /** What is run: dist/, or the sources as they are. */
  readonly program?: "bundles" | "sources";
  /** Laid upon the settings that the parts get; null takes a key away. */
  readonly gatewaySettings?: SettingsTable;
  readonly cloudSettings?: SettingsTable;
  readonly redisBytesMax?: number;
  /** How many gateways; all but the first are without device and firmware-bridge. */
  readonly gateways?: number;
  /** A second landing Redis that copies the first, and that HAProxy leads to when it is promoted. */
  readonly landingReplica?: boolean;
  readonly haproxyReloads?: boolean;
  /** For the environment of each part. */
  readonly environment?: PlanOptions["environment"];
  readonly deviceIntervalMs?: number;
  /** Goes on with the data of the last run. */
  readonly keep?: boolean;
  /** Called off while it starts, it stops what it has started, and the start fails. */
  readonly signal?: AbortSignal;
  /** Told what happens, in lines for people. */
  readonly say?: (line: string) => void;
  /** Told of each part once it is ready. */
  readonly onReady?: (part: Part) => void;
}

/** The gateways, counted from 1. */
function numbersOf({ gateways = 1 }: ChainOptions): number[] {
  return Array.from({ length: gateways }, (_, index) => index + 1);
}

/** What needs what: each group is started when the ones before are ready, and ends after them. */
function groupsOf(options: ChainOptions): readonly (readonly PartName[])[] {
  const gateways = numbersOf(options).map(gatewayPartName);
  const own: readonly PartName[][] = [gateways, ["device"], ["firmware-bridge"]];
  if (options.parts === "gateway") return own;
  const replica: readonly PartName[] = options.landingReplica ? ["landing-replica"] : [];
  return [["landing", ...replica, "cluster"], ["cloud-1", "cloud-2"], ["haproxy"], ...own];
}

/** How to log in to one of the two Redis servers with all rights: options for ioredis. */
export interface RedisLogin {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
}

export class Chain implements AsyncDisposable {
  readonly folder: ChainFolder;
  readonly ports: Ports;
  readonly parts: readonly Part[];
  readonly #certificates: Certificates | undefined;
  readonly #passwords: Passwords;
  readonly #runFile: RunFile;
  readonly #groups: readonly (readonly PartName[])[];
  #stopping: Promise<void> | undefined;

  private constructor(
    folder: ChainFolder,
    runFile: RunFile,
    certificates: Certificates | undefined,
    passwords: Passwords,
    options: ChainOptions,
  ) {
    this.folder = folder;
    this.ports = options.ports ?? DEFAULT_PORTS;
    this.#runFile = runFile;
    this.#certificates = certificates;
    this.#passwords = passwords;
    const plan = {
      ...{ folder, ports: this.ports, passwords },
      program: options.program ?? "bundles",
      deviceIntervalMs: options.deviceIntervalMs ?? 1_000,
      haproxyReloads: options.haproxyReloads ?? false,
      environment: options.environment ?? {},
    };
    const watch = {
      say: options.say ?? (() => {}),
      started: (name: string, pid: number) => runFile.record(name, pid),
    };
    this.#groups = groupsOf(options);
    this.parts = this.#groups.flat().map((name) => new Part(planOf(name, plan), watch));
  }

  /**
   * Starts all parts and resolves when they are ready.
   * @throws ChainFailure when a chain runs in the folder, a port is taken, or a part fails; then
   *   nothing that it started is left.
   */
  static async start(options: ChainOptions): Promise<Chain> {
    const folder = new ChainFolder(options.folder);
    await mkdir(folder.path, { recursive: true });
    const runFile = RunFile.claim(folder, options.say ?? (() => {}));
    try {
      await assertPortsFree(options);
      const chain = await Chain.#prepare(folder, runFile, options);
      await chain.#startAll(options);
      return chain;
    } catch (fault) {
      runFile.release();
      throw fault;
    }
  }

  static async #prepare(
    folder: ChainFolder,
    runFile: RunFile,
    options: ChainOptions,
  ): Promise<Chain> {
    if (!options.keep) await rm(folder.data, { recursive: true, force: true });
    await rm(folder.logs, { recursive: true, force: true });
    await mkdir(folder.logs, { recursive: true });
    for (const name of groupsOf(options).flat())
      await mkdir(folder.dataOf(name), { recursive: true });
    const further = numbersOf(options).slice(1).map(gatewayName);
    const certificates =
      options.parts === "gateway"
        ? undefined
        : await ensureCertificates(folder.certificates, GATEWAY, ...further);
    const passwords = await writeSettings({
      folder,
      certificates,
      ports: options.ports ?? DEFAULT_PORTS,
      gatewaySettings: options.gatewaySettings ?? {},
      cloudSettings: options.cloudSettings ?? {},
      redisBytesMax: options.redisBytesMax,
      gateways: options.gateways ?? 1,
      landingReplica: options.landingReplica ?? false,
    });
    return new Chain(folder, runFile, certificates, passwords, options);
  }

  async #startAll({ signal, onReady = () => {} }: ChainOptions): Promise<void> {
    signal?.addEventListener("abort", () => void this.stop(), { once: true });
    const starting = (name: PartName) => {
      const part = this.part(name);
      return part.start().then(() => onReady(part));
    };
    try {
      for (const group of this.#groups) {
        signal?.throwIfAborted();
        await Promise.all(group.map(starting));
      }
    } catch (fault) {
      await this.stop();
      throw fault;
    }
  }

  /** The part of that name; a chain without a cloud has only the gateway's. */
  part(name: PartName): Part {
    const part = this.parts.find((it) => it.name === name);
    if (!part) throw new ChainFailure(`this chain has no ${name}`);
    return part;
  }

  get hasCloud(): boolean {
    return this.#certificates !== undefined;
  }

  /** The files of the throw-away CA; for a chain with a cloud. */
  get certificates(): Certificates {
    if (!this.#certificates) throw new ChainFailure("this chain has no certificates");
    return this.#certificates;
  }

  /** What MQTT clients connect to. */
  get urls(): { gateway: string; cloud: string; cloudWs: string } {
    return {
      gateway: `mqtt://127.0.0.1:${this.ports.gateway}`,
      cloud: `mqtts://localhost:${this.ports.mqtts}`,
      cloudWs: `wss://localhost:${this.ports.wss}/mqtt`,
    };
  }

  redis(name: "landing" | "landing-replica" | "cluster"): RedisLogin {
    const { cloud, cluster } = this.#passwords;
    const { ports } = this;
    const host = "127.0.0.1";
    if (name === "cluster") {
      return { host, port: ports.cluster, username: "default", password: cluster };
    }
    const port = name === "landing" ? ports.landing : ports.landingReplica;
    return { host, port, username: "cloud", password: cloud };
  }

  /** Pulls the network out: nothing reaches the cluster's address. */
  async networkOff(): Promise<void> {
    await this.part("haproxy").stop();
  }

  async networkOn(): Promise<void> {
    await this.part("haproxy").start();
  }

  /** Ends all parts, those first that need the others. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stopAll(): Promise<void> {
    for (const group of this.#groups.toReversed()) {
      await Promise.all(group.map((name) => this.part(name).stop()));
    }
    this.#runFile.release();
  }
}

async function assertPortsFree({ ports = DEFAULT_PORTS, parts }: ChainOptions): Promise<void> {
  const taken = await takenPorts(ports, parts === "gateway" ? GATEWAY_PORT_NAMES : PORT_NAMES);
  if (taken.length === 0) return;
  const list = taken.map((line) => `  ${line}`).join("\n");
  throw new ChainFailure(
    `these ports of 127.0.0.1 are taken:\n${list}\nEnd what holds them, or take other ports: scripts/start --port-base 20000`,
  );
}

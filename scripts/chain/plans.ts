// plans: how each part of a chain is started, and when it is ready.
// Path: chain → [plans] → part. Touches: nothing.

import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { HEALTH_PASSWORD_VARIABLE } from "../../haproxy/render.ts";
import { type ChainFolder, type GatewayPartName, gatewayPartName, ROOT } from "./folder.ts";
import type { PartPlan } from "./part.ts";
import { gatewayPorts, type Ports } from "./ports.ts";
import { accepts, answersOk, redisAnswers } from "./ready.ts";
import type { Passwords } from "./settings-files.ts";

const PART_NAMES = [
  "landing",
  "landing-replica",
  "cluster",
  "cloud-1",
  "cloud-2",
  "haproxy",
  "gateway",
  "device",
  "firmware-bridge",
] as const;

export type PartName = (typeof PART_NAMES)[number] | GatewayPartName;

function gatewayNumber(name: GatewayPartName): number {
  return name === "gateway" ? 1 : Number(name.slice("gateway-".length));
}

export interface PlanOptions {
  readonly folder: ChainFolder;
  readonly ports: Ports;
  readonly passwords: Passwords;
  readonly program: "bundles" | "sources";
  readonly deviceIntervalMs: number;
  /** HAProxy takes SIGUSR2 for a reload. */
  readonly haproxyReloads: boolean;
  /** For the environment of each part. */
  readonly environment: Readonly<Partial<Record<PartName, Readonly<Record<string, string>>>>>;
}

/** The Node that the lockfile pins; the machine's own may be any other. */
export const NODE = join(ROOT, "scripts/node");

/** As much room for new objects as systemd's unit gives the broker. */
const NEW_OBJECTS = "--min-semi-space-size=8";

/** What is run, and its arguments, for one of Sluice's programs. */
export function programOf(
  program: "bundles" | "sources",
  name: "broker" | "firmware-bridge" | "sluice",
): string {
  const sources = {
    broker: "broker/main.ts",
    "firmware-bridge": "firmware-bridge/main.ts",
    sluice: "broker/cli/main.ts",
  };
  return join(ROOT, program === "bundles" ? `dist/${name}.cjs` : sources[name]);
}

export function planOf(name: PartName, options: PlanOptions): PartPlan {
  const logFile = options.folder.logOf(name);
  const plan = isGateway(name) ? gateway(options, gatewayNumber(name)) : PLANS[name](options);
  return { name, logFile, ...plan, env: { ...plan.env, ...options.environment[name] } };
}

function isGateway(name: PartName): name is GatewayPartName {
  return /^gateway(-\d+)?$/.test(name);
}

type Plan = (options: PlanOptions) => Omit<PartPlan, "name" | "logFile">;

const PLANS: Readonly<Record<Exclude<PartName, GatewayPartName>, Plan>> = {
  landing: (options) => landing(options, "landing", options.ports.landing),
  "landing-replica": (options) => landing(options, "landing-replica", options.ports.landingReplica),
  cluster: (options) =>
    redis(options, "cluster", options.ports.cluster, "default", options.passwords.cluster),
  "cloud-1": (options) => cloud(options, 1),
  "cloud-2": (options) => cloud(options, 2),
  haproxy,
  device,
  "firmware-bridge": firmwareBridge,
};

function landing(
  options: PlanOptions,
  part: "landing" | "landing-replica",
  port: number,
): ReturnType<Plan> {
  return redis(options, part, port, "cloud", options.passwords.cloud);
}

function redis(
  { folder }: PlanOptions,
  part: PartName,
  port: number,
  user: string,
  password: string,
): ReturnType<Plan> {
  return {
    command: "redis-server",
    args: [folder.settingsOf(`${part}.conf`)],
    address: `127.0.0.1:${port}`,
    isReady: () => redisAnswers(port, user, password),
  };
}

function cloud({ folder, ports, program }: PlanOptions, number: 1 | 2): ReturnType<Plan> {
  const status = ports[`cloud${number}Status`];
  return {
    command: NODE,
    args: [
      NEW_OBJECTS,
      programOf(program, "broker"),
      "--config",
      folder.settingsOf(`cloud-${number}.toml`),
    ],
    address: `127.0.0.1:${ports[`cloud${number}`]} (behind HAProxy), status http://127.0.0.1:${status}/`,
    isReady: () => answersOk(status, "/readyz"),
  };
}

function haproxy(options: PlanOptions): ReturnType<Plan> {
  const { folder, ports, passwords, haproxyReloads } = options;
  return {
    command: "haproxy",
    // In the foreground; one process, or the one that the others obey: its pid is the one we started.
    args: [...(haproxyReloads ? ["-W"] : []), "-db", "-f", folder.settingsOf("haproxy.cfg")],
    env: { [HEALTH_PASSWORD_VARIABLE]: passwords.health },
    address: `MQTTS localhost:${ports.mqtts}, WSS localhost:${ports.wss}, landing localhost:${ports.landingFront}`,
    isReady: async () =>
      (await accepts(ports.mqtts)) && (await accepts(ports.wss)) && accepts(ports.landingFront),
  };
}

function gateway({ folder, ports, program }: PlanOptions, number: number): ReturnType<Plan> {
  const { mqtt, status } = gatewayPorts(ports, number);
  const settings = folder.settingsOf(`${gatewayPartName(number)}.toml`);
  return {
    command: NODE,
    args: [NEW_OBJECTS, programOf(program, "broker"), "--config", settings],
    address: `MQTT 127.0.0.1:${mqtt}, status http://127.0.0.1:${status}/`,
    isReady: () => answersOk(status, "/readyz"),
  };
}

function device({ folder, deviceIntervalMs }: PlanOptions): ReturnType<Plan> {
  const port = folder.serialPort;
  return {
    command: NODE,
    args: [
      join(import.meta.dirname, "simulated-device.ts"),
      ...["--port", port, "--interval-ms", String(deviceIntervalMs)],
    ],
    address: port,
    isReady: async () => existsSync(port),
    // Left behind, it would point to whatever terminal gets that pty's number next.
    onExit: () => rmSync(port, { force: true }),
  };
}

function firmwareBridge({ folder, program }: PlanOptions): ReturnType<Plan> {
  return {
    command: NODE,
    args: [programOf(program, "firmware-bridge"), "--config", folder.settingsOf("gateway.toml")],
    address: `unix:${folder.gatewaySocket}`,
    isReady: async (logged) => logged.includes('"msg":"started"'),
  };
}

// ports: which TCP ports a chain uses on 127.0.0.1, whether they are free, and who holds them.
// Path: main → [ports] → chain. Touches: sockets for a moment, /proc.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { basename } from "node:path";

/** What listens on each port of a chain, in words. */
export const PORT_USES = {
  gateway: "gateway, MQTT",
  gatewayTls: "gateway, MQTTS",
  gatewayStatus: "gateway, status page",
  bridgeStatus: "firmware-bridge, status",
  mqtts: "HAProxy, MQTTS of the cluster",
  wss: "HAProxy, WSS of the cluster",
  landingFront: "HAProxy, landing",
  landing: "landing Redis",
  landingReplica: "landing Redis, replica",
  cluster: "cluster Redis",
  cloud1: "cloud-1, MQTT",
  cloud1Ws: "cloud-1, WebSocket",
  cloud1Status: "cloud-1, status page",
  cloud2: "cloud-2, MQTT",
  cloud2Ws: "cloud-2, WebSocket",
  cloud2Status: "cloud-2, status page",
  furtherGateways: "the gateways behind the first",
} as const;

export type PortName = keyof typeof PORT_USES;
export type Ports = Readonly<Record<PortName, number>>;

export const PORT_NAMES = Object.keys(PORT_USES) as PortName[];

/** What a gateway listens on. */
export interface GatewayPorts {
  readonly mqtt: number;
  readonly mqtts: number;
  readonly status: number;
}

/** Those of the gateway with that number; from the second on they follow each other. */
export function gatewayPorts(ports: Ports, number: number): GatewayPorts {
  const { gateway, gatewayTls, gatewayStatus, furtherGateways } = ports;
  if (number === 1) return { mqtt: gateway, mqtts: gatewayTls, status: gatewayStatus };
  const base = furtherGateways + (number - 2) * 3;
  return { mqtt: base, mqtts: base + 1, status: base + 2 };
}

/** The ports that a gateway without a cloud uses. */
export const GATEWAY_PORT_NAMES: readonly PortName[] = ["gateway", "gatewayStatus", "bridgeStatus"];

/** The design's ports where a client meets them; out of the way of a Redis of the machine's own. */
export const DEFAULT_PORTS: Ports = {
  gateway: 1883,
  gatewayTls: 18883,
  gatewayStatus: 9883,
  bridgeStatus: 9882,
  mqtts: 8883,
  wss: 8084,
  landingFront: 6380,
  landing: 16379,
  landingReplica: 16381,
  cluster: 16380,
  cloud1: 18831,
  cloud1Ws: 18841,
  cloud1Status: 9884,
  cloud2: 18832,
  cloud2Ws: 18842,
  cloud2Status: 9885,
  furtherGateways: 18850,
};

/** One port after the other from `base`. */
export function portsFrom(base: number): Ports {
  const entries = PORT_NAMES.map((name, index) => [name, base + index] as const);
  return Object.fromEntries(entries) as Record<PortName, number>;
}

// Below the ports that the kernel gives to outgoing connections (ip(7)): there, one that retries
// the port of a part that is down can end up connected to itself, and keep the port from it.
const FREE_FROM = 10_000;
const FREE_TO = 32_000;
const TRIES_MAX = 100;

/** Ports that nobody listens on, for a chain beside others, with so many gateways. */
export async function freePorts(gateways = 1): Promise<Ports> {
  return portsFrom(await freeRun(PORT_NAMES.length + (gateways - 1) * 3));
}

/** The first of `count` ports in a row that nobody listens on. */
export async function freeRun(count: number): Promise<number> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const base = FREE_FROM + Math.floor(Math.random() * (FREE_TO - FREE_FROM - count));
    const numbers = Array.from({ length: count }, (_, index) => base + index);
    const free = await Promise.all(numbers.map(isFree));
    if (free.every(Boolean)) return base;
  }
  throw new Error(`no ${count} free ports in a row between ${FREE_FROM} and ${FREE_TO}`);
}

/** Can 127.0.0.1:port be listened on? */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** One line for each of the ports that is taken: the port, what it is for, who has it. */
export async function takenPorts(ports: Ports, names: readonly PortName[]): Promise<string[]> {
  const free = await Promise.all(names.map((name) => isFree(ports[name])));
  return names
    .filter((_, index) => !free[index])
    .map((name) => `${ports[name]} (${PORT_USES[name]}) is held by ${holderOf(ports[name])}`);
}

/** Who listens on `port`, as far as this user may see. */
export function holderOf(port: number): string {
  const inodes = new Set(["tcp", "tcp6"].flatMap((table) => listeningInodes(table, port)));
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    if (openSockets(pid).some((inode) => inodes.has(inode))) {
      return `${programOf(pid)} (pid ${pid})`;
    }
  }
  return "a process of another user";
}

/** The program's name, and for an interpreter the file that it runs: "node main.ts". */
function programOf(pid: string): string {
  const [program = "", ...args] = readText(`/proc/${pid}/cmdline`).split("\0");
  if (program === "") return readText(`/proc/${pid}/comm`).trim();
  const name = basename(program);
  const file = args.find((arg) => /^[^-].*\.\w+$/.test(arg));
  return /^(node|python|perl|ruby|sh|bash)[\d.]*$/.test(name) && file ? `${name} ${file}` : name;
}

const STATE_LISTEN = "0A";

/** Columns of /proc/net/tcp (proc(5)): slot, local address:port in hex, remote, state, …, inode. */
function listeningInodes(table: string, port: number): string[] {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  return readText(`/proc/net/${table}`)
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => columns[1]?.endsWith(`:${hex}`) && columns[3] === STATE_LISTEN)
    .map((columns) => columns[9] ?? "");
}

function openSockets(pid: string): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => socketInode(`/proc/${pid}/fd/${fd}`));
  } catch {
    // The process is gone, or is none of ours to look into.
    return [];
  }
}

function socketInode(path: string): string[] {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(path))?.slice(1) ?? [];
  } catch {
    return [];
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

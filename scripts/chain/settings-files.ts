// settings-files: what each part of a chain reads when it starts.
// Path: chain → [settings-files] → parts. Touches: the chain's settings folder.

import { randomBytes } from "node:crypto";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { stringify } from "smol-toml";
import { landingKeys } from "#contract/landing";
import { renderHaproxy } from "../../haproxy/render.ts";
import { type Certificates, pair } from "./certificates.ts";
import { type ChainFolder, DEVICE, gatewayName, gatewayPartName } from "./folder.ts";
import { gatewayPorts, type Ports } from "./ports.ts";

/** A table of sluice.toml, or a part of one: tables are merged, null takes a key away. */
export interface SettingsTable {
  readonly [key: string]: SettingsValue | null;
}
export type SettingsValue = string | number | boolean | SettingsTable | readonly SettingsValue[];

export interface SettingsOptions {
  readonly folder: ChainFolder;
  readonly ports: Ports;
  /** Absent where the gateway stands alone. */
  readonly certificates?: Certificates | undefined;
  readonly gatewaySettings: SettingsTable;
  readonly cloudSettings: SettingsTable;
  readonly redisBytesMax?: number | undefined;
  /** How many gateways there are; default 1. */
  readonly gateways?: number;
  readonly landingReplica?: boolean;
}

const REDIS_BYTES_MAX = 256 * 1024 * 1024;

export interface Passwords {
  /** In the order of the gateways. */
  readonly gateways: readonly string[];
  readonly cloud: string;
  readonly cluster: string;
  readonly health: string;
}

/** Writes all the files, with fresh passwords. */
export async function writeSettings(options: SettingsOptions): Promise<Passwords> {
  const { folder } = options;
  await mkdir(folder.settings, { recursive: true, mode: 0o700 });
  const passwords = newPasswords(options.gateways ?? 1);
  for (const [index, password] of passwords.gateways.entries()) {
    const name = gatewayPartName(index + 1);
    const gateway = merged(gatewaySettings(options, index + 1), options.gatewaySettings);
    await writeToml(folder.settingsOf(`${name}.toml`), gateway);
    if (options.certificates) await writeSecret(folder.password(name), `${password}\n`);
  }
  if (!options.certificates) return passwords;
  for (const name of ["cloud", "cluster", "health"] as const) {
    await writeSecret(folder.password(name), `${passwords[name]}\n`);
  }
  for (const number of [1, 2] as const) {
    const cloud = merged(cloudSettings(options, number), options.cloudSettings);
    await writeToml(folder.settingsOf(`cloud-${number}.toml`), cloud);
  }
  await writeSecret(folder.settingsOf("landing.acl"), landingUsers(passwords));
  await writeSecret(folder.settingsOf("landing.conf"), landingRedis(options, passwords));
  if (options.landingReplica) {
    const replica = landingReplica(options, passwords);
    await writeSecret(folder.settingsOf("landing-replica.conf"), replica);
  }
  await writeSecret(folder.settingsOf("cluster.conf"), clusterRedis(options, passwords));
  await writeFile(folder.settingsOf("haproxy.cfg"), haproxy(options, options.certificates));
  return passwords;
}

function newPasswords(gateways: number): Passwords {
  const password = () => randomBytes(18).toString("hex");
  return {
    gateways: Array.from({ length: gateways }, password),
    cloud: password(),
    cluster: password(),
    health: password(),
  };
}

async function writeSecret(path: string, text: string): Promise<void> {
  await writeFile(path, text, { mode: 0o600 });
  await chmod(path, 0o600);
}

async function writeToml(path: string, table: SettingsTable): Promise<void> {
  await writeFile(path, `# Written by scripts/start.\n\n${stringify(table)}`);
}

const local = (port: number) => `127.0.0.1:${port}`;

/** The first gateway is the one that a device is plugged into. */
function gatewaySettings(options: SettingsOptions, number: number): SettingsTable {
  const { folder, certificates } = options;
  const { mqtt, mqtts, status } = gatewayPorts(options.ports, number);
  const part = gatewayPartName(number);
  const listeners: SettingsTable[] = [{ protocol: "mqtt", address: local(mqtt) }];
  if (number === 1) listeners.push({ protocol: "mqtt", address: `unix:${folder.gatewaySocket}` });
  if (certificates) {
    const { cert, key } = certificates.server;
    const address = local(mqtts);
    listeners.push({ protocol: "mqtts", address, cert_file: cert, key_file: key });
  }
  return {
    role: "gateway",
    name: gatewayName(number),
    data: folder.dataOf(part),
    access: { users_file: folder.settingsOf(`${part}.users`) },
    listeners,
    status: { address: local(status) },
    ...(certificates ? { uplink: uplink(options, number, certificates.ca) } : {}),
    ...(number === 1 ? plugged(options) : {}),
  };
}

function plugged({ folder, ports }: SettingsOptions): SettingsTable {
  return {
    bridge: {
      broker: `unix:${folder.gatewaySocket}`,
      status: { address: local(ports.bridgeStatus) },
    },
    links: [
      {
        path: folder.serialPort,
        driver: "lines",
        device: DEVICE,
        lines: { format: "key-value" },
      },
    ],
  };
}

function uplink({ folder, ports }: SettingsOptions, number: number, ca: string): SettingsTable {
  const name = gatewayName(number);
  const { cert, key } = pair(folder.certificates, name);
  return {
    url: `rediss://${name}@localhost:${ports.landingFront}`,
    password_file: folder.password(gatewayPartName(number)),
    ca_file: ca,
    cert_file: cert,
    key_file: key,
  };
}

function cloudSettings({ folder, ports }: SettingsOptions, number: 1 | 2): SettingsTable {
  const name = `cloud-${number}`;
  return {
    role: "cloud",
    name,
    data: folder.dataOf(name),
    access: { users_file: folder.settingsOf("cloud.users") },
    listeners: [
      { protocol: "mqtt", address: local(ports[`cloud${number}`]), proxy: true },
      { protocol: "ws", address: local(ports[`cloud${number}Ws`]), proxy: true },
    ],
    status: { address: local(ports[`cloud${number}Status`]) },
    landing: {
      url: `redis://cloud@${local(ports.landing)}`,
      password_file: folder.password("cloud"),
    },
    cluster: {
      url: `redis://${local(ports.cluster)}`,
      password_file: folder.password("cluster"),
    },
    // Half of what its Redis may hold.
    ingest: { gateway_bytes_max: 134_217_728 },
  };
}

/**
 * A gateway may touch its own keys, and run on them the commands that the functions consist of: a
 * function has no more rights than who calls it. It may not delete, list, or read anyone else's.
 */
function landingUsers({ gateways, cloud, health }: Passwords): string {
  const commands = "-@all +fcall +xadd +hget +hset +time +xread +ping +hello +client|setname";
  return [
    "user default off",
    ...gateways.map((password, index) => {
      const name = gatewayName(index + 1);
      const { up, pos, down } = landingKeys(name);
      const keys = `%RW~${up} %RW~${pos} %R~${down}`;
      return `user ${name} reset on >${password} ${keys} resetchannels ${commands}`;
    }),
    `user cloud reset on >${cloud} ~* &* +@all`,
    `user health reset on >${health} resetchannels -@all +ping +role`,
    "",
  ].join("\n");
}

function landingRedis(options: SettingsOptions, passwords: Passwords): string {
  return landing(options, passwords, "landing", options.ports.landing);
}

function landingReplica(options: SettingsOptions, passwords: Passwords): string {
  const { landing: master, landingReplica } = options.ports;
  const own = landing(options, passwords, "landing-replica", landingReplica);
  return `${own}replicaof 127.0.0.1 ${master}\n`;
}

/** Each of two can become the other's copy, and then logs in as the cloud does. */
function landing(options: SettingsOptions, { cloud }: Passwords, part: string, port: number) {
  const users = options.folder.settingsOf("landing.acl");
  const login = options.landingReplica ? `masteruser cloud\nmasterauth ${cloud}\n` : "";
  // What it forgets in a power cut comes again from the gateways' tails.
  return `${redis(options, part, port, "everysec")}aclfile "${users}"\n${login}`;
}

function clusterRedis(options: SettingsOptions, { cluster }: Passwords): string {
  return `${redis(options, "cluster", options.ports.cluster, "always")}requirepass ${cluster}\n`;
}

function redis(
  options: SettingsOptions,
  part: string,
  port: number,
  appendFsync: "everysec" | "always",
): string {
  const { folder, redisBytesMax = REDIS_BYTES_MAX } = options;
  return [
    "bind 127.0.0.1",
    `port ${port}`,
    `dir "${folder.dataOf(part)}"`,
    // The file that it appends to is the only copy on disk.
    "appendonly yes",
    `appendfsync ${appendFsync}`,
    'save ""',
    // Full, it must refuse rather than drop streams and positions.
    `maxmemory ${redisBytesMax}`,
    "maxmemory-policy noeviction",
    "",
  ].join("\n");
}

function haproxy(options: SettingsOptions, { ca, serverPem }: Certificates): string {
  const { ports } = options;
  const replica = { name: "landing-replica", address: local(ports.landingReplica), backup: true };
  return renderHaproxy({
    log: "stdout format raw daemon",
    // Small enough for the open files that an ordinary user may have.
    connectionsMax: 400,
    handshakeSecondsMax: 10,
    mqtts: { bind: local(ports.mqtts), certificate: serverPem, clientCa: ca },
    wss: { bind: local(ports.wss), certificate: serverPem },
    brokers: [
      { name: "cloud-1", mqtt: local(ports.cloud1), ws: local(ports.cloud1Ws) },
      { name: "cloud-2", mqtt: local(ports.cloud2), ws: local(ports.cloud2Ws) },
    ],
    landing: {
      bind: local(ports.landingFront),
      certificate: serverPem,
      gatewayCa: ca,
      healthUser: "health",
      redis: [
        { name: "landing", address: local(ports.landing) },
        ...(options.landingReplica ? [replica] : []),
      ],
    },
  });
}

/** `over` laid upon `base`. */
export function merged(base: SettingsTable, over: SettingsTable): SettingsTable {
  const result: Record<string, SettingsValue | null> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const below = result[key];
    if (value === null) delete result[key];
    else result[key] = isTable(below) && isTable(value) ? merged(below, value) : value;
  }
  return result;
}

function isTable(value: SettingsValue | null | undefined): value is SettingsTable {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// folder: where the files of a chain lie.
// Path: chain → [folder]. Touches: nothing.

import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const ROOT = resolve(import.meta.dirname, "../..");
export const DEFAULT_FOLDER = join(ROOT, "run");

/** The first gateway's name in the cluster, and that of the one device plugged into it. */
export const GATEWAY = "gw-001";
export const DEVICE = "sim-1";

/** What a gateway is called among the parts of a chain: the ones behind the first by number. */
export type GatewayPartName = "gateway" | `gateway-${number}`;

export function gatewayPartName(number: number): GatewayPartName {
  return number === 1 ? "gateway" : `gateway-${number}`;
}

/** The name in the cluster of the gateway with that number. */
export function gatewayName(number: number): string {
  return number === 1 ? GATEWAY : `gw-${String(number).padStart(3, "0")}`;
}

/** The kernel takes no longer path for a unix socket (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

export class ChainFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = resolve(path);
  }

  /** How to ask what runs in this folder, in another terminal. */
  get startCommand(): string {
    const start = shellWord(join(ROOT, "scripts/start"));
    return this.path === DEFAULT_FOLDER ? start : `${start} --folder ${shellWord(this.path)}`;
  }

  get certificates(): string {
    return join(this.path, "certificates");
  }

  get settings(): string {
    return join(this.path, "settings");
  }

  get data(): string {
    return join(this.path, "data");
  }

  get logs(): string {
    return join(this.path, "logs");
  }

  /** What the firmware-bridge opens: a symbolic link to the simulated device's pty. */
  get serialPort(): string {
    return join(this.path, "serial-port");
  }

  /** Who runs in this folder. */
  get runFile(): string {
    return join(this.path, "chain.json");
  }

  get gatewaySocket(): string {
    return this.#socket("gateway.sock");
  }

  /** Where the other sub-commands of scripts/start find the one that runs. */
  get controlSocket(): string {
    return this.#socket("control.sock");
  }

  settingsOf(name: string): string {
    return join(this.settings, name);
  }

  password(of: GatewayPartName | "cloud" | "cluster" | "health"): string {
    return join(this.settings, `${of}.password`);
  }

  dataOf(part: string): string {
    return join(this.data, part);
  }

  logOf(part: string): string {
    return join(this.logs, `${part}.log`);
  }

  #socket(name: string): string {
    const path = join(this.path, name);
    if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return path;
    const id = createHash("sha256").update(this.path).digest("hex").slice(0, 12);
    return join(tmpdir(), `sluice-${id}-${name}`);
  }
}

/** `text` as one word of the shell. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

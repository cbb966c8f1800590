// support: HAProxy on a rendered file, brokers and clients that stand in for real ones.
// Path: haproxy.test. Touches: a temporary folder, loopback sockets, haproxy, redis-server.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, connect as netConnect, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ConnectionOptions, connect as tlsConnect } from "node:tls";
import {
  type HaproxyInventory,
  HEALTH_PASSWORD_VARIABLE,
  renderHaproxy,
} from "../../haproxy/render.ts";
import { type Certificates, ensureCertificates } from "../../scripts/chain/certificates.ts";
import { freeRun } from "../../scripts/chain/ports.ts";

/** 3.1.1, clean session, keepalive 60, client id "me". */
export const CONNECT = Buffer.from("100e00044d515454040200" + "3c00026d65", "hex");
export const HEALTH_PASSWORD = "health-password";

export interface Workplace {
  readonly folder: string;
  readonly certificates: Certificates;
  remove(): Promise<void>;
}

/** A temporary folder with certificates in `certs`. */
export async function workplace(): Promise<Workplace> {
  const folder = await mkdtemp(join(tmpdir(), "sluice haproxy's-"));
  const certificates = await ensureCertificates(join(folder, "certs"), "gw-001");
  return { folder, certificates, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** Certificate files as TLS options; without a pair, those of a client that has none. */
export async function tlsOptions(
  { ca }: Certificates,
  pair?: { cert: string; key: string },
): Promise<ConnectionOptions> {
  const trusted = { ca: await readFile(ca) };
  return pair
    ? { ...trusted, cert: await readFile(pair.cert), key: await readFile(pair.key) }
    : trusted;
}

const PORT_NAMES = ["mqtts", "wss", "landing", "one", "two", "oneWs", "twoWs", "redis"] as const;

export type FrontPorts = Readonly<Record<(typeof PORT_NAMES)[number], number>>;

export async function frontPorts(): Promise<FrontPorts> {
  const base = await freeRun(PORT_NAMES.length);
  const entries = PORT_NAMES.map((name, index) => [name, base + index]);
  return Object.fromEntries(entries) as FrontPorts;
}

/** Two brokers and one landing Redis on loopback. */
export function loopbackInventory(
  port: FrontPorts,
  { serverPem, ca }: Certificates,
): HaproxyInventory {
  const local = (name: keyof FrontPorts) => `127.0.0.1:${port[name]}`;
  return {
    log: "stdout format raw daemon",
    connectionsMax: 100,
    handshakeSecondsMax: 2,
    mqtts: { bind: local("mqtts"), certificate: serverPem, clientCa: ca },
    wss: { bind: local("wss"), certificate: serverPem },
    brokers: [
      { name: "one", mqtt: local("one"), ws: local("oneWs") },
      { name: "two", mqtt: local("two"), ws: local("twoWs") },
    ],
    landing: {
      bind: local("landing"),
      certificate: serverPem,
      gatewayCa: ca,
      healthUser: "health",
      redis: [{ name: "landing-1", address: local("redis") }],
    },
  };
}

/** Starts a program and says how to end it; its output stands in `output`. */
export function startProgram(command: string, args: string[], env = process.env) {
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const output: string[] = [];
  child.stdout.on("data", (chunk) => output.push(String(chunk)));
  child.stderr.on("data", (chunk) => output.push(String(chunk)));
  return { child, output, stop: () => stopProgram(child) };
}

async function stopProgram(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

/** Tries `check` until it returns something, for at most `msMax`. */
export async function eventually<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
  msMax = 10_000,
): Promise<T> {
  const endAt = Date.now() + msMax;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > endAt) throw new Error(`${what}: not within ${msMax} ms`);
    await sleep(20);
  }
}

export async function startHaproxy(folder: string, inventory: HaproxyInventory) {
  const file = join(folder, "haproxy.cfg");
  await writeFile(file, renderHaproxy(inventory));
  const env = { ...process.env, [HEALTH_PASSWORD_VARIABLE]: HEALTH_PASSWORD };
  const program = startProgram("haproxy", ["-db", "-f", file], env);
  const port = Number(inventory.mqtts.bind.split(":")[1]);
  await eventually(`haproxy listens; it said ${program.output.join("")}`, () => accepts(port));
  return program;
}

export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = netConnect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

export interface ProxyHeader {
  readonly command: "LOCAL" | "PROXY";
  readonly source: string | undefined;
  readonly verified: boolean | undefined;
  readonly commonName: string | undefined;
  /** What came behind the header. */
  readonly rest: Buffer;
}

const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");

/** Reads a PROXY v2 header (proxy-protocol.txt 2.2); undefined while it is not whole. */
export function readProxyHeader(bytes: Buffer): ProxyHeader | undefined {
  if (bytes.length < 16) return undefined;
  if (!bytes.subarray(0, 12).equals(SIGNATURE)) {
    throw new Error(`no PROXY v2 header: ${bytes.subarray(0, 32).toString("latin1")}`);
  }
  const end = 16 + bytes.readUInt16BE(14);
  if (bytes.length < end) return undefined;
  const isTcp4 = bytes[13] === 0x11;
  const source = isTcp4
    ? `${bytes.subarray(16, 20).join(".")}:${bytes.readUInt16BE(24)}`
    : undefined;
  const ssl = tlvs(bytes.subarray(isTcp4 ? 28 : 16, end)).get(0x20);
  const name = ssl ? tlvs(ssl.subarray(5)).get(0x22) : undefined;
  return {
    command: bytes[12] === 0x20 ? "LOCAL" : "PROXY",
    source,
    verified: ssl ? ssl.readUInt32BE(1) === 0 : undefined,
    commonName: name?.toString("utf8"),
    rest: bytes.subarray(end),
  };
}

function tlvs(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 3 <= bytes.length; ) {
    const end = at + 3 + bytes.readUInt16BE(at + 1);
    found.set(bytes[at] ?? 0, bytes.subarray(at + 3, end));
    at = end;
  }
  return found;
}

const CONNACK = Buffer.from("20020000", "hex");

/** Accepts, reads a PROXY v2 header and a packet, answers CONNACK; frozen, it only accepts. */
export class FakeBroker {
  readonly checks: ProxyHeader[] = [];
  readonly clients: { header: ProxyHeader; socket: Socket }[] = [];
  frozen = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.#server = createServer((socket) => this.#serve(socket));
  }

  async listen(port: number): Promise<void> {
    this.#server.listen(port, "127.0.0.1");
    await once(this.#server, "listening");
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  #serve(socket: Socket): void {
    let bytes = Buffer.alloc(0);
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      const header = readProxyHeader(bytes);
      if (this.frozen || !header || header.rest.length === 0) return;
      socket.removeAllListeners("data").resume();
      if (header.command === "LOCAL") this.checks.push(header);
      else this.clients.push({ header, socket });
      socket.write(CONNACK);
    });
  }
}

/** A TLS client that gathers what it receives. */
export class TlsClient {
  received = Buffer.alloc(0);
  /** Why the connection ended, where it was refused. */
  fault = "";
  readonly socket;

  constructor(port: number, options: ConnectionOptions) {
    this.socket = tlsConnect({ port, host: "127.0.0.1", servername: "localhost", ...options });
    this.socket.on("error", (fault: NodeJS.ErrnoException) => {
      this.fault = fault.code ?? fault.message;
    });
    this.socket.on("data", (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
    });
  }

  send(bytes: Buffer | string): void {
    this.socket.write(bytes);
  }

  get isClosed(): boolean {
    return this.socket.closed;
  }

  /** Resolves when the other side has closed. */
  async closes(): Promise<void> {
    await eventually("the connection is closed", () => this.isClosed, 20_000);
  }

  close(): void {
    this.socket.destroy();
  }
}

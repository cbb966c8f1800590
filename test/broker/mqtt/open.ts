// open: listeners with settings of a test's choice, and clients for them.
// Path: tests of listeners, listen, web-socket. Touches: loopback, temporary folders.

import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TestContext } from "node:test";
import { pino } from "pino";
import { Metrics } from "#runtime/metrics";
import { parseSettings } from "#runtime/settings";
import type { ListenerSettings, Settings } from "#runtime/settings-schema";
import { type Listeners, openListeners } from "../../../broker/mqtt/listeners.ts";
import type { Entrance, Peer } from "../../../broker/mqtt/reception.ts";

/** Each test ends, whatever it waits for. */
export const BOUNDED = { timeout: 30_000 } as const;

export interface Accepted {
  readonly stream: Duplex;
  readonly peer: Peer;
  readonly entrance: Entrance;
}

export interface Opened extends Listeners {
  readonly metrics: Metrics;
  readonly warnings: readonly Record<string, unknown>[];
  /** The next connection that is handed over. */
  next(): Promise<Accepted>;
  /** Refusals counted so far, by reason. */
  refused(reason: string): number;
  open(): number;
  socket(index?: number): Socket;
  address(index?: number): { port: number; host: string } | { path: string };
}

export interface OpenOptions {
  readonly limits?: Partial<Settings["limits"]>;
}

export const LIMITS: Settings["limits"] = {
  ...parseSettings('role = "gateway"', "defaults").limits,
  connections_max: 100,
  connect_seconds_max: 20,
};

export function listener(settings: Partial<ListenerSettings>): ListenerSettings {
  return {
    protocol: "mqtt",
    address: "127.0.0.1:0",
    proxy: false,
    proxy_from: ["127.0.0.1", "::1"],
    origins: [],
    ...settings,
  };
}

/** Opens listeners that close with the test. */
export async function open(
  t: TestContext,
  listeners: readonly Partial<ListenerSettings>[],
  { limits = {} }: OpenOptions = {},
): Promise<Opened> {
  const metrics = new Metrics();
  const warnings: Record<string, unknown>[] = [];
  const log = pino({ level: "warn" }, { write: (line) => warnings.push(JSON.parse(line)) });
  const arrived: Accepted[] = [];
  const waiting: ((accepted: Accepted) => void)[] = [];
  const opened = await openListeners({
    listeners: listeners.map(listener),
    limits: { ...LIMITS, ...limits },
    log,
    metrics,
    accept: (stream, peer, entrance) => {
      t.after(() => stream.destroy());
      const taker = waiting.shift();
      if (taker) taker({ stream, peer, entrance });
      else arrived.push({ stream, peer, entrance });
    },
  });
  t.after(() => opened.close());
  const address = (index = 0) => addressIn(opened.addresses[index] ?? "");
  return {
    ...opened,
    metrics,
    warnings,
    next: () => {
      const accepted = arrived.shift();
      return accepted ? Promise.resolve(accepted) : new Promise((take) => waiting.push(take));
    },
    refused: (reason) =>
      sample(metrics, `sluice_connections_refused_total{reason="${reason}"}`) ?? 0,
    open: () => sample(metrics, "sluice_connections") ?? Number.NaN,
    address,
    socket: (index) => connectTo(t, address(index)),
  };
}

export function sample(metrics: Metrics, name: string): number | undefined {
  const lines = metrics.text().split("\n");
  const value = lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1);
  return value === undefined ? undefined : Number(value);
}

function addressIn(text: string): { port: number; host: string } | { path: string } {
  const path = /^\w+\+unix:(.*)$/.exec(text)?.[1];
  if (path !== undefined) return { path };
  const url = new URL(text);
  return { port: Number(url.port), host: url.hostname.replace(/^\[|\]$/g, "") };
}

/** A client's socket, of which no error matters and which ends with the test. */
export function connectTo(
  t: TestContext,
  address: { port: number; host: string } | { path: string },
): Socket {
  const socket = connect(address);
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  return socket;
}

/** Exactly `bytes` bytes of a stream; what came with them stays in it. */
export function read(stream: Duplex, bytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let held = Buffer.alloc(0);
    const onReadable = () => {
      for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) {
        held = Buffer.concat([held, chunk]);
      }
      if (held.length < bytes) return;
      stream.removeListener("readable", onReadable).removeListener("close", onClose);
      if (held.length > bytes) stream.unshift(held.subarray(bytes));
      resolve(held.subarray(0, bytes));
    };
    const onClose = () => reject(new Error(`closed after ${held.length} of ${bytes} bytes`));
    stream.on("readable", onReadable).on("close", onClose);
  });
}

/** Waits until the other side has closed; what it said before is read and dropped. */
export function closed(stream: Duplex): Promise<void> {
  stream.resume();
  return new Promise((resolve) => {
    if (stream.closed) resolve();
    else stream.on("close", () => resolve());
  });
}

/**
 * A balancer in front of an address: what clients send goes on behind `header`, which travels in
 * one segment with the first of it.
 */
export async function balancer(
  t: TestContext,
  target: { port: number; host: string } | { path: string },
  header: Buffer,
): Promise<{ port: number; host: string }> {
  const server = createServer((client) => {
    const inner = connectTo(t, target);
    client.on("error", () => {});
    client.once("data", (first) => {
      inner.write(Buffer.concat([header, first]));
      client.pipe(inner);
    });
    inner.pipe(client);
    inner.on("close", () => client.destroy());
    client.on("close", () => inner.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("no port");
  return { port: bound.port, host: "127.0.0.1" };
}

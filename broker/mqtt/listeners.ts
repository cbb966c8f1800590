// listeners: the addresses at which clients arrive, and the way of each connection from there to
// the session: counted → named by the balancer → secured → upgraded → handed over.
// Path: client → [listeners] → session. Touches: sockets, certificate files.

import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { BlockList, isIPv6, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import {
  createServer as createTlsServer,
  type Server as SecureServer,
  type TLSSocket,
  type TlsOptions,
} from "node:tls";
import { reasonOf, SluiceError } from "#contract/errors";
import { readTlsFiles } from "#runtime/files";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import type { ListenerSettings, Settings } from "#runtime/settings-schema";
import { addressOf, listen } from "./listen.ts";
import { type ProxyHeader, parseProxyHeader } from "./proxy-protocol.ts";
import { WebSocketDoor } from "./web-socket.ts";

export interface Peer {
  readonly protocol: ListenerSettings["protocol"];
  /** IP of the client, behind a balancer the client's own; undefined on a unix socket, and there
   * only. */
  readonly ip: string | undefined;
  readonly port: number | undefined;
  /** Common name of a verified client certificate, shown here or to the balancer. */
  readonly certificateName: string | undefined;
  /** "client": a balancer named a client; "balancer": it speaks for itself, as its health checks
   * do; "none": no PROXY header was asked for. */
  readonly proxied: "client" | "balancer" | "none";
}

export interface Listeners {
  /** Where clients can go, with the true port: `mqtt://127.0.0.1:1883`, `mqtt+unix:/path`. */
  readonly addresses: readonly string[];
  /** Stops accepting; who was handed over stays. */
  close(): Promise<void>;
}

export interface ListenersOptions {
  readonly listeners: readonly ListenerSettings[];
  readonly limits: Settings["limits"];
  readonly log: Log;
  readonly metrics: Metrics;
  /** Takes over the connection; errors of the stream have a listener already. */
  readonly accept: (stream: Duplex, peer: Peer) => void;
}

/** Refusals that point to a mistake in the settings are logged, but no more often than this. */
const REFUSAL_LOG_MS_MIN = 10_000;

/**
 * Listens on all addresses of the settings, or on none.
 * @throws SluiceError LISTEN_FAILED, CERTIFICATE_UNREADABLE.
 */
export async function openListeners(options: ListenersOptions): Promise<Listeners> {
  const reception = new Reception(options);
  // All files are read before the first port opens.
  const ways = options.listeners.map((settings) => ({ settings, enter: wayOf(settings, options) }));
  const servers: Server[] = [];
  const addresses: string[] = [];
  const close = async () => {
    for (const server of servers) server.close();
    reception.close();
  };
  try {
    for (const { settings, enter } of ways) {
      const server = await listen(settings, options.log, (socket) => {
        const arrival = reception.admit(socket, settings);
        if (arrival) enter(socket, arrival);
      });
      servers.push(server);
      addresses.push(addressOf(settings.protocol, server));
    }
  } catch (fault) {
    await close();
    throw fault;
  }
  options.log.info({ addresses }, "listening");
  return { addresses, close };
}

type RefusalReason =
  | "connections_max" // limits.connections_max are here already
  | "deadline" // not handed over within limits.connect_seconds_max
  | "left" // the client closed before it was handed over
  | "proxy_from" // no balancer of ours
  | "proxy_header" // a balancer that sends no good PROXY v2 header
  | "tls" // the handshake failed
  | "certificate" // the client's certificate is none of ours
  | "websocket"; // no upgrade to MQTT over WebSocket

const SETTINGS_AT_FAULT: ReadonlySet<RefusalReason> = new Set([
  "connections_max",
  "proxy_from",
  "proxy_header",
]);

const NOBODY = { certificateName: undefined, proxied: "none" } as const;

/** Counts connections over all listeners, and refusals. */
class Reception {
  readonly #options: ListenersOptions;
  readonly #countAccepted: (labels: { protocol: string }) => void;
  readonly #countRefused: (labels: { reason: string }) => void;
  readonly #arrivals = new Set<Arrival>();
  readonly #loggedAtMs = new Map<RefusalReason, number>();
  #connections = 0;

  constructor(options: ListenersOptions) {
    const { metrics } = options;
    this.#options = options;
    metrics.gauge("sluice_connections", "Open connections.", () => this.#connections);
    this.#countAccepted = metrics.counter(
      "sluice_connections_total",
      "Connections handed to a session.",
    );
    this.#countRefused = metrics.counter(
      "sluice_connections_refused_total",
      "Connections that ended before a session.",
    );
  }

  /** Undefined where the connection cannot even begin its way. */
  admit(socket: Socket, { protocol, address }: ListenerSettings): Arrival | undefined {
    const { connections_max, connect_seconds_max } = this.#options.limits;
    socket.on("error", ignore);
    const ip = socket.remoteAddress;
    // A TCP peer that has reset the connection already has no address any more, but what it sent
    // can still be read: it must not pass for the trusted peer of a unix socket.
    if (ip === undefined && !address.startsWith("unix:")) {
      return this.#turnAway(socket, "left", "the client reset the connection");
    }
    if (this.#connections >= connections_max) {
      return this.#turnAway(socket, "connections_max", `${connections_max} are open`);
    }
    const peer = { ...NOBODY, protocol, ip: ip && plainIp(ip), port: socket.remotePort };
    const arrival = new Arrival(socket, peer, connect_seconds_max, {
      handedOver: (stream, peer) => {
        this.#arrivals.delete(arrival);
        this.#countAccepted({ protocol });
        this.#options.accept(stream, peer);
      },
      refused: (reason, why) => {
        this.#arrivals.delete(arrival);
        this.#refused(reason, why, arrival.peer.ip);
      },
    });
    this.#connections += 1;
    this.#arrivals.add(arrival);
    socket.once("close", () => {
      this.#connections -= 1;
      arrival.refuse("left", "the client closed the connection");
    });
    return arrival;
  }

  #turnAway(socket: Socket, reason: RefusalReason, why: string): undefined {
    this.#refused(reason, why, socket.remoteAddress);
    socket.destroy();
  }

  /** Ends who is still on the way. */
  close(): void {
    for (const arrival of this.#arrivals) arrival.refuse("left", "the broker stops");
  }

  #refused(reason: RefusalReason, why: string, ip: string | undefined): void {
    const { log } = this.#options;
    this.#countRefused({ reason });
    if (!SETTINGS_AT_FAULT.has(reason)) {
      log.debug({ reason, why, ip }, "connection refused");
    } else if (this.#isLogDue(reason)) {
      log.warn({ reason, why, ip }, "connection refused; see sluice_connections_refused_total");
    }
  }

  #isLogDue(reason: RefusalReason): boolean {
    const nowMs = performance.now();
    const due = nowMs - (this.#loggedAtMs.get(reason) ?? -Infinity) >= REFUSAL_LOG_MS_MIN;
    if (due) this.#loggedAtMs.set(reason, nowMs);
    return due;
  }
}

interface Outcome {
  readonly handedOver: (stream: Duplex, peer: Peer) => void;
  readonly refused: (reason: RefusalReason, why: string) => void;
}

/**
 * One connection on its way to the session, with what is known of its peer so far.
 * arriving → handed over, or arriving → refused; both are final.
 */
class Arrival {
  readonly #socket: Socket;
  readonly #outcome: Outcome;
  readonly #deadline: NodeJS.Timeout;
  #mode: "arriving" | "handed over" | "refused" = "arriving";
  #peer: Peer;
  #tlsIsBalancers = false;

  constructor(socket: Socket, peer: Peer, secondsMax: number, outcome: Outcome) {
    this.#socket = socket;
    this.#outcome = outcome;
    this.#peer = peer;
    const expire = () => this.refuse("deadline", `not there after ${secondsMax} s`);
    this.#deadline = setTimeout(expire, secondsMax * 1_000).unref();
  }

  get peer(): Peer {
    return this.#peer;
  }

  /** TLS here is the balancer's own, and says nothing of the client. */
  get tlsIsBalancers(): boolean {
    return this.#tlsIsBalancers;
  }

  learn(known: Partial<Peer>): void {
    this.#peer = { ...this.#peer, ...known };
  }

  learnFromBalancer({ command, source, tellsTls, certificateName }: ProxyHeader): void {
    if (command === "LOCAL") {
      this.learn({ proxied: "balancer" });
      return;
    }
    const ip = source && plainIp(source.ip);
    this.learn({ proxied: "client", ip, port: source?.port, certificateName });
    this.#tlsIsBalancers = tellsTls ?? false;
  }

  handOver(stream: Duplex): void {
    if (!this.#settle("handed over")) return;
    this.#outcome.handedOver(stream, this.#peer);
  }

  /** Counts the refusal and destroys the socket; `isAnswered`: the client is being told, and the
   * socket ends with the answer. */
  refuse(reason: RefusalReason, why: string, isAnswered = false): void {
    if (!this.#settle("refused")) return;
    if (!isAnswered) this.#socket.destroy();
    this.#outcome.refused(reason, why);
  }

  #settle(mode: "handed over" | "refused"): boolean {
    if (this.#mode !== "arriving") return false;
    this.#mode = mode;
    clearTimeout(this.#deadline);
    return true;
  }
}

/** A part of the way: does its own, then hands on or refuses. */
type Step<S extends Duplex> = (socket: S, arrival: Arrival) => void;

/** The steps that a connection to this listener takes, in order from the last to the first. */
function wayOf(settings: ListenerSettings, { limits }: ListenersOptions): Step<Socket> {
  const { protocol } = settings;
  const handOver: Step<Duplex> = (stream, arrival) => arrival.handOver(stream);
  const isWeb = protocol === "ws" || protocol === "wss";
  const spoken = isWeb ? webSocketStep(limits, handOver) : handOver;
  const isTls = protocol === "mqtts" || protocol === "wss";
  const secured = isTls ? tlsStep(settings, limits, spoken) : spoken;
  return settings.proxy ? proxyStep(settings.proxy_from, secured) : secured;
}

function webSocketStep(limits: Settings["limits"], next: Step<Duplex>): Step<Duplex> {
  const door = new WebSocketDoor(limits);
  return (socket, arrival) =>
    door.upgrade(socket, {
      opened: (stream) => {
        stream.on("error", ignore);
        next(stream, arrival);
      },
      refused: (why) => arrival.refuse("websocket", why, true),
    });
}

function tlsStep(
  settings: ListenerSettings,
  limits: Settings["limits"],
  next: Step<Duplex>,
): Step<Socket> {
  const material = readTlsFiles(settings);
  const asksCertificate = material.ca !== undefined;
  const server = createSecureServer(settings, {
    ...material,
    minVersion: "TLSv1.2",
    requestCert: asksCertificate,
    // Judged by certificateFault: who shows none may still come in by a password.
    rejectUnauthorized: false,
    // Later than the arrival's own deadline.
    handshakeTimeout: (limits.connect_seconds_max + 1) * 1_000,
  });
  // tls.Server does not tell of which socket it made a TLSSocket; the asynchronous context does.
  const arrivals = new AsyncLocalStorage<Arrival>();
  server.on("tlsClientError", (error) => arrivals.getStore()?.refuse("tls", reasonOf(error)));
  server.on("secureConnection", (socket) => {
    socket.on("error", ignore);
    const arrival = arrivals.getStore();
    assert(arrival, "a TLS connection that never arrived");
    const fault = asksCertificate ? certificateFault(socket) : undefined;
    if (fault !== undefined) return arrival.refuse("certificate", fault);
    if (!arrival.tlsIsBalancers && socket.authorized) {
      arrival.learn({ certificateName: commonName(socket) });
    }
    next(socket, arrival);
  });
  return (socket, arrival) => arrivals.run(arrival, () => server.emit("connection", socket));
}

function createSecureServer(settings: ListenerSettings, options: TlsOptions): SecureServer {
  try {
    return createTlsServer(options);
  } catch (cause) {
    // Readable files that OpenSSL refuses all the same: a key too small, an algorithm too old.
    const files = [settings.cert_file, settings.key_file, settings.ca_file].join(" ").trim();
    const message = `listener ${settings.protocol} ${settings.address} cannot use ${files}`;
    throw new SluiceError("CERTIFICATE_UNREADABLE", `${message}: ${reasonOf(cause)}`, { cause });
  }
}

function certificateFault(socket: TLSSocket): string | undefined {
  if (socket.authorized || socket.getPeerX509Certificate() === undefined) return undefined;
  return `its certificate is not good: ${reasonOf(socket.authorizationError)}`;
}

/** Undefined also where a certificate has several, which would leave it to chance who it is. */
function commonName(socket: TLSSocket): string | undefined {
  const name = socket.getPeerCertificate().subject?.CN;
  return typeof name === "string" && name !== "" ? name : undefined;
}

function proxyStep(from: readonly string[], next: Step<Socket>): Step<Socket> {
  const balancers = new BlockList();
  for (const ip of from) balancers.addAddress(ip, familyOf(ip));
  return (socket, arrival) => {
    const { ip } = arrival.peer;
    // Who may connect to a unix socket, its mode says.
    if (ip !== undefined && !balancers.check(ip, familyOf(ip))) {
      return arrival.refuse("proxy_from", "its address is not in proxy_from");
    }
    readProxyHeader(socket, (outcome) => {
      if (typeof outcome === "string") return arrival.refuse("proxy_header", outcome);
      // Without an IP address a client would pass for one of this machine.
      if (outcome.command === "PROXY" && outcome.source === undefined) {
        return arrival.refuse("proxy_header", "the PROXY header tells no IP address of the client");
      }
      arrival.learnFromBalancer(outcome);
      next(socket, arrival);
    });
  };
}

/** Reads from `socket` the header and nothing else: tells it, or why there is none. */
function readProxyHeader(socket: Socket, tell: (outcome: ProxyHeader | string) => void): void {
  let held: Buffer = Buffer.alloc(0);
  const done = (outcome: ProxyHeader | string) => {
    socket.removeListener("readable", onReadable).removeListener("end", onEnd);
    tell(outcome);
  };
  const onEnd = () => done("the connection ended before a whole PROXY header");
  const onReadable = () => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    held = Buffer.concat([held, chunk]);
    const answer = proxyHeaderIn(held);
    if (typeof answer === "string") return done(answer);
    if ("needs" in answer) return;
    if (held.length > answer.bytes) socket.unshift(held.subarray(answer.bytes));
    done(answer.header);
  };
  socket.on("readable", onReadable).on("end", onEnd);
}

function proxyHeaderIn(bytes: Buffer): ReturnType<typeof parseProxyHeader> | string {
  try {
    return parseProxyHeader(bytes);
  } catch (fault) {
    if (!(fault instanceof SluiceError)) throw fault;
    return fault.message;
  }
}

function familyOf(ip: string): "ipv4" | "ipv6" {
  return isIPv6(ip) ? "ipv6" : "ipv4";
}

/** Without what the kernel adds: ::ffff: before an IPv4 address that came in over IPv6 (RFC 4291
 * §2.5.5.2), and the interface behind a link-local one (RFC 4007 §11). */
function plainIp(ip: string): string {
  return ip.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
}

function ignore(): void {}

// reception: counts the connections of all listeners, and leads each to the session or away.
// Path: client → listeners → [reception] → session. Touches: sockets.

import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Log } from "#runtime/log";
import type { Metrics, Tally } from "#runtime/metrics";
import type { ListenerSettings, Settings } from "#runtime/settings-schema";
import type { ProxyHeader } from "./proxy-protocol.ts";
import { SparingLog } from "./sparing-log.ts";

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

/** A connection that was handed over, as the session tells of it. */
export interface Entrance {
  /** When it was accepted, by performance.now(): limits.connect_seconds_max counts from here. */
  readonly acceptedAtMs: number;
  /** Say it once, with the CONNACK that welcomes: until then it counts as unauthenticated. */
  authenticated(): void;
}

export interface ReceptionOptions {
  readonly listeners: readonly ListenerSettings[];
  readonly limits: Settings["limits"];
  readonly log: Log;
  readonly metrics: Metrics;
  /** Takes over the connection, and its deadline; errors of the stream have a listener already. */
  readonly accept: (stream: Duplex, peer: Peer, entrance: Entrance) => void;
}

/** One address, and the way that connections to it take now. */
export interface Gate {
  settings: ListenerSettings;
  enter: Step<Socket>;
}

/** A part of the way: does its own, then hands on or refuses. */
export type Step<S extends Duplex> = (socket: S, arrival: Arrival) => void;

type RefusalReason =
  | "connections_max" // limits.connections_max are here already
  | "connections_per_address_max" // as many are here from the client's address
  | "connections_unauthenticated_max" // as many are here that have not logged in
  | "deadline" // not handed over within limits.connect_seconds_max
  | "left" // the client closed before it was handed over
  | "proxy_from" // no balancer of ours
  | "proxy_header" // a balancer that sends no good PROXY v2 header
  | "tls" // the handshake failed
  | "certificate" // the client's certificate is none of ours
  | "origin" // a page in a browser that is not among the listener's origins
  | "websocket"; // no upgrade to MQTT over WebSocket

/** These an operator can do something about; the others a stranger causes at will. */
const LOGGED: ReadonlySet<RefusalReason> = new Set([
  "connections_max",
  "connections_per_address_max",
  "connections_unauthenticated_max",
  "origin",
  "proxy_from",
  "proxy_header",
]);

/** Counts connections over all listeners, by address and until they log in, and refusals. */
export class Reception {
  readonly #options: ReceptionOptions;
  readonly #countRefused: (labels: { reason: string }) => void;
  readonly #refusals: SparingLog;
  readonly #accepted = new Map<string, Tally>();
  /** Those that could not be handed over at once. */
  readonly #arriving = new Set<Arrival>();
  readonly #byIp = new Map<string, number>();
  #connections = 0;
  #unauthenticated = 0;

  constructor(options: ReceptionOptions) {
    const { metrics, log } = options;
    this.#options = options;
    this.#refusals = new SparingLog((line) =>
      log.warn(line, "connection refused; see sluice_connections_refused_total"),
    );
    metrics.gauge("sluice_connections", "Open connections.", () => this.#connections);
    metrics.gauge(
      "sluice_connections_unauthenticated",
      "Open connections that have not logged in yet.",
      () => this.#unauthenticated,
    );
    metrics.gauge(
      "sluice_connections_per_address",
      "Open connections of the IP address that has most of them.",
      () => greatest(this.#byIp.values()),
    );
    this.#countRefused = metrics.counter(
      "sluice_connections_refused_total",
      "Connections that ended before a session.",
    );
    for (const { protocol } of options.listeners) this.#acceptedBy(protocol);
  }

  /** Lets the connection on its way, unless it cannot even begin it. */
  admit(socket: Socket, { settings, enter }: Gate): void {
    const { protocol, address, proxy } = settings;
    socket.on("error", ignore);
    const ip = socket.remoteAddress;
    // A TCP peer that has reset the connection already has no address any more, but what it sent
    // can still be read: it must not pass for the trusted peer of a unix socket.
    if (ip === undefined && !address.startsWith("unix:")) {
      this.#turnAway(socket, "left", "the client reset the connection");
      return;
    }
    const reason = this.#fullness();
    if (reason !== undefined) {
      this.#turnAway(socket, reason, `${this.#options.limits[reason]} are here`);
      return;
    }
    const peer: Peer = {
      protocol,
      ip: ip && plainIp(ip),
      port: socket.remotePort,
      certificateName: undefined,
      proxied: "none",
    };
    this.#connections += 1;
    this.#unauthenticated += 1;
    const arrival = new Arrival(this, socket, peer);
    socket.on("close", () => arrival.closed());
    // Behind a balancer it is the client's address that counts, which is not known yet.
    if (!proxy && !arrival.countAddress()) return;
    enter(socket, arrival);
    if (!arrival.isArriving) return;
    this.#arriving.add(arrival);
    arrival.limit(this.#options.limits.connect_seconds_max);
  }

  /** One more of this address; false where it has as many as it may. */
  enter(ip: string): boolean {
    const count = this.#byIp.get(ip) ?? 0;
    if (count >= this.#options.limits.connections_per_address_max) return false;
    this.#byIp.set(ip, count + 1);
    return true;
  }

  leave(ip: string): void {
    const count = this.#byIp.get(ip) ?? 0;
    if (count > 1) this.#byIp.set(ip, count - 1);
    else this.#byIp.delete(ip);
  }

  closed(isAuthenticated: boolean): void {
    this.#connections -= 1;
    if (!isAuthenticated) this.#unauthenticated -= 1;
  }

  authenticated(): void {
    this.#unauthenticated -= 1;
  }

  handedOver(arrival: Arrival, stream: Duplex): void {
    this.#arriving.delete(arrival);
    this.#acceptedBy(arrival.peer.protocol).add();
    this.#options.accept(stream, arrival.peer, arrival);
  }

  refused(arrival: Arrival, reason: RefusalReason, why: string): void {
    this.#arriving.delete(arrival);
    this.#tell(reason, why, arrival.peer.ip);
  }

  /** Ends who is still on the way. */
  close(): void {
    for (const arrival of this.#arriving) arrival.refuse("left", "the broker stops");
  }

  #fullness(): "connections_max" | "connections_unauthenticated_max" | undefined {
    const { limits } = this.#options;
    if (this.#connections >= limits.connections_max) return "connections_max";
    if (this.#unauthenticated < limits.connections_unauthenticated_max) return undefined;
    return "connections_unauthenticated_max";
  }

  #turnAway(socket: Socket, reason: RefusalReason, why: string): void {
    this.#tell(reason, why, socket.remoteAddress);
    socket.destroy();
  }

  #tell(reason: RefusalReason, why: string, ip: string | undefined): void {
    this.#countRefused({ reason });
    if (LOGGED.has(reason)) this.#refusals.tell(reason, ip, { ip, why });
    else this.#options.log.debug({ reason, why, ip }, "connection refused");
  }

  #acceptedBy(protocol: string): Tally {
    const known = this.#accepted.get(protocol);
    if (known) return known;
    const help = "Connections handed to a session.";
    const tally = this.#options.metrics.tally("sluice_connections_total", help, { protocol });
    this.#accepted.set(protocol, tally);
    return tally;
  }
}

/**
 * One connection: on its way to the session, with what is known of its peer so far, and then as
 * long as its socket is open, for the sake of what is counted.
 * arriving → handed over, or arriving → refused; both are final.
 */
class Arrival implements Entrance {
  readonly acceptedAtMs = performance.now();
  readonly #reception: Reception;
  readonly #socket: Socket;
  #deadline: NodeJS.Timeout | undefined;
  #mode: "arriving" | "handed over" | "refused" = "arriving";
  #peer: Peer;
  #tlsIsBalancers = false;
  #isAuthenticated = false;
  #isClosed = false;
  #countedIp: string | undefined;

  constructor(reception: Reception, socket: Socket, peer: Peer) {
    this.#reception = reception;
    this.#socket = socket;
    this.#peer = peer;
  }

  get peer(): Peer {
    return this.#peer;
  }

  get isArriving(): boolean {
    return this.#mode === "arriving";
  }

  /** TLS here is the balancer's own, and says nothing of the client. */
  get tlsIsBalancers(): boolean {
    return this.#tlsIsBalancers;
  }

  limit(secondsMax: number): void {
    const expire = () => this.refuse("deadline", `not there after ${secondsMax} s`);
    this.#deadline = setTimeout(expire, secondsMax * 1_000).unref();
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

  /** Counts the connection as one of its peer's address; refuses it where that has too many. */
  countAddress(): boolean {
    const { ip } = this.#peer;
    if (ip === undefined) return true;
    if (this.#reception.enter(ip)) {
      this.#countedIp = ip;
      return true;
    }
    this.refuse("connections_per_address_max", "as many are here from this address");
    return false;
  }

  authenticated(): void {
    if (this.#isAuthenticated || this.#isClosed) return;
    this.#isAuthenticated = true;
    this.#reception.authenticated();
  }

  closed(): void {
    this.#isClosed = true;
    this.#reception.closed(this.#isAuthenticated);
    if (this.#countedIp !== undefined) this.#reception.leave(this.#countedIp);
    this.refuse("left", "the client closed the connection");
  }

  handOver(stream: Duplex): void {
    if (this.#settle("handed over")) this.#reception.handedOver(this, stream);
  }

  /** Counts the refusal and destroys the socket; `isAnswered`: the client is being told, and the
   * socket ends with the answer. */
  refuse(reason: RefusalReason, why: string, isAnswered = false): void {
    if (!this.#settle("refused")) return;
    if (!isAnswered) this.#socket.destroy();
    this.#reception.refused(this, reason, why);
  }

  #settle(mode: "handed over" | "refused"): boolean {
    if (this.#mode !== "arriving") return false;
    this.#mode = mode;
    clearTimeout(this.#deadline);
    return true;
  }
}

/** Without what the kernel adds: ::ffff: before an IPv4 address that came in over IPv6 (RFC 4291
 * §2.5.5.2), and the interface behind a link-local one (RFC 4007 §11). */
export function plainIp(ip: string): string {
  return ip.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
}

function greatest(numbers: Iterable<number>): number {
  let most = 0;
  for (const number of numbers) most = Math.max(most, number);
  return most;
}

/** For errors that the close of the same socket tells of. */
export function ignore(): void {}

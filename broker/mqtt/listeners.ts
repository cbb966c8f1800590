// listeners: the addresses at which clients arrive, and the way of each connection from there to
// the session: counted → named by the balancer → secured → upgraded → handed over.
// Path: client → [listeners] → session. Touches: sockets.

import { BlockList, isIPv6, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { SluiceError } from "#contract/errors";
import type { Log } from "#runtime/log";
import type { Metrics, Tally } from "#runtime/metrics";
import type { ListenerSettings, Settings } from "#runtime/settings-schema";
import { addressOf, listen } from "./listen.ts";
import { type ProxyHeader, parseProxyHeader } from "./proxy-protocol.ts";
import { RefusalLog } from "./refusal-log.ts";
import { SecureDoor } from "./secure-door.ts";
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

/** A connection that was handed over, as the session tells of it. */
export interface Entrance {
  /** When it was accepted, by performance.now(): limits.connect_seconds_max counts from here. */
  readonly acceptedAtMs: number;
  /** Say it once, with the CONNACK that welcomes: until then it counts as unauthenticated. */
  authenticated(): void;
}

export interface Listeners {
  /** Where clients can go, with the true port: `mqtt://127.0.0.1:1883`, `mqtt+unix:/path`. */
  readonly addresses: readonly string[];
  /**
   * Reads the files of these listeners; the function returned lets who comes from then on in by
   * them. Those of another protocol or address than any here are left out.
   * @throws SluiceError CERTIFICATE_UNREADABLE, with nothing changed.
   */
  prepare(listeners: readonly ListenerSettings[]): () => void;
  /** Stops accepting; who was handed over stays. */
  close(): Promise<void>;
}

export interface ListenersOptions {
  readonly listeners: readonly ListenerSettings[];
  readonly limits: Settings["limits"];
  readonly log: Log;
  readonly metrics: Metrics;
  /** Takes over the connection, and its deadline; errors of the stream have a listener already. */
  readonly accept: (stream: Duplex, peer: Peer, entrance: Entrance) => void;
}

/** One address, and the way that connections to it take now. */
interface Gate {
  settings: ListenerSettings;
  enter: Step<Socket>;
}

/**
 * Listens on all addresses of the settings, or on none.
 * @throws SluiceError LISTEN_FAILED, CERTIFICATE_UNREADABLE.
 */
export async function openListeners(options: ListenersOptions): Promise<Listeners> {
  const { limits, log } = options;
  const reception = new Reception(options);
  // All files are read before the first port opens.
  const gates = options.listeners.map((settings) => gateOf(settings, limits));
  const servers: Server[] = [];
  const addresses: string[] = [];
  const close = async () => {
    for (const server of servers) server.close();
    reception.close();
  };
  try {
    for (const gate of gates) {
      const server = await listen(gate.settings, log, (socket) => reception.admit(socket, gate));
      servers.push(server);
      addresses.push(addressOf(gate.settings.protocol, server));
    }
  } catch (fault) {
    await close();
    throw fault;
  }
  log.info({ addresses }, "listening");
  return { addresses, close, prepare: (listeners) => prepare(gates, listeners, limits) };
}

function gateOf(settings: ListenerSettings, limits: Settings["limits"]): Gate {
  return { settings, enter: wayOf(settings, limits) };
}

function prepare(
  gates: readonly Gate[],
  listeners: readonly ListenerSettings[],
  limits: Settings["limits"],
): () => void {
  const changes = gates.flatMap((gate) => {
    const { protocol, address } = gate.settings;
    const next = listeners.find((it) => it.protocol === protocol && it.address === address);
    return next ? [{ gate, next: gateOf(next, limits) }] : [];
  });
  return () => {
    for (const { gate, next } of changes) Object.assign(gate, next);
  };
}

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
class Reception {
  readonly #options: ListenersOptions;
  readonly #countRefused: (labels: { reason: string }) => void;
  readonly #refusals: RefusalLog;
  readonly #accepted = new Map<string, Tally>();
  /** Those that could not be handed over at once. */
  readonly #arriving = new Set<Arrival>();
  readonly #byIp = new Map<string, number>();
  #connections = 0;
  #unauthenticated = 0;

  constructor(options: ListenersOptions) {
    const { metrics, log } = options;
    this.#options = options;
    this.#refusals = new RefusalLog(
      log,
      "connection refused; see sluice_connections_refused_total",
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
    if (LOGGED.has(reason)) this.#refusals.tell(reason, { ip }, { why });
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

/** A part of the way: does its own, then hands on or refuses. */
type Step<S extends Duplex> = (socket: S, arrival: Arrival) => void;

/** The steps that a connection to this listener takes, in order from the last to the first. */
function wayOf(settings: ListenerSettings, limits: Settings["limits"]): Step<Socket> {
  const { protocol } = settings;
  const handOver: Step<Duplex> = (stream, arrival) => arrival.handOver(stream);
  const isWeb = protocol === "ws" || protocol === "wss";
  const spoken = isWeb ? webSocketStep(settings, limits, handOver) : handOver;
  const isTls = protocol === "mqtts" || protocol === "wss";
  const secured = isTls ? tlsStep(settings, limits, spoken) : spoken;
  return settings.proxy ? proxyStep(settings.proxy_from, secured) : secured;
}

function webSocketStep(
  { origins }: ListenerSettings,
  limits: Settings["limits"],
  next: Step<Duplex>,
): Step<Duplex> {
  const door = new WebSocketDoor(limits, origins);
  return (socket, arrival) =>
    door.upgrade(socket, {
      opened: (stream) => {
        stream.on("error", ignore);
        next(stream, arrival);
      },
      refused: (reason, why) => arrival.refuse(reason, why, true),
    });
}

function tlsStep(
  settings: ListenerSettings,
  limits: Settings["limits"],
  next: Step<Duplex>,
): Step<Socket> {
  // Later than the arrival's own deadline.
  const door = new SecureDoor(settings, limits.connect_seconds_max + 1);
  return (socket, arrival) =>
    door.secure(socket, {
      secured: (stream, certificateName) => {
        const isProved = certificateName !== undefined && !arrival.tlsIsBalancers;
        if (isProved) arrival.learn({ certificateName });
        next(stream, arrival);
      },
      refused: (reason, why) => arrival.refuse(reason, why),
    });
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
      // The balancer itself may come as often as it likes.
      if (outcome.command === "PROXY" && !arrival.countAddress()) return;
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

function greatest(numbers: Iterable<number>): number {
  let most = 0;
  for (const number of numbers) most = Math.max(most, number);
  return most;
}

function ignore(): void {}

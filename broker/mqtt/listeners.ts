// listeners: the addresses at which clients arrive, and the way of each connection from there to
// the session: counted → named by the balancer → secured → upgraded → handed over.
// Path: client → [listeners] → session. Touches: sockets.

import { BlockList, isIPv6, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { SluiceError } from "#contract/errors";
import type { ListenerSettings, Settings } from "#runtime/settings-schema";
import { addressOf, listen } from "./listen.ts";
import { type ProxyHeader, parseProxyHeader } from "./proxy-protocol.ts";
import { type Gate, ignore, Reception, type ReceptionOptions, type Step } from "./reception.ts";
import type { SecureDoor } from "./secure-door.ts";
import type { WebSocketDoor } from "./web-socket.ts";

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

/** What TLS and WebSocket need, loaded where a listener speaks them: a small board has little memory. */
interface Doors {
  readonly secure: typeof SecureDoor | undefined;
  readonly web: typeof WebSocketDoor | undefined;
}

/**
 * Listens on all addresses of the settings, or on none.
 * @throws SluiceError LISTEN_FAILED, CERTIFICATE_UNREADABLE.
 */
export async function openListeners(options: ReceptionOptions): Promise<Listeners> {
  const { limits, log } = options;
  const reception = new Reception(options);
  // All files are read before the first port opens.
  const doors = await loadDoors(options.listeners);
  const gates = options.listeners.map((settings) => gateOf(settings, limits, doors));
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
  return { addresses, close, prepare: (listeners) => prepare(gates, listeners, limits, doors) };
}

async function loadDoors(listeners: readonly ListenerSettings[]): Promise<Doors> {
  const isSpoken = (...names: string[]) => listeners.some((it) => names.includes(it.protocol));
  const secure = isSpoken("mqtts", "wss") ? await import("./secure-door.ts") : undefined;
  const web = isSpoken("ws", "wss") ? await import("./web-socket.ts") : undefined;
  return { secure: secure?.SecureDoor, web: web?.WebSocketDoor };
}

function gateOf(settings: ListenerSettings, limits: Settings["limits"], doors: Doors): Gate {
  return { settings, enter: wayOf(settings, limits, doors) };
}

function prepare(
  gates: readonly Gate[],
  listeners: readonly ListenerSettings[],
  limits: Settings["limits"],
  doors: Doors,
): () => void {
  const changes = gates.flatMap((gate) => {
    const { protocol, address } = gate.settings;
    const next = listeners.find((it) => it.protocol === protocol && it.address === address);
    return next ? [{ gate, next: gateOf(next, limits, doors) }] : [];
  });
  return () => {
    for (const { gate, next } of changes) Object.assign(gate, next);
  };
}

/** The steps that a connection to this listener takes, in order from the last to the first. */
function wayOf(
  settings: ListenerSettings,
  limits: Settings["limits"],
  { secure, web }: Doors,
): Step<Socket> {
  const { protocol } = settings;
  const handOver: Step<Duplex> = (stream, arrival) => arrival.handOver(stream);
  const isWeb = protocol === "ws" || protocol === "wss";
  const spoken =
    isWeb && web ? webSocketStep(new web(limits, settings.origins), handOver) : handOver;
  const isTls = protocol === "mqtts" || protocol === "wss";
  // Later than the arrival's own deadline.
  const handshakeSecondsMax = limits.connect_seconds_max + 1;
  const secured =
    isTls && secure ? tlsStep(new secure(settings, handshakeSecondsMax), spoken) : spoken;
  return settings.proxy ? proxyStep(settings.proxy_from, secured) : secured;
}

function webSocketStep(door: WebSocketDoor, next: Step<Duplex>): Step<Duplex> {
  return (socket, arrival) =>
    door.upgrade(socket, {
      opened: (stream) => {
        stream.on("error", ignore);
        next(stream, arrival);
      },
      refused: (reason, why) => arrival.refuse(reason, why, true),
    });
}

function tlsStep(door: SecureDoor, next: Step<Duplex>): Step<Socket> {
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

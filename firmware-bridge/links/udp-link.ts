// udp-link: a link that listens for datagrams, each of which says who sent it.
// Path: network → [udp-link] → driver. Touches: the network.

import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { Readable } from "node:stream";
import { reasonOf, SluiceError } from "#contract/errors";
import { parseAddress } from "#runtime/address";
import type { Chunk, Datagram, Datagrams } from "../driver.ts";
import { type LinkCounts, newCounts, type OpenPort } from "./open-port.ts";

/** Datagrams that wait for the driver; more are let go, as UDP may at any place. */
const WAITING_MAX = 256;
const SCHEME = "udp://";

/** Listens; @throws SluiceError LINK_FAILED that says why it cannot. */
export async function openUdp(
  address: string,
  counts: LinkCounts = newCounts(),
): Promise<OpenPort> {
  const { host, port } = hostAndPort(address.slice(SCHEME.length));
  const socket = createSocket(isIPv6(host) ? "udp6" : "udp4");
  await new Promise<void>((resolve, reject) => {
    socket.once("error", (cause) => {
      socket.close();
      const message = `${address} cannot be listened on: ${reasonOf(cause)}`;
      reject(new SluiceError("LINK_FAILED", message, { cause }));
    });
    socket.bind(port, host, resolve);
  });
  socket.removeAllListeners("error");
  return new UdpLink(socket, address, counts);
}

function hostAndPort(text: string): { readonly host: string; readonly port: number } {
  const address = parseAddress(text);
  if ("path" in address) throw new SluiceError("LINK_FAILED", `${text} is not host:port`);
  return address;
}

class UdpLink implements OpenPort {
  readonly path: string;
  readonly baudRate = undefined;
  readonly closed: Promise<string>;
  readonly readable: Readable & AsyncIterable<Chunk>;
  readonly datagrams: Datagrams;
  readonly #socket: Socket;
  readonly #counts: LinkCounts;
  readonly #received: Readable & AsyncIterable<Datagram>;
  readonly #resolveClosed: (reason: string) => void;
  #closing: Promise<void> | undefined;

  constructor(socket: Socket, address: string, counts: LinkCounts) {
    this.#socket = socket;
    this.path = address;
    this.#counts = counts;
    const closed = Promise.withResolvers<string>();
    this.closed = closed.promise;
    this.#resolveClosed = closed.resolve;
    const nothing = { objectMode: true, read() {} };
    this.readable = new Readable(nothing);
    this.#received = new Readable({ ...nothing, highWaterMark: WAITING_MAX });
    this.datagrams = {
      received: this.#received,
      send: (peer, bytes) => this.#send(peer, bytes),
    };
    socket.on("message", (bytes, from) => this.#take(bytes, from));
    socket.on("error", (fault) => void this.close(reasonOf(fault)));
  }

  async write(): Promise<void> {
    throw new SluiceError("LINK_FAILED", `${this.path} is no line: a datagram goes to its peer`);
  }

  close(reason: string): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.#resolveClosed(reason);
      this.readable.push(null);
      this.#received.push(null);
      this.#socket.close(resolve);
    });
    return this.#closing;
  }

  #take(bytes: Buffer, { address, port, family }: RemoteInfo): void {
    if (this.#received.readableLength >= WAITING_MAX) {
      this.#counts.dropped += 1;
      return;
    }
    const receivedAtMs = Date.now();
    this.#counts.bytesIn += bytes.length;
    this.#counts.chunks += 1;
    this.#counts.lastHeardAtMs = receivedAtMs;
    const peer = family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`;
    this.#received.push({ bytes, receivedAtMs, peer } satisfies Datagram);
  }

  #send(peer: string, bytes: Uint8Array): Promise<void> {
    const { host, port } = hostAndPort(peer);
    return new Promise((resolve, reject) => {
      const done = (cause: Error | null) => {
        if (cause) {
          const message = `${this.path} cannot send to ${peer}: ${reasonOf(cause)}`;
          reject(new SluiceError("LINK_FAILED", message, { cause }));
          return;
        }
        this.#counts.bytesOut += bytes.length;
        resolve();
      };
      try {
        this.#socket.send(bytes, port, host, done);
      } catch (cause) {
        done(cause as Error); // closed meanwhile
      }
    });
  }
}

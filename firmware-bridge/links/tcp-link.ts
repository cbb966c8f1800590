// tcp-link: a link over a raw TCP connection, as to ser2net or a Modbus gateway.
// Path: network → [tcp-link] → driver. Touches: the network.

import { connect, type Socket } from "node:net";
import type { Readable } from "node:stream";
import { reasonOf, SluiceError } from "#contract/errors";
import { parseAddress } from "#runtime/address";
import type { Chunk } from "../driver.ts";
import { ChunkQueue } from "./chunk-queue.ts";
import { type LinkCounts, newCounts, type OpenPort } from "./open-port.ts";
import { READ_LIMITS } from "./port-reader.ts";
import { WriteQueue } from "./write-queue.ts";

const TCP_LIMITS = {
  connectMsMax: 10_000,
  writeMsMax: 5_000,
  /** Silent for so long, the other side is asked whether it is still there. */
  keepAliveMs: 10_000,
} as const;

const SCHEME = "tcp://";

/** Connects; @throws SluiceError LINK_FAILED that says why it cannot. */
export async function openTcp(
  address: string,
  counts: LinkCounts = newCounts(),
  { connectMsMax }: { readonly connectMsMax: number } = TCP_LIMITS,
): Promise<OpenPort> {
  const socket = connect({
    ...parseAddress(address.slice(SCHEME.length)),
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: TCP_LIMITS.keepAliveMs,
  });
  await connected(socket, address, connectMsMax);
  return new TcpLink(socket, address, counts);
}

function connected(socket: Socket, address: string, msMax: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => {
      clearTimeout(late);
      socket.destroy();
      const message = `${address} cannot be reached: ${reasonOf(cause)}`;
      reject(new SluiceError("LINK_FAILED", message, { cause }));
    };
    const late = setTimeout(() => fail(new Error(`no answer within ${msMax} ms`)), msMax);
    socket.once("error", fail);
    socket.once("connect", () => {
      clearTimeout(late);
      socket.off("error", fail);
      resolve();
    });
  });
}

class TcpLink implements OpenPort {
  readonly path: string;
  readonly baudRate = undefined;
  readonly closed: Promise<string>;
  readonly #socket: Socket;
  readonly #counts: LinkCounts;
  readonly #queue: ChunkQueue;
  readonly #writes: WriteQueue;
  #wanted = false;
  #why = "the other side closed the connection";

  constructor(socket: Socket, address: string, counts: LinkCounts) {
    this.#socket = socket;
    this.path = address;
    this.#counts = counts;
    this.#writes = new WriteQueue({
      name: address,
      msMax: () => TCP_LIMITS.writeMsMax,
      transmit: (bytes) => this.#transmit(bytes),
    });
    const { readAheadChunksMax } = READ_LIMITS;
    this.#queue = new ChunkQueue(readAheadChunksMax, counts, () => {
      this.#wanted = true;
      setImmediate(() => this.#take());
    });
    const closed = Promise.withResolvers<string>();
    this.closed = closed.promise;
    socket.on("readable", () => this.#take());
    socket.on("error", (fault) => {
      this.#why = reasonOf(fault);
    });
    socket.on("end", () => this.#queue.end());
    socket.on("close", () => {
      closed.resolve(this.#why);
      this.#queue.end();
    });
  }

  get readable(): Readable & AsyncIterable<Chunk> {
    return this.#queue.readable;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#writes.write(bytes);
  }

  async close(reason: string): Promise<void> {
    if (!this.#socket.destroyed && !this.#socket.readableEnded) this.#why = reason;
    this.#socket.destroy();
    await this.closed;
  }

  /** In pieces, so that everybody else has a turn between them. */
  #take(): void {
    if (!this.#wanted) return;
    const { readableLength } = this.#socket;
    const size = Math.min(readableLength, READ_LIMITS.readBytesMax);
    const bytes: Buffer | null = this.#socket.read(size === 0 ? undefined : size);
    if (bytes === null) return;
    this.#wanted = false;
    this.#queue.push(bytes);
  }

  #transmit(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.write(bytes, (fault) => {
        if (fault) reject(this.#failure(reasonOf(fault), fault));
        else {
          this.#counts.bytesOut += bytes.length;
          resolve();
        }
      });
    });
  }

  #failure(why: string, cause: unknown): SluiceError {
    return new SluiceError("LINK_FAILED", `${this.path} takes no bytes: ${why}`, { cause });
  }
}

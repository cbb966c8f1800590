// flood: connections that write as fast as the broker reads, or that read as slowly as they like.
// Path: tests of isolation → [flood] → sockets. Touches: TCP connections.

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { connectPacket } from "../../conformance/support/wire-build.ts";

export interface Flood {
  /** Bytes that the broker's side has taken up to now. */
  sentBytes(): number;
  /** Sends no more, and ends the connection. */
  stop(): void;
}

export interface FloodOptions {
  readonly clientId: string;
  /** Written again and again. */
  readonly bytes: Buffer;
  /** false: what the broker answers is never read. */
  readonly reads: boolean;
}

/** A client that says CONNECT and then `bytes`, as often as the broker takes them. */
export async function flood(
  t: TestContext,
  port: number,
  { clientId, bytes, reads }: FloodOptions,
): Promise<Flood> {
  const socket = await raw(t, port);
  socket.write(connectPacket({ clientId }));
  await once(socket, "readable");
  if (reads) socket.resume();
  const more = () =>
    socket.write(bytes, (fault) => {
      if (!fault) setImmediate(more);
    });
  more();
  return {
    sentBytes: () => socket.bytesWritten - socket.writableLength,
    stop: () => socket.destroy(),
  };
}

/** A connection whose errors do not matter. */
export async function raw(t: TestContext, port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  t.after(() => socket.destroy());
  await once(socket, "connect");
  socket.on("error", () => {});
  return socket;
}

/** Reads one byte a turn of the event loop, until it has `count` of them. */
export async function readSlowly(socket: Socket, count: number): Promise<void> {
  socket.pause();
  for (let left = count; left > 0; ) {
    if (socket.destroyed) throw new Error(`closed with ${left} of ${count} bytes to come`);
    if (socket.read(1) === null) await once(socket, "readable");
    else left -= 1;
    await turn();
  }
}

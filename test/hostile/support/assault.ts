// assault: sends hostile sequences to a broker, many at once, and sees each connection end.
// Path: sequences.test → [assault] → sockets. Touches: TCP connections.

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { type Sequence, sequence } from "./sequences.ts";

/** What a broker may take to end a connection that it must end. */
const END_MS_MAX = 20_000;

/** Plays the sequences `from` up to, not including, `to`; rejects when one does not end. */
export async function assault(
  port: number,
  from: number,
  to: number,
  atOnce: number,
): Promise<void> {
  let next = from;
  const run = async () => {
    while (next < to) {
      const index = next;
      next += 1;
      await play(port, sequence(index)).catch((cause: unknown) => {
        throw new Error(`sequence ${index} (${sequence(index).kind})`, { cause });
      });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, run));
}

async function play(port: number, { writes, end }: Sequence): Promise<void> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  socket.on("error", () => {});
  socket.resume();
  const closed = new Promise<void>((resolve) => {
    socket.on("close", () => resolve());
  });
  const late = AbortSignal.timeout(END_MS_MAX);
  await write(socket, writes);
  if (end === "close") socket.end();
  if (end === "reset") socket.resetAndDestroy();
  const fault = await Promise.race([closed, once(late, "abort")]);
  socket.destroy();
  if (fault) throw new Error(`not ended after ${END_MS_MAX} ms`);
}

async function write(socket: Socket, writes: readonly Buffer[]): Promise<void> {
  for (const bytes of writes) {
    if (!socket.writable) return;
    socket.write(bytes);
    if (writes.length > 1) await turn();
  }
}

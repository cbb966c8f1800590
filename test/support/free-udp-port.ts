// free-udp-port: a UDP port of loopback on which nobody listened a moment ago.
// Path: tests. Touches: a loopback port.

import { createSocket } from "node:dgram";
import { once } from "node:events";

export async function freeUdpPort(): Promise<number> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}

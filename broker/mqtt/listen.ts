// listen: opens one server on host:port or on a unix socket.
// Path: listeners → [listen]. Touches: the address, the file of a unix socket.

import { once } from "node:events";
import { chmodSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { reasonOf, SluiceError } from "#contract/errors";
import { parseAddress } from "#runtime/address";
import type { Log } from "#runtime/log";
import type { ListenerSettings } from "#runtime/settings-schema";
import { removeStaleSocket, SOCKET_MODE } from "#runtime/unix-socket";

/** Silence after which the kernel asks whether a TCP peer is still there. */
const KEEPALIVE_AFTER_MS = 60_000;

/** Clients that come at once, after a power cut or a restart, wait in the kernel; Linux cuts this to
 * net.core.somaxconn, where it is as many by default. */
const BACKLOG_MAX = 4_096;

/** @throws SluiceError LISTEN_FAILED in one line: which listener, why not, and the mend. */
export async function listen(
  { protocol, address: text }: Pick<ListenerSettings, "protocol" | "address">,
  log: Log,
  accept: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer(
    { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_AFTER_MS },
    accept,
  );
  const address = parseAddress(text);
  try {
    if ("path" in address) await removeStaleSocket(address.path);
    server.listen({ ...address, backlog: BACKLOG_MAX });
    await once(server, "listening");
    if ("path" in address) chmodSync(address.path, SOCKET_MODE);
  } catch (cause) {
    server.close();
    const why = whyNot(cause, "path" in address);
    throw new SluiceError("LISTEN_FAILED", `listener ${protocol} ${text} ${why}`, { cause });
  }
  // A connection that cannot be accepted, for want of file descriptors, is no reason to stop.
  server.on("error", (error) => log.warn({ err: error, address: text }, "accepting failed"));
  return server;
}

/** The true address, `mqtt://127.0.0.1:41234` or `mqtt+unix:/path`. */
export function addressOf(protocol: ListenerSettings["protocol"], server: Server): string {
  const bound = server.address();
  if (bound === null || typeof bound === "string") return `${protocol}+unix:${bound}`;
  const host = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return `${protocol}://${host}:${bound.port}`;
}

function whyNot(cause: unknown, isUnix: boolean): string {
  switch (codeOf(cause)) {
    case "EADDRINUSE":
      return "is taken by another process; stop that, or name another address";
    case "EACCES":
      return isUnix
        ? "cannot be created; its folder is missing, or this user may not write there"
        : "is not for this user; name a port over 1023, or grant CAP_NET_BIND_SERVICE";
    case "EADDRNOTAVAIL":
      return "is no address of this machine; name one that is, or 0.0.0.0 for all";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "names a host that cannot be resolved; name its IP address";
    case "":
      return reasonOf(cause);
    default:
      return `cannot be opened: ${reasonOf(cause)}`;
  }
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : "";
}

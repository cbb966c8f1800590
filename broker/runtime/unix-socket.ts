// unix-socket: the file of a unix socket: who may use it, and what a killed process left of it.
// Path: listeners, status, flash → [unix-socket]. Touches: the file.

import { once } from "node:events";
import { lstatSync, rmSync } from "node:fs";
import { connect } from "node:net";

/** Who may connect to a unix socket: its owner and its group. */
export const SOCKET_MODE = 0o660;

/**
 * Removes the file of a process that was killed, at which nobody can listen again.
 * @throws Error, with the mend, when the file is none of a socket, or of one in use.
 */
export async function removeStaleSocket(path: string): Promise<void> {
  const file = lstatSync(path, { throwIfNoEntry: false });
  if (file === undefined) return;
  if (!file.isSocket()) throw new Error("is a file that is no socket; name another path");
  if (await isListenedOn(path)) {
    throw new Error("is held by another process; stop that, or name another path");
  }
  rmSync(path, { force: true });
}

async function isListenedOn(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
    return true;
  } catch (cause) {
    // Any other refusal, as of a full backlog, comes from somebody who is there.
    return !["ECONNREFUSED", "ENOENT"].includes(String((cause as NodeJS.ErrnoException).code));
  } finally {
    socket.destroy();
  }
}

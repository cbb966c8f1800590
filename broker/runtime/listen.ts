// listen: opens an HTTP server on an address of the settings, at once or as soon as it can be had.
// Path: status, flash → [listen]. Touches: the address, the file of a unix socket, the clock.

import { once } from "node:events";
import { chmodSync } from "node:fs";
import type { Server } from "node:net";
import { reasonOf, SluiceError } from "#contract/errors";
import { parseAddress } from "./address.ts";
import { backoffMs, wait } from "./backoff.ts";
import type { Log } from "./log.ts";
import { removeStaleSocket, SOCKET_MODE } from "./unix-socket.ts";

/**
 * Opens the server on host:port or unix:/path; a unix socket is for its owner and group.
 * @throws SluiceError LISTEN_FAILED that begins with `what` and says why not.
 */
export async function listenOn(server: Server, text: string, what: string): Promise<void> {
  const address = parseAddress(text);
  try {
    if ("path" in address) await removeStaleSocket(address.path);
    server.listen(address);
    await once(server, "listening");
    if ("path" in address) chmodSync(address.path, SOCKET_MODE);
  } catch (cause) {
    server.close();
    const message = `${what} ${text} cannot be listened on: ${whyNot(cause, "path" in address)}`;
    throw new SluiceError("LISTEN_FAILED", message, { cause });
  }
}

function whyNot(cause: unknown, isUnix: boolean): string {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "EADDRINUSE") return "another process listens there";
  if (isUnix && (code === "EACCES" || code === "ENOENT")) {
    return "its folder is missing, or this user may not write there";
  }
  return reasonOf(cause);
}

interface RetryMs {
  readonly least: number;
  readonly most: number;
}

const RETRY_MS: RetryMs = { least: 1_000, most: 60_000 };

interface Closable {
  close(): Promise<void>;
}

/** A server that its process does without as long as the address cannot be had. */
export class PatientServer {
  readonly #open: () => Promise<Closable>;
  readonly #log: Log;
  readonly #retryMs: RetryMs;
  readonly #stopping = new AbortController();
  readonly #opened: Promise<Closable | undefined>;

  /** `open` is asked until it no longer throws LISTEN_FAILED; each reason is told once. */
  constructor(open: () => Promise<Closable>, log: Log, retryMs = RETRY_MS) {
    this.#open = open;
    this.#log = log;
    this.#retryMs = retryMs;
    this.#opened = this.#insist();
  }

  async #insist(): Promise<Closable | undefined> {
    const { signal } = this.#stopping;
    let told = "";
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        return await this.#open();
      } catch (fault) {
        if (!(fault instanceof SluiceError) || fault.code !== "LISTEN_FAILED") throw fault;
        if (fault.message !== told) this.#log.warn({ why: fault.message }, "will try again");
        told = fault.message;
        await wait(backoffMs(attempt, this.#retryMs.least, this.#retryMs.most), signal);
      }
    }
    return undefined;
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await (await this.#opened)?.close();
  }
}

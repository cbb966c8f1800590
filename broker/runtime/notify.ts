// notify: tells systemd that the service is ready, what it does, and that it makes progress.
// Path: main of both services. Touches: systemd's notification socket (sd_notify(3)).

import { endianness } from "node:os";
import { reasonOf, SluiceError } from "#contract/errors";

export interface Notify {
  ready(): void;
  status(text: string): void;
  stopping(): void;
  close(): void;
}

const SILENT: Notify = { ready() {}, status() {}, stopping() {}, close() {} };

/** How long to wait before what a full socket did not take is sent again. */
const RETRY_MS = 100;

/** Sends one datagram; false when the socket is full and it should be sent again. */
type Send = (text: string) => boolean;

/**
 * Speaks to the socket in NOTIFY_SOCKET; does nothing where systemd did not start us.
 * While `isAlive` says true, WATCHDOG=1 goes out twice per WATCHDOG_USEC.
 */
export async function openNotify(isAlive: () => boolean, env = process.env): Promise<Notify> {
  const path = env.NOTIFY_SOCKET;
  if (!path) return SILENT;
  if (!/^[/@]/.test(path)) {
    const allowed = "allowed is the path of a unix socket, or @ and its abstract name";
    throw new SluiceError("USAGE", `NOTIFY_SOCKET=${path} cannot be used: ${allowed}`);
  }
  const outgoing = new Outgoing(await openSend(path));
  const periodMs = watchdogPeriodMs(env);
  const timer =
    periodMs > 0
      ? setInterval(() => isAlive() && outgoing.tell("WATCHDOG", "1"), periodMs)
      : undefined;
  return {
    ready: () => outgoing.tell("READY", "1"),
    // A line of its own would be another assignment (sd_notify(3)).
    status: (text) => outgoing.tell("STATUS", text.replace(/\s+/g, " ")),
    stopping: () => outgoing.tell("STOPPING", "1"),
    close() {
      clearInterval(timer);
      outgoing.close();
    },
  };
}

// Linux's <sys/socket.h>, the same on x64 and arm64.
const AF_UNIX = 1;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 0o2 | 0o4000 | 0o2000000;
const MSG_NOSIGNAL = 0x4000;

/** By the C library itself: Node knows unix sockets only as streams. */
async function openSend(path: string): Promise<Send> {
  // Loaded only here, since nobody else needs the add-on.
  const { default: koffi } = await import("koffi").catch((cause: unknown) => {
    const message = `systemd cannot be notified, the add-on does not load: ${reasonOf(cause)}`;
    throw new SluiceError("USAGE", message, { cause });
  });
  const libc = koffi.load(null);
  const open = libc.func("int socket(int, int, int)");
  const sendTo = libc.func(
    "int64_t sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)",
  );
  const socket: number = open(AF_UNIX, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0);
  const address = socketAddress(path);
  return (text) => {
    const bytes = Buffer.from(text);
    const sent = sendTo(socket, bytes, bytes.length, MSG_NOSIGNAL, address, address.length);
    // systemd gone away is no reason to stop serving; its own watchdog judges us.
    return sent >= 0 || koffi.errno() !== koffi.os.errno.EAGAIN;
  };
}

/** A `struct sockaddr_un`; an abstract name stands behind a NUL and ends with the address (unix(7)). */
function socketAddress(path: string): Buffer {
  const family = endianness() === "LE" ? "\x01\0" : "\0\x01";
  return Buffer.from(family + (path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`));
}

/** What is still to be told: of each variable its newest value, in the order of first telling. */
class Outgoing {
  readonly #send: Send;
  readonly #values = new Map<string, string>();
  #retry: NodeJS.Timeout | undefined;

  constructor(send: Send) {
    this.#send = send;
  }

  tell(variable: string, value: string): void {
    this.#values.set(variable, value);
    if (this.#retry === undefined) this.#flush();
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#flush();
    clearTimeout(this.#retry);
  }

  #flush(): void {
    this.#retry = undefined;
    for (const [variable, value] of this.#values) {
      if (!this.#send(`${variable}=${value}`)) {
        this.#retry = setTimeout(() => this.#flush(), RETRY_MS).unref();
        return;
      }
      this.#values.delete(variable);
    }
  }
}

/** Half of WATCHDOG_USEC in milliseconds; 0 where no watchdog runs or it is meant for another pid. */
export function watchdogPeriodMs(env: NodeJS.ProcessEnv): number {
  const meantForUs = env.WATCHDOG_PID === undefined || Number(env.WATCHDOG_PID) === process.pid;
  const microseconds = Number(env.WATCHDOG_USEC ?? 0);
  return meantForUs && microseconds > 0 ? Math.max(1, Math.floor(microseconds / 2000)) : 0;
}

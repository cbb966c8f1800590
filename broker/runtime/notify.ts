// notify: tells systemd that the service is ready, what it does, and that it makes progress.
// Path: main of both services. Touches: systemd's notification socket (sd_notify(3)).

import type { DgramSocket } from "node-unix-socket";

export interface Notify {
  ready(): void;
  status(text: string): void;
  stopping(): void;
  close(): void;
}

const SILENT: Notify = { ready() {}, status() {}, stopping() {}, close() {} };

/**
 * Speaks to the socket in NOTIFY_SOCKET; does nothing where systemd did not start us.
 * While `isAlive` says true, WATCHDOG=1 goes out twice per WATCHDOG_USEC.
 */
export async function openNotify(isAlive: () => boolean, env = process.env): Promise<Notify> {
  const path = env.NOTIFY_SOCKET;
  if (!path) return SILENT;
  // Loaded only here, since nobody else needs the add-on.
  const { DgramSocket } = await import("node-unix-socket");
  const socket: DgramSocket = new DgramSocket();
  // A name that begins with @ is abstract: its first byte is 0 (unix(7)).
  const address = path.startsWith("@") ? `\0${path.slice(1)}` : path;
  const send = (text: string) => {
    const bytes = Buffer.from(text);
    // systemd gone away is no reason to stop serving; its own watchdog judges us.
    socket.sendTo(bytes, 0, bytes.length, address, () => {});
  };
  const periodMs = watchdogPeriodMs(env);
  const timer =
    periodMs > 0 ? setInterval(() => isAlive() && send("WATCHDOG=1"), periodMs) : undefined;
  return {
    ready: () => send("READY=1"),
    status: (text) => send(`STATUS=${text}`),
    stopping: () => send("STOPPING=1"),
    close() {
      clearInterval(timer);
      socket.close();
    },
  };
}

/** Half of WATCHDOG_USEC in milliseconds; 0 where no watchdog runs or it is meant for another pid. */
export function watchdogPeriodMs(env: NodeJS.ProcessEnv): number {
  const meantForUs = env.WATCHDOG_PID === undefined || Number(env.WATCHDOG_PID) === process.pid;
  const microseconds = Number(env.WATCHDOG_USEC ?? 0);
  return meantForUs && microseconds > 0 ? Math.max(1, Math.floor(microseconds / 2000)) : 0;
}

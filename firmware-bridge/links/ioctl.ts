// ioctl: what serialport's binding does not do with a terminal: single modem lines, RS-485, counts, locks.
// Path: port → [ioctl]. Touches: the port, by the C library itself.

import { reasonOf, SluiceError } from "#contract/errors";
import type { Rs485Settings } from "#runtime/settings-links";

// Linux's <asm-generic/ioctls.h> and <asm-generic/termbits.h>, the same on x64 and arm64.
const TIOCOUTQ = 0x5411;
const TIOCMBIS = 0x5416;
const TIOCMBIC = 0x5417;
const TIOCSRS485 = 0x542f;
const TIOCGICOUNT = 0x545d;
const TCGETS2 = 0x802c542a;
const TCSETS2 = 0x402c542b;
const MODEM_LINES = { dtr: 0x002, rts: 0x004 } as const;
const HUPCL = 0o2000;
/** A `struct termios2`, and where its c_cflag stands. */
const TERMIOS_BYTES = 44;
const CFLAG_AT = 8;
// <linux/serial.h>.
const RS485_BYTES = 32;
const RS485 = { enabled: 1, rtsOnSend: 2, rtsAfterSend: 4, terminate: 32 } as const;
// flock(2).
const LOCK = { exclusive: 2, unblocking: 4, none: 8 } as const;
const COUNTS_BYTES = 80;
/** In a `struct serial_icounter_struct`: overrun of the chip, and buf_overrun of the kernel. */
const OVERRUNS_AT = [28, 40] as const;

type Request = (fd: number, request: number, argument: Buffer) => number;
type Done = (fault: unknown, result: number) => void;

/** 0, or the number of the error; off the main thread, since a USB adapter may take its time. */
type AsyncRequest = (fd: number, request: number, argument: Buffer) => Promise<number>;

interface Requests {
  readonly now: (fd: number, request: number, argument: Buffer) => number;
  readonly later: AsyncRequest;
  readonly lock: (fd: number, operation: number) => number;
  /** These mean that a terminal has no such thing. */
  readonly unknown: readonly number[];
}

let requests: Promise<Requests> | undefined;
let loaded: Requests | undefined;

async function load(): Promise<Requests> {
  const { default: koffi } = await import("koffi").catch((cause: unknown) => {
    const message = `no serial port can be set up, the add-on does not load: ${reasonOf(cause)}`;
    throw new SluiceError("LINK_FAILED", message, { cause });
  });
  const library = koffi.load(null);
  const ioctl = library.func("int ioctl(int, unsigned long, _Inout_ uint8_t *)");
  const lock = library.func("int flock(int, int)");
  const errnoOf = (result: number) => (result < 0 ? koffi.errno() : 0);
  const now: Request = (fd, request, argument) => errnoOf(ioctl(fd, request, argument));
  const later: AsyncRequest = (fd, request, argument) =>
    new Promise((resolve, reject) => {
      const done: Done = (fault, result) => (fault ? reject(fault) : resolve(errnoOf(result)));
      ioctl.async(fd, request, argument, done);
    });
  const { ENOTTY, EINVAL, EOPNOTSUPP } = koffi.os.errno;
  const unknown = [ENOTTY, EINVAL, EOPNOTSUPP].filter((it) => it !== undefined);
  loaded = { now, later, lock, unknown };
  return loaded;
}

function loadOnce(): Promise<Requests> {
  requests ??= load();
  return requests;
}

/** How setting a modem line went; a pseudo-terminal has none. */
export type LineSet = "set" | "none" | "refused";

export async function setLine(fd: number, line: "dtr" | "rts", level: boolean): Promise<LineSet> {
  const { later, unknown } = await loadOnce();
  const argument = Buffer.from(Int32Array.of(MODEM_LINES[line]).buffer);
  const errno = await later(fd, level ? TIOCMBIS : TIOCMBIC, argument);
  if (errno === 0) return "set";
  return unknown.includes(errno) ? "none" : "refused";
}

/**
 * Leaves DTR up when the port is closed. serialport's `hupcl: false` only does not ask for the
 * opposite, which is what the kernel begins with (tty_std_termios).
 */
export async function keepLinesOnClose(fd: number): Promise<void> {
  const { later } = await loadOnce();
  const termios = Buffer.alloc(TERMIOS_BYTES);
  if ((await later(fd, TCGETS2, termios)) !== 0) return;
  const flags = new Uint32Array(termios.buffer, termios.byteOffset + CFLAG_AT, 1);
  if (((flags[0] ?? 0) & HUPCL) === 0) return;
  flags[0] = (flags[0] ?? 0) & ~HUPCL;
  await later(fd, TCSETS2, termios);
}

/** Has the kernel's driver switch the direction; false where it cannot. */
export async function setRs485(fd: number, settings: Rs485Settings): Promise<boolean> {
  const { later } = await loadOnce();
  const flags =
    RS485.enabled |
    (settings.rts_on_send ? RS485.rtsOnSend : 0) |
    (settings.rts_after_send ? RS485.rtsAfterSend : 0) |
    (settings.terminate ? RS485.terminate : 0);
  const words = new Uint32Array(RS485_BYTES / 4);
  words.set([flags, settings.delay_before_send_ms, settings.delay_after_send_ms]);
  const errno = await later(fd, TIOCSRS485, Buffer.from(words.buffer));
  // The kernel writes back what it has made of it.
  return errno === 0 && ((words[0] ?? 0) & RS485.enabled) !== 0;
}

/** Takes the lock that a port is opened with, or lets go of it; false where another has it. */
export async function setLock(fd: number, isHeld: boolean): Promise<boolean> {
  const { lock } = await loadOnce();
  return lock(fd, isHeld ? LOCK.exclusive | LOCK.unblocking : LOCK.none) === 0;
}

/** Bytes that the chip or the kernel had no room for; undefined where nobody counts them. */
export function overrunsOf(fd: number): number | undefined {
  const argument = Buffer.alloc(COUNTS_BYTES);
  if (loaded?.now(fd, TIOCGICOUNT, argument) !== 0) return undefined;
  const numbers = new Int32Array(argument.buffer, argument.byteOffset, COUNTS_BYTES / 4);
  return OVERRUNS_AT.reduce((sum, at) => sum + (numbers[at / 4] ?? 0), 0);
}

/** Bytes that the kernel has not sent yet; 0 where it does not tell. */
export function unsentBytes(fd: number): number {
  const argument = new Int32Array(1);
  if (loaded?.now(fd, TIOCOUTQ, Buffer.from(argument.buffer)) !== 0) return 0;
  return argument[0] ?? 0;
}

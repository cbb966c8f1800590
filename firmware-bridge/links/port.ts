// port: one open serial port: read ahead of its driver, written in order.
// Path: device node → [port] → driver. Touches: the port, by binding.ts.

import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import type { LinuxPortBinding } from "@serialport/bindings-cpp";
import { reasonOf, SluiceError } from "#contract/errors";
import { wait } from "#runtime/backoff";
import type { LinkSettings } from "#runtime/settings-links";
import type { Chunk, Link } from "../driver.ts";
import { openBinding } from "./binding.ts";
import { holderOf } from "./holder.ts";

export const PORT_LIMITS = {
  /** Read at once, and read ahead of a driver that is busy. */
  readBytesMax: 4_096,
  readAheadChunksMax: 4,
  /** How long a write may take beyond what the baud rate asks for. */
  writeMsMax: 5_000,
} as const;

type PortLimits = Readonly<Record<keyof typeof PORT_LIMITS, number>>;

/** How long the bytes are on the wire: a character takes up to 12 bits with its framing. */
function sendingMs(bytes: number, baudRate: number): number {
  return Math.ceil((bytes * 12 * 1000) / baudRate);
}

/** A link that its supervisor can end, and whose end it sees. */
export interface OpenPort extends Link {
  /** Resolves, with the reason, at once when the port is gone. */
  readonly closed: Promise<string>;
  close(reason: string): Promise<void>;
}

/** Opens and locks the port; @throws SluiceError LINK_FAILED that says why it cannot be had. */
export async function openPort(
  settings: LinkSettings,
  { writeMsMax }: Pick<PortLimits, "writeMsMax"> = PORT_LIMITS,
): Promise<OpenPort> {
  const { path } = settings;
  try {
    await assertCharacterDevice(path);
    const port = await openBinding({
      path,
      baudRate: settings.baud_rate,
      dataBits: settings.data_bits,
      stopBits: settings.stop_bits,
      parity: settings.parity,
      rtscts: settings.hardware_flow,
      lock: true,
      // Keeps DTR up on close, which spares the next open the reset that many boards take from it.
      hupcl: false,
    });
    const writeMs = (bytes: number) => writeMsMax + sendingMs(bytes, settings.baud_rate);
    return new SerialPort(port, settings, writeMs);
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError("LINK_FAILED", await whyNotOpened(path, cause), { cause });
  }
}

async function assertCharacterDevice(path: string): Promise<void> {
  if (!(await stat(path)).isCharacterDevice()) throw notSerial(path);
}

function notSerial(path: string): SluiceError {
  return new SluiceError("LINK_FAILED", `${path} is not a serial port`);
}

/** serialport's errors carry the C library's words and no code. */
async function whyNotOpened(path: string, cause: unknown): Promise<string> {
  const reason = reasonOf(cause).replace(/^Error:? /, "");
  if (/Cannot lock port|Device or resource busy/.test(reason)) {
    return `${path} is held by ${(await holderOf(path)) ?? "another program"}`;
  }
  if (reason.includes("Inappropriate ioctl")) return notSerial(path).message;
  if (reason.includes("Permission denied")) {
    return `${path} may not be opened by this user: Permission denied`;
  }
  return reason.includes(path) ? reason : `${path}: ${reason}`;
}

/** The kernel has many words for one thing. */
function whyNotRead(fault: unknown): string {
  const reason = reasonOf(fault);
  return /hung up|bad file descriptor|EIO|ENXIO|ENODEV/.test(reason) ? "unplugged" : reason;
}

class SerialPort implements OpenPort {
  readonly path: string;
  readonly baudRate: number;
  readonly closed: Promise<string>;
  readonly readable: Readable & AsyncIterable<Chunk>;
  readonly #port: LinuxPortBinding;
  readonly #writeMsMax: (bytes: number) => number;
  readonly #buffer = Buffer.allocUnsafe(PORT_LIMITS.readBytesMax);
  readonly #resolveClosed: (reason: string) => void;
  #closing: Promise<void> | undefined;
  #writes: Promise<unknown> = Promise.resolve();
  /** A write took too long and has not ended yet. */
  #stuck = false;

  constructor(
    port: LinuxPortBinding,
    { path, baud_rate }: LinkSettings,
    writeMsMax: (bytes: number) => number,
  ) {
    this.#port = port;
    this.path = path;
    this.baudRate = baud_rate;
    this.#writeMsMax = writeMsMax;
    const closed = Promise.withResolvers<string>();
    this.closed = closed.promise;
    this.#resolveClosed = closed.resolve;
    this.readable = new Readable({
      objectMode: true,
      highWaterMark: PORT_LIMITS.readAheadChunksMax,
      read: () => void this.#read(),
    });
  }

  close(reason: string): Promise<void> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#stuck) throw this.#failure("takes no bytes: an earlier write is still under way");
    const written = this.#writes.then(() => this.#transmit(bytes));
    this.#writes = written.catch(() => {});
    await this.#withinMs(written, this.#writeMsMax(bytes.length));
  }

  async #read(): Promise<void> {
    try {
      const buffer = this.#buffer;
      const { bytesRead } = await this.#port.read(buffer, 0, buffer.length);
      const bytes = Buffer.from(buffer.subarray(0, bytesRead));
      this.readable.push({ bytes, receivedAtMs: Date.now() } satisfies Chunk);
    } catch (fault) {
      void this.close(whyNotRead(fault));
      this.readable.push(null);
    }
  }

  async #transmit(bytes: Uint8Array): Promise<void> {
    if (this.#closing) throw this.#failure("is closed");
    try {
      await this.#port.write(Buffer.from(bytes));
      await this.#port.drain();
    } catch (cause) {
      void this.close(reasonOf(cause));
      throw this.#failure(`does not take bytes: ${reasonOf(cause)}`, cause);
    }
  }

  /** A device that holds its input back must not hold up whoever waits for the outcome. */
  async #withinMs(written: Promise<void>, ms: number): Promise<void> {
    const done = new AbortController();
    const late = wait(ms, done.signal).then(() => {
      if (done.signal.aborted) return;
      this.#stuck = true;
      throw this.#failure(`has not taken the bytes within ${ms} ms; it may yet`);
    });
    const ended = written.finally(() => {
      this.#stuck = false;
      done.abort();
    });
    await Promise.race([ended, late]);
  }

  async #close(reason: string): Promise<void> {
    this.#resolveClosed(reason);
    // Whatever close(2) says, the descriptor is gone.
    await this.#port.close().catch(() => {});
  }

  #failure(what: string, cause?: unknown): SluiceError {
    return new SluiceError("LINK_FAILED", `${this.path} ${what}`, { cause });
  }
}

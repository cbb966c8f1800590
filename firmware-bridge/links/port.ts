// port: one open serial port: read ahead of its driver, written in order.
// Path: device node → [port] → driver. Touches: the port, by binding.ts and ioctl.ts.

import { stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { LinuxPortBinding } from "@serialport/bindings-cpp";
import { reasonOf, SluiceError } from "#contract/errors";
import { wait } from "#runtime/backoff";
import { type LinkSettings, whereOf } from "#runtime/settings-links";
import type { Chunk } from "../driver.ts";
import { openBinding } from "./binding.ts";
import { holderOf } from "./holder.ts";
import { overrunsOf, setLock } from "./ioctl.ts";
import { type LinkCounts, newCounts, type OpenPort, UNPLUGGED } from "./open-port.ts";
import { setUpLines } from "./port-lines.ts";
import { PortReader, READ_LIMITS } from "./port-reader.ts";
import { allSent, writeAll } from "./port-writer.ts";
import { WriteQueue } from "./write-queue.ts";

export const PORT_LIMITS = {
  ...READ_LIMITS,
  /** How long a write may take beyond what the baud rate asks for. */
  writeMsMax: 5_000,
} as const;

export type { OpenPort } from "./open-port.ts";

/** How long the bytes are on the wire: a character takes up to 12 bits with its framing. */
function sendingMs(bytes: number, baudRate: number): number {
  return Math.ceil((bytes * 12 * 1000) / baudRate);
}

interface PortOptions {
  /** The device node; without it, the settings' path. */
  readonly node?: string;
  readonly counts?: LinkCounts;
  /** Told of what the port has not, and can do without. */
  readonly warn?: (what: string) => void;
  readonly writeMsMax?: number;
}

/** Opens and locks the port; @throws SluiceError LINK_FAILED that says why it cannot be had. */
export async function openPort(
  settings: LinkSettings,
  options: PortOptions = {},
): Promise<SerialPort> {
  const { node = settings.path ?? "", warn = () => {} } = options;
  try {
    await assertCharacterDevice(node);
    const binding = await openBinding({
      path: node,
      baudRate: settings.baud_rate,
      dataBits: settings.data_bits,
      stopBits: settings.stop_bits,
      parity: settings.parity,
      rtscts: settings.hardware_flow,
      xon: settings.software_flow,
      xoff: settings.software_flow,
      lock: true,
      hupcl: false,
    });
    await setUpLines(Number(binding.fd), node, settings, warn).catch(async (fault: unknown) => {
      await binding.close();
      throw fault;
    });
    return new SerialPort(binding, settings, options);
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError("LINK_FAILED", await whyNotOpened(node, cause), { cause });
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

export class SerialPort implements OpenPort {
  readonly path: string;
  readonly baudRate: number;
  readonly closed: Promise<string>;
  readonly #port: LinuxPortBinding;
  readonly #counts: LinkCounts;
  readonly #reader: PortReader;
  readonly #writes: WriteQueue;
  readonly #resolveClosed: (reason: string) => void;
  /** When writes may begin, of performance.now(). */
  readonly #settledAtMs: number;
  readonly #settling = new AbortController();
  #closing: Promise<void> | undefined;
  #withdrawn = false;

  constructor(port: LinuxPortBinding, settings: LinkSettings, options: PortOptions) {
    this.#port = port;
    this.path = whereOf(settings);
    this.baudRate = settings.baud_rate;
    this.#counts = options.counts ?? newCounts();
    this.#settledAtMs = performance.now() + settings.settle_ms;
    const closed = Promise.withResolvers<string>();
    this.closed = closed.promise;
    this.#resolveClosed = closed.resolve;
    const msMax = options.writeMsMax ?? PORT_LIMITS.writeMsMax;
    this.#writes = new WriteQueue({
      name: this.path,
      msMax: (bytes) => msMax + sendingMs(bytes, this.baudRate) + this.#settlingMs,
      transmit: (bytes) => this.#transmit(bytes),
    });
    this.#reader = new PortReader({
      port,
      baudRate: this.baudRate,
      counts: this.#counts,
      settledAtMs: this.#settledAtMs,
      onGone: (why) => void this.close(why),
    });
    // Told also while nothing is read, and while the port is lent.
    port.poller.on("disconnect", this.#unplugged);
    port.poller.poll();
  }

  get readable(): Readable & AsyncIterable<Chunk> {
    return this.#reader.queue.readable;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#writes.write(bytes);
  }

  close(reason: string): Promise<void> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async withdraw(): Promise<void> {
    this.#withdrawn = true;
    this.#settling.abort();
    this.#reader.end();
    await this.#writes.idle();
    if (this.#writes.isStuck) throw this.#failure("cannot be lent: a write is still under way");
  }

  async lock(isHeld: boolean): Promise<boolean> {
    return this.#port.isOpen && setLock(Number(this.#port.fd), isHeld);
  }

  overruns(): number | undefined {
    return this.#port.isOpen ? overrunsOf(Number(this.#port.fd)) : undefined;
  }

  get #settlingMs(): number {
    return Math.max(0, Math.ceil(this.#settledAtMs - performance.now()));
  }

  async #transmit(bytes: Uint8Array): Promise<void> {
    if (this.#settlingMs > 0) await wait(this.#settlingMs, this.#settling.signal);
    if (this.#closing) throw this.#failure("is closed");
    if (this.#withdrawn) throw this.#failure("is lent");
    try {
      await writeAll(this.#port, bytes);
      await allSent(this.#port, this.baudRate);
    } catch (cause) {
      void this.close(reasonOf(cause));
      throw this.#failure(`does not take bytes: ${reasonOf(cause)}`, cause);
    }
    this.#counts.bytesOut += bytes.length;
  }

  readonly #unplugged = (): void => void this.close(UNPLUGGED);

  async #close(reason: string): Promise<void> {
    // Closing the poller is told as such an event, too.
    this.#port.poller.off("disconnect", this.#unplugged);
    this.#settling.abort();
    this.#resolveClosed(reason);
    this.#reader.end();
    // The kernel would wait for a device that holds back, up to 30 s; their write fails anyway.
    if (this.#writes.isBusy) await this.#port.flush().catch(() => {});
    // Whatever close(2) says, the descriptor is gone.
    await this.#port.close().catch(() => {});
  }

  #failure(what: string, cause?: unknown): SluiceError {
    return new SluiceError("LINK_FAILED", `${this.path} ${what}`, { cause });
  }
}

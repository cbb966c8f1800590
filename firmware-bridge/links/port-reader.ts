// port-reader: reads a serial port often enough to lose nothing, and no more often than that.
// Path: binding → [port-reader] → driver. Touches: the port.
//
// A port that was idle is read as soon as the kernel says that there is something. While bytes flow,
// it is read by the clock: after 3 ms, so that the end of a lone line does not wait, and after 8 ms
// once they have flowed for longer than a line takes. All ports are read at the same beats of the
// clock, so that many of them wake the process no more often than one.

import { readSync } from "node:fs";
import type { LinuxPortBinding } from "@serialport/bindings-cpp";
import { reasonOf } from "#contract/errors";
import { ChunkQueue } from "./chunk-queue.ts";
import { type LinkCounts, UNPLUGGED } from "./open-port.ts";

export const READ_LIMITS = {
  /** Handed on at once; between two such chunks everybody else has a turn. */
  readBytesMax: 1_024,
  readAheadChunksMax: 16,
  linePaceMs: 3,
  flowPaceMs: 8,
  /** Bytes that flow for longer than this are no lone line. */
  lineMsMax: 100,
} as const;

/** Half of what the kernel keeps of a terminal's input (N_TTY_BUF_SIZE). */
const KERNEL_BYTES = 2_048;
const BITS_PER_BYTE = 10;
/** A beat may be this much longer than the pace. */
const BEAT_RATIO_MAX = 1.5;

/** Nobody reads at the same time but `PortReader.take`, which copies before it returns. */
const BUFFER = Buffer.allocUnsafe(READ_LIMITS.readBytesMax);

interface PortReaderOptions {
  readonly port: LinuxPortBinding;
  readonly baudRate: number;
  readonly counts: LinkCounts;
  /** What comes before this time, of performance.now(), is let go. */
  readonly settledAtMs: number;
  /** Called once, when the port cannot be read any more. */
  readonly onGone: (why: string) => void;
}

export class PortReader {
  readonly queue: ChunkQueue;
  readonly #options: PortReaderOptions;
  readonly #flowPaceMs: number;
  /** When the bytes began to flow; undefined while the port is idle. */
  #flowsSinceMs: number | undefined;
  #hasMore = false;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #ended = false;

  constructor(options: PortReaderOptions) {
    this.#options = options;
    this.#flowPaceMs = flowPaceMs(options.baudRate);
    const { readAheadChunksMax } = READ_LIMITS;
    this.queue = new ChunkQueue(readAheadChunksMax, options.counts, () => this.#schedule());
    // What a board says while it resets must not wait for a driver to ask.
    if (options.settledAtMs > performance.now()) this.queue.readable.read(0);
  }

  /** Reads nothing from now on; what was read before is still handed on. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#options.port.poller.off("readable", this.#take);
    this.queue.end();
  }

  #schedule(): void {
    if (this.#ended) return;
    if (this.#hasMore) this.#immediate = setImmediate(this.#take);
    else if (this.#flowsSinceMs === undefined) this.#take();
    else this.#timer = setTimeout(this.#take, this.#untilBeatMs(this.#flowsSinceMs));
  }

  #untilBeatMs(flowsSinceMs: number): number {
    const nowMs = performance.now();
    const isLine = nowMs - flowsSinceMs < READ_LIMITS.lineMsMax;
    const paceMs = isLine ? Math.min(READ_LIMITS.linePaceMs, this.#flowPaceMs) : this.#flowPaceMs;
    const leftMs = paceMs - (nowMs % paceMs);
    return Math.ceil(leftMs < paceMs / 2 ? leftMs + paceMs : leftMs);
  }

  readonly #take = (fault?: unknown): void => {
    if (this.#ended) return;
    // The poller's fault shows again in the read, in plainer words.
    if (fault && isCanceled(fault)) return;
    try {
      this.#takeBytes(readSync(Number(this.#options.port.fd), BUFFER));
    } catch (cause) {
      this.#onFault(cause);
    }
  };

  /** The port was opened with O_NONBLOCK, so a read never waits (n_tty_read in the kernel). */
  #takeBytes(count: number): void {
    // A terminal that was hung up (tty_ioctl(4)).
    if (count === 0) {
      this.#gone(UNPLUGGED);
      return;
    }
    const nowMs = performance.now();
    this.#flowsSinceMs ??= nowMs;
    this.#hasMore = count === BUFFER.length;
    if (nowMs < this.#options.settledAtMs) this.#schedule();
    else this.queue.push(Buffer.from(BUFFER.subarray(0, count)));
  }

  #onFault(cause: unknown): void {
    const { code } = cause as NodeJS.ErrnoException;
    this.#hasMore = false;
    this.#flowsSinceMs = undefined;
    if (code === "EINTR") this.#immediate = setImmediate(this.#take);
    else if (code === "EAGAIN") this.#options.port.poller.once("readable", this.#take);
    else this.#gone(whyNotRead(cause));
  }

  #gone(why: string): void {
    this.end();
    this.#options.onGone(why);
  }
}

/** So that the kernel's buffer is never more than half full between two reads. */
function flowPaceMs(baudRate: number): number {
  const halfMs = (KERNEL_BYTES * BITS_PER_BYTE * 1_000) / baudRate;
  return Math.min(READ_LIMITS.flowPaceMs, halfMs / BEAT_RATIO_MAX);
}

function isCanceled(fault: unknown): boolean {
  return (fault as { canceled?: boolean }).canceled === true;
}

/** The kernel has many words for one thing. */
function whyNotRead(fault: unknown): string {
  const reason = reasonOf(fault);
  return /bad file descriptor|EIO|ENXIO|ENODEV/.test(reason) ? UNPLUGGED : reason;
}

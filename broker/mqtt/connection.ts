// connection: one client's stream of bytes: packets in, joined writes out, deadlines, the end.
// Path: listeners → [connection] → client. Touches: the stream that it is given.

import type { Duplex } from "node:stream";
import { reasonOf } from "#contract/errors";
import type { Settings } from "#runtime/settings-schema";
import { type FlushTurn, Output, type PacketBytes } from "./output.ts";
import { type Gathering, PacketReader } from "./wire/packet-reader.ts";
import type { ClientPacket } from "./wire/packets.ts";
import { WireError } from "./wire/wire-error.ts";

/** What of one connection is looked at in one turn of the event loop: others want theirs, too. */
const TURN_BYTES_MAX = 32_768;
const TURN_BYTES_MIN = 512;
/** How long that should take: longer, and the next piece is half as long; much shorter, twice. */
const TURN_MS = 5;
/** What a client may take to read the last words before its connection is cut. */
const LAST_WORDS_MS_MAX = 2_000;

export interface ConnectionOptions {
  readonly stream: Duplex;
  readonly limits: Settings["limits"];
  readonly turn: FlushTurn;
  readonly gathering: Gathering;
  /** When it was accepted, by performance.now(). */
  readonly acceptedAtMs: number;
  readonly listener: ConnectionListener;
}

export interface ConnectionListener {
  handle(packet: ClientPacket): void;
  /** Bytes that are no MQTT; the connection is still there to answer on. */
  malformed(fault: WireError): void;
  drained(): void;
  /** Nothing was heard of the client for as long as may be; until CONNECT is answered it is cut. */
  silent(why: string): void;
  /** Once, when it is over. */
  closed(why: string): void;
}

/** open → ending (the last words are on their way) → closed. */
type Mode = "open" | "ending" | "closed";

export class Connection {
  readonly output: Output;
  readonly #listener: ConnectionListener;
  readonly #stream: Duplex;
  readonly #reader: PacketReader;
  #mode: Mode = "open";
  #why = "the client closed the connection";
  /** 0: no limit. Until CONNECT has been answered, of the whole; then of each silence. */
  #silenceMsMax: number;
  #heardAtMs: number;
  #hasHeard = false;
  #endingSinceMs = 0;
  /** Reasons not to read: what the client has set off is not done yet. */
  #holds = 0;
  /** The client does not take what it asked for. */
  #isBlocked = false;
  /** Bytes that wait for the next turn of the event loop. */
  #backlog: Buffer[] | undefined;
  #isContinuing = false;
  #turnBytes = TURN_BYTES_MAX / 8;

  constructor(options: ConnectionOptions) {
    const { stream, limits, turn, acceptedAtMs, gathering } = options;
    this.#listener = options.listener;
    this.#stream = stream;
    this.#heardAtMs = acceptedAtMs;
    this.#silenceMsMax = limits.connect_seconds_max * 1_000;
    this.output = new Output(stream, turn);
    this.#reader = new PacketReader(
      {
        beforeConnectBytesMax: limits.packet_before_connect_bytes_max,
        bytesMax: limits.packet_bytes_max,
      },
      gathering,
    );
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("drain", () => this.#drain());
    stream.on("error", (fault) => {
      this.#why = reasonOf(fault);
    });
    stream.on("end", () => this.#stream.destroy());
    stream.on("close", () => this.#close());
  }

  get isOpen(): boolean {
    return this.#mode === "open";
  }

  write(packet: PacketBytes, packetId = 0, dup = false): void {
    if (this.#mode !== "open") return;
    this.output.write(packet, packetId, dup);
    // Who does not take the answers is not read: otherwise they would pile up without end.
    if (this.#isBlocked || !this.output.isBlocked) return;
    this.#isBlocked = true;
    this.#stream.pause();
  }

  writeBytes(bytes: Buffer): void {
    this.write({ bytes, packetIdAt: -1 });
  }

  /** CONNECT is being looked at: the client has said its part, ours has a deadline of its own. */
  connecting(secondsMax: number): void {
    this.#silenceMsMax = secondsMax * 1_000;
    this.#heardAtMs = performance.now();
  }

  /** CONNECT is answered: larger packets are read, and a client must be heard of in time. */
  connected(keepAliveSeconds: number): void {
    this.#reader.connected();
    // One and a half times the Keep Alive [MQTT-3.1.2-24 in 3.1.1, 3.1.2-22 in 5.0].
    this.#silenceMsMax = keepAliveSeconds * 1_500;
    this.#heardAtMs = performance.now();
  }

  /** Reads nothing more until as many releases have followed. */
  hold(): void {
    this.#holds += 1;
    this.#stream.pause();
  }

  release(): void {
    this.#holds -= 1;
    this.#heardAtMs = performance.now();
    this.#readOn();
  }

  /** Says why, where the client can be told, and closes. */
  end(why: string, lastWords?: Buffer): void {
    if (this.#mode !== "open") return;
    this.#why = why;
    this.output.flush();
    this.output.clear();
    // Behind what the stream holds already, however much that is.
    if (lastWords) this.#stream.write(lastWords);
    this.#mode = "ending";
    this.#endingSinceMs = performance.now();
    this.#backlog = undefined;
    this.#stream.end();
    // What the client still sends is read, and thrown away, so that it gets to read the last words.
    this.#stream.resume();
  }

  /** Cuts the connection without a word. */
  cut(why: string): void {
    this.end(why);
    this.#stream.destroy();
  }

  /** Looks at the deadlines; called about twice a second. */
  tick(nowMs: number): void {
    if (this.#mode === "ending" && nowMs - this.#endingSinceMs > LAST_WORDS_MS_MAX) {
      this.#stream.destroy();
    }
    const isLate = nowMs - this.#heardAtMs > this.#silenceMsMax;
    if (this.#mode !== "open" || this.#silenceMsMax === 0 || !isLate || this.#holds > 0) return;
    this.#listener.silent(`nothing heard for ${this.#silenceMsMax / 1_000} s`);
  }

  #receive(chunk: Buffer): void {
    if (this.#mode !== "open") return;
    if (this.#backlog || chunk.length > this.#turnBytes) {
      this.#backlog ??= [];
      this.#backlog.push(chunk);
      this.#stream.pause();
      this.#continueLater();
    } else {
      this.#look(chunk);
    }
  }

  #look(chunk: Buffer): void {
    try {
      this.#reader.push(chunk, this.#handle);
      // Whole packets count: one that comes byte by byte does not keep its connection.
      if (this.#hasHeard) this.#heardAtMs = performance.now();
      this.#hasHeard = false;
    } catch (fault) {
      if (!(fault instanceof WireError)) throw fault;
      this.#listener.malformed(fault);
    }
  }

  #continueLater(): void {
    if (this.#isContinuing) return;
    this.#isContinuing = true;
    setImmediate(() => {
      this.#isContinuing = false;
      this.#readOn();
    });
  }

  /** What waits first, a piece a turn; then the stream again. */
  #readOn(): void {
    if (this.#mode !== "open" || this.#holds > 0 || this.#isBlocked || this.#isContinuing) return;
    const chunk = this.#backlog?.shift();
    if (!chunk) {
      this.#backlog = undefined;
      this.#stream.resume();
      return;
    }
    const bytes = this.#turnBytes;
    if (chunk.length > bytes) this.#backlog?.unshift(chunk.subarray(bytes));
    this.#continueLater();
    const sinceMs = performance.now();
    this.#look(chunk.subarray(0, bytes));
    const tookMs = performance.now() - sinceMs;
    if (tookMs > TURN_MS) this.#turnBytes = Math.max(TURN_BYTES_MIN, bytes / 2);
    else if (tookMs < TURN_MS / 4) this.#turnBytes = Math.min(TURN_BYTES_MAX, bytes * 2);
  }

  readonly #handle = (packet: ClientPacket): void => {
    this.#hasHeard = true;
    if (this.#mode === "open") this.#listener.handle(packet);
  };

  #drain(): void {
    if (this.#mode !== "open") return;
    // It takes what it is sent, so it is there.
    this.#heardAtMs = performance.now();
    this.output.flush();
    if (this.#isBlocked && !this.output.isBlocked) {
      this.#isBlocked = false;
      this.#readOn();
    }
    this.#listener.drained();
  }

  #close(): void {
    if (this.#mode === "closed") return;
    this.#mode = "closed";
    this.#reader.drop();
    this.output.clear();
    this.#listener.closed(this.#why);
  }
}

// output: what is to be written to one connection, joined into one write a turn of the event loop.
// Path: session → connection → [output] → socket. Touches: the stream that it is given.

import type { Duplex } from "node:stream";

/** Of a longer packet only the head is copied to write the packet id into it. */
const COPIED_BYTES_MAX = 16_384;
/** What may lie unsent in the stream before nothing more is handed to it. */
const UNSENT_BYTES_MAX = 131_072;
/** What is handed to the stream at once. */
const WRITE_BYTES_MAX = 262_144;

/** Packets that were written and are still held, before they are let go. */
const WRITTEN_MAX = 1_024;

const DUP_BIT = 0x08;
const DUP_MARK = 0x1_0000;

/** A packet's bytes, which may be those of other connections too. */
export interface PacketBytes {
  readonly bytes: Buffer;
  /** Where the packet id goes in this connection's copy; -1: nowhere. */
  readonly packetIdAt: number;
}

/** Flushes all outputs that were written to in this turn of the event loop, in one go at its end. */
export class FlushTurn {
  #outputs: Output[] = [];
  #isDue = false;

  add(output: Output): void {
    this.#outputs.push(output);
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => this.#run());
  }

  #run(): void {
    const outputs = this.#outputs;
    this.#outputs = [];
    this.#isDue = false;
    for (const output of outputs) output.flush();
  }
}

export class Output {
  readonly #stream: Duplex;
  readonly #turn: FlushTurn;
  #waiting: PacketBytes[] = [];
  /** Packet id, and DUP above it, of each that waits. */
  #marks: number[] = [];
  /** Those before this place have been written. */
  #at = 0;
  #waitingBytes = 0;
  #isScheduled = false;

  constructor(stream: Duplex, turn: FlushTurn) {
    this.#stream = stream;
    this.#turn = turn;
  }

  /** Does the client read more slowly than it is written to? The stream's "drain" ends that. */
  get isBlocked(): boolean {
    return this.#stream.writableLength > UNSENT_BYTES_MAX;
  }

  /** Bytes that the client has not taken yet, and packets of them that still wait here. */
  get unsentBytes(): number {
    return this.#waitingBytes + this.#stream.writableLength;
  }

  get waitingPackets(): number {
    return this.#waiting.length - this.#at;
  }

  /** Takes the packet; with a packet id it is copied before that is written in. */
  write(packet: PacketBytes, packetId = 0, dup = false): void {
    this.#waiting.push(packet);
    this.#marks.push(dup ? packetId | DUP_MARK : packetId);
    this.#waitingBytes += packet.bytes.length;
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      this.#turn.add(this);
    }
    // Much in one turn is no sign of a slow reader: only what the stream cannot take is.
    if (this.#waitingBytes > WRITE_BYTES_MAX && !this.isBlocked) this.#handOver();
  }

  /** Hands what waits to the stream, as much as it should hold; more follows when it drains. */
  flush(): void {
    this.#isScheduled = false;
    if (this.#stream.destroyed || this.#stream.writableEnded) this.clear();
    else this.#handOver();
  }

  clear(): void {
    this.#waiting = [];
    this.#marks = [];
    this.#at = 0;
    this.#waitingBytes = 0;
  }

  #handOver(): void {
    while (this.waitingPackets > 0 && !this.isBlocked) this.#writeSome();
    if (this.waitingPackets === 0) this.clear();
    else this.#forgetWritten();
  }

  /** The first ones, as many as go out together; one alone may be longer than that. */
  #writeSome(): void {
    const from = this.#at;
    let bytes = this.#waiting[from]?.bytes.length ?? 0;
    let to = from + 1;
    for (; to < this.#waiting.length; to += 1) {
      const next = this.#waiting[to]?.bytes.length ?? 0;
      if (bytes + next > WRITE_BYTES_MAX) break;
      bytes += next;
    }
    this.#at = to;
    this.#waitingBytes -= bytes;
    const first = this.#waiting[from];
    if (to - from > 1) this.#stream.write(this.#joined(from, to, bytes));
    else if (first)
      for (const part of partsOf(first, this.#marks[from] ?? 0)) this.#stream.write(part);
  }

  #joined(from: number, to: number, bytes: number): Buffer {
    const target = Buffer.allocUnsafe(bytes);
    let offset = 0;
    for (let index = from; index < to; index += 1) {
      const packet = this.#waiting[index] as PacketBytes;
      target.set(packet.bytes, offset);
      personalize(target, offset, packet.packetIdAt, this.#marks[index] ?? 0);
      offset += packet.bytes.length;
    }
    return target;
  }

  #forgetWritten(): void {
    if (this.#at < WRITTEN_MAX) return;
    this.#waiting = this.#waiting.slice(this.#at);
    this.#marks = this.#marks.slice(this.#at);
    this.#at = 0;
  }
}

/** One packet alone: of a long one only the head is copied, to write the packet id into it. */
function partsOf({ bytes, packetIdAt }: PacketBytes, mark: number): Buffer[] {
  if (packetIdAt < 0) return [bytes];
  const headBytes = bytes.length > COPIED_BYTES_MAX ? packetIdAt + 2 : bytes.length;
  const head = Buffer.from(bytes.subarray(0, headBytes));
  personalize(head, 0, packetIdAt, mark);
  return headBytes === bytes.length ? [head] : [head, bytes.subarray(headBytes)];
}

function personalize(target: Buffer, at: number, packetIdAt: number, mark: number): void {
  if (packetIdAt < 0) return;
  target[at + packetIdAt] = (mark >> 8) & 0xff;
  target[at + packetIdAt + 1] = mark & 0xff;
  if (mark >= DUP_MARK) target[at] = (target[at] ?? 0) | DUP_BIT;
}

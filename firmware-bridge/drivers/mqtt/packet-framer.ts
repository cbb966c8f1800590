// packet-framer: follows the packets in what a device says, without holding more than a CONNECT.
// Path: link → [packet-framer] → mqtt. Touches: nothing.

import { MALFORMED, PARTIAL, readLength } from "./connect-packet.ts";

/** What a chunk was made of, in order; CONNECT packets come whole, all else as it comes. */
export type Piece =
  | { readonly kind: "connect"; readonly bytes: Uint8Array }
  /** Of one or more packets; `packets` is how many end in it. */
  | { readonly kind: "bytes"; readonly bytes: Uint8Array; readonly packets: number }
  /** No MQTT: from here on all is skipped up to the next CONNECT. Told once for each run of it. */
  | { readonly kind: "fault"; readonly reason: string; readonly bytes: Uint8Array };

const CONNECT_FIRST_BYTE = 0x10;
/** Protocol name, version, flags, keep alive and the length of a client id (clause 3.1.2). */
const CONNECT_LENGTH_MIN = 12;
const MQTT_3_1_NAME = Buffer.from("\0\x06MQIsdp");
const PROTOCOL_NAMES = [Buffer.from("\0\x04MQTT"), MQTT_3_1_NAME];

/** What a client may send, with its only flags (clause 2.2.2); PUBLISH has flags of its own. */
const FLAGS_BY_TYPE = new Map([
  [4, 0],
  [5, 0],
  [6, 2],
  [7, 0],
  [8, 2],
  [10, 2],
  [12, 0],
  [14, 0],
  [15, 0],
]);
/** In MQTT 3.1 these three are messages of QoS 1, which may be sent again with DUP (§2.1). */
const AGAIN_IN_MQTT_3_1 = new Set([0x6a, 0x8a, 0xaa]);
const PUBLISH = 3;
const PUBLISH_QOS_3 = 0x06;
const EMPTY = new Uint8Array(0);

type Match =
  | { readonly is: "no" | "partial" }
  | { readonly is: "yes"; readonly total: number; readonly isMqtt31: boolean };

/**
 * hunting: no packet is known to begin here, all but a CONNECT is skipped. Else within a CONNECT,
 * within another packet, or between two.
 */
export class PacketFramer {
  readonly #packetBytesMax: number;
  #hunting = true;
  #noiseTold = false;
  #isMqtt31 = false;
  /** The beginning of a header that is not complete. */
  #held: Uint8Array = EMPTY;
  #connect: Buffer | undefined;
  #connectFilled = 0;
  /** Bytes to come of the packet that has begun. */
  #left = 0;

  constructor(packetBytesMax: number) {
    this.#packetBytesMax = packetBytesMax;
  }

  /** Something has begun that is not complete. */
  get isWithinPacket(): boolean {
    return this.#held.length > 0 || this.#connect !== undefined || this.#left > 0;
  }

  /** What had begun will not be completed: skips up to the next CONNECT. */
  breakOff(): void {
    this.#held = EMPTY;
    this.#connect = undefined;
    this.#left = 0;
    this.#hunting = true;
    this.#noiseTold = false;
  }

  push(chunk: Uint8Array): Piece[] {
    const all = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const pieces: Piece[] = [];
    this.#held = EMPTY;
    let at = 0;
    while (at < all.length) at = this.#step(all, at, pieces);
    return pieces;
  }

  /** Where to go on; each step goes forward, or from one mode to the next. */
  #step(all: Uint8Array, at: number, pieces: Piece[]): number {
    if (this.#connect) return this.#collect(this.#connect, all, at, pieces);
    if (this.#left > 0) return this.#pass(all, at, pieces);
    return this.#hunting ? this.#hunt(all, at, pieces) : this.#begin(all, at, pieces);
  }

  #collect(connect: Buffer, all: Uint8Array, at: number, pieces: Piece[]): number {
    const part = all.subarray(at, at + connect.length - this.#connectFilled);
    connect.set(part, this.#connectFilled);
    this.#connectFilled += part.length;
    if (this.#connectFilled === connect.length) {
      pieces.push({ kind: "connect", bytes: connect });
      this.#connect = undefined;
    }
    return at + part.length;
  }

  #pass(all: Uint8Array, at: number, pieces: Piece[]): number {
    const part = all.subarray(at, at + this.#left);
    this.#left -= part.length;
    const ended = this.#left === 0 ? 1 : 0;
    const last = pieces.at(-1);
    if (last?.kind === "bytes") {
      // Packets follow each other without a gap.
      const from = at - last.bytes.length;
      const packets = last.packets + ended;
      pieces[pieces.length - 1] = {
        kind: "bytes",
        bytes: all.subarray(from, at + part.length),
        packets,
      };
    } else pieces.push({ kind: "bytes", bytes: part, packets: ended });
    return at + part.length;
  }

  #begin(all: Uint8Array, at: number, pieces: Piece[]): number {
    const first = all[at] ?? 0;
    const { value, end } = readLength(all, at + 1);
    if (first === CONNECT_FIRST_BYTE) {
      const match = this.#match(all, at);
      if (match.is === "partial") return this.#hold(all, at);
      if (match.is === "yes") return this.#beginConnect(match, at);
      return this.#lose("a CONNECT without the protocol's name", all, at, pieces);
    }
    if (!isClientsFirstByte(first) && !(this.#isMqtt31 && AGAIN_IN_MQTT_3_1.has(first))) {
      return this.#lose(`no packet begins with 0x${hex(first)}`, all, at, pieces);
    }
    if (value === PARTIAL) return this.#hold(all, at);
    const total = end - at + value;
    if (value === MALFORMED || total > this.#packetBytesMax) {
      const reason = `a packet is longer than ${this.#packetBytesMax} bytes`;
      return this.#lose(reason, all, at, pieces);
    }
    this.#left = total;
    return at;
  }

  #beginConnect({ total, isMqtt31 }: Extract<Match, { is: "yes" }>, at: number): number {
    this.#hunting = false;
    this.#isMqtt31 = isMqtt31;
    this.#noiseTold = false;
    this.#connect = Buffer.allocUnsafe(total);
    this.#connectFilled = 0;
    return at;
  }

  #hunt(all: Uint8Array, at: number, pieces: Piece[]): number {
    let found = all.indexOf(CONNECT_FIRST_BYTE, at);
    let match: Match = { is: "no" };
    while (found >= 0) {
      match = this.#match(all, found);
      if (match.is !== "no") break;
      found = all.indexOf(CONNECT_FIRST_BYTE, found + 1);
    }
    const skippedTo = found < 0 ? all.length : found;
    if (skippedTo > at) this.#tellNoise("no CONNECT", all.subarray(at, skippedTo), pieces);
    if (match.is === "yes") return this.#beginConnect(match, found);
    return this.#hold(all, skippedTo);
  }

  #lose(reason: string, all: Uint8Array, at: number, pieces: Piece[]): number {
    this.#hunting = true;
    this.#noiseTold = false;
    this.#tellNoise(reason, all.subarray(at), pieces);
    return at;
  }

  #tellNoise(reason: string, bytes: Uint8Array, pieces: Piece[]): void {
    if (!this.#noiseTold) pieces.push({ kind: "fault", reason, bytes });
    this.#noiseTold = true;
  }

  /** Keeps the few bytes of a header until the next chunk; returns the end. */
  #hold(all: Uint8Array, at: number): number {
    this.#held = Uint8Array.from(all.subarray(at));
    return all.length;
  }

  /** Whether a plausible CONNECT begins here: right type, length and name of the protocol. */
  #match(all: Uint8Array, at: number): Match {
    const { value, end } = readLength(all, at + 1);
    if (value === PARTIAL) return { is: "partial" };
    const total = end - at + value;
    if (value < CONNECT_LENGTH_MIN || total > this.#packetBytesMax) return { is: "no" };
    const begun = PROTOCOL_NAMES.filter((name) => {
      const there = all.subarray(end, end + name.length);
      return name.subarray(0, there.length).equals(there);
    });
    if (begun.length === 0) return { is: "no" };
    const whole = begun.find((name) => all.length >= end + name.length);
    if (!whole) return { is: "partial" };
    return { is: "yes", total, isMqtt31: whole === MQTT_3_1_NAME };
  }
}

function isClientsFirstByte(first: number): boolean {
  const type = first >> 4;
  if (type === PUBLISH) return (first & PUBLISH_QOS_3) !== PUBLISH_QOS_3;
  return FLAGS_BY_TYPE.get(type) === (first & 0x0f);
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

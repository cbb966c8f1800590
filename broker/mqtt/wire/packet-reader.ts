// packet-reader: makes packets of the bytes of a client's stream, however those are cut.
// Path: stream → [packet-reader] → session. Touches: nothing.

import { Cursor } from "./cursor.ts";
import { decodePacket } from "./decode.ts";
import { decodeConnect } from "./decode-connect.ts";
import { type ClientPacket, PACKET, type ProtocolLevel } from "./packets.ts";
import { REASON } from "./reason-codes.ts";
import { malformed, protocolError, WireError } from "./wire-error.ts";

/** The remaining length takes four bytes at the most (3.1.1 §2.2.3, 5.0 §1.5.5). */
const LENGTH_BYTES_MAX = 4;

/** What is set aside for a packet at first; more when more has come. */
const GATHER_BYTES_MIN = 8;

const NOTHING = Buffer.alloc(0);

/** The longest packets that a client may send, with their fixed headers. */
export interface PacketLimits {
  readonly beforeConnectBytesMax: number;
  readonly bytesMax: number;
}

/** The beginnings of packets of all connections together, which wait for their ends. */
export class Gathering {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @throws WireError quotaExceeded when there is no more room. */
  add(bytes: number): void {
    if (bytes > 0 && this.#bytes + bytes > this.#bytesMax) {
      const why = `packets that have not all come hold ${this.#bytes} bytes already`;
      throw new WireError(REASON.quotaExceeded, why);
    }
    this.#bytes += bytes;
  }
}

/**
 * Walks a stream of packets. What lies whole in a chunk is read where it lies; the rest is gathered
 * as it comes, in room that at most doubles, so that an announced length alone costs nothing.
 * Having thrown, it is of no more use: its connection ends.
 */
export class PacketReader {
  readonly #limits: PacketLimits;
  readonly #gathering: Gathering;
  #connected = false;
  #level: ProtocolLevel | undefined;
  /** After DISCONNECT. */
  #ended = false;
  /** The beginning of a packet that has not all come, and how many bytes of it there are. */
  #gathered: Buffer = NOTHING;
  #have = 0;
  /** Of the packet at hand: its fixed header, and all of it; 0 while its header is not all here. */
  #headBytes = 0;
  #packetBytes = 0;

  constructor(limits: PacketLimits, gathering: Gathering = new Gathering(limits.bytesMax)) {
    this.#limits = limits;
    this.#gathering = gathering;
  }

  /** Its connection is over: what it has gathered is of no use. */
  drop(): void {
    this.#gathering.add(-this.#gathered.length);
    this.#gathered = NOTHING;
    this.#have = 0;
  }

  /** By what CONNECT asked for; undefined before it. */
  get level(): ProtocolLevel | undefined {
    return this.#level;
  }

  /** From the next packet on, `bytesMax` is the measure: the session knows who the client is. */
  connected(): void {
    this.#connected = true;
  }

  /**
   * Hands each packet that ends in `chunk` to `handle`, in order. Payloads, passwords and properties
   * are views of `chunk`, or of bytes gathered for that packet alone. What follows a DISCONNECT is
   * not looked at [MQTT-3.14.4-2].
   * @throws WireError what is wrong with the stream; or what `handle` throws.
   */
  push(chunk: Buffer, handle: (packet: ClientPacket) => void): void {
    let at = this.#have === 0 ? 0 : this.#complete(chunk, handle);
    while (at < chunk.length && !this.#ended) {
      const isWhole = this.#readHeader(chunk, at, chunk.length);
      const end = at + this.#packetBytes;
      if (!isWhole || end > chunk.length) {
        this.#append(chunk, at, chunk.length);
        return;
      }
      this.#read(chunk, at, handle);
      at = end;
    }
  }

  /** Goes on with the packet that has begun; returns where in the chunk the next one begins. */
  #complete(chunk: Buffer, handle: (packet: ClientPacket) => void): number {
    let at = 0;
    while (this.#packetBytes === 0) {
      if (at === chunk.length) return at;
      this.#append(chunk, at, at + 1);
      at += 1;
      this.#readHeader(this.#gathered, 0, this.#have);
    }
    const end = Math.min(chunk.length, at + this.#packetBytes - this.#have);
    this.#append(chunk, at, end);
    if (this.#have < this.#packetBytes) return end;
    const packet = this.#gathered;
    this.drop();
    this.#read(packet, 0, handle);
    return end;
  }

  #append(chunk: Buffer, from: number, to: number): void {
    const have = this.#have + to - from;
    if (have > this.#gathered.length) {
      const room = Math.max(have, 2 * this.#gathered.length, GATHER_BYTES_MIN);
      const most = this.#packetBytes === 0 ? room : this.#packetBytes;
      this.#gathering.add(Math.min(room, most) - this.#gathered.length);
      const grown = Buffer.allocUnsafe(Math.min(room, most));
      this.#gathered.copy(grown, 0, 0, this.#have);
      this.#gathered = grown;
    }
    chunk.copy(this.#gathered, this.#have, from, to);
    this.#have = have;
  }

  /** Measures the packet at `at`; false, and a size of 0, while its fixed header is not all there. */
  #readHeader(bytes: Buffer, at: number, end: number): boolean {
    this.#packetBytes = 0;
    let length = 0;
    for (let index = 1; index <= LENGTH_BYTES_MAX; index += 1) {
      if (at + index >= end) return false;
      const byte = bytes[at + index] ?? 0;
      length |= (byte & 0x7f) << (7 * (index - 1));
      if (byte >= 0x80) continue;
      this.#headBytes = 1 + index;
      this.#packetBytes = 1 + index + length;
      this.#assertExpected(bytes[at] ?? 0);
      return true;
    }
    throw malformed("a remaining length is longer than four bytes (§2.2.3; MQTT 5: §2.1.4)");
  }

  /** What can be refused before its body is there: by its type and by its size. */
  #assertExpected(first: number): void {
    const isConnect = first >> 4 === PACKET.connect;
    if (isConnect !== (this.#level === undefined)) {
      throw protocolError(
        isConnect
          ? "a second CONNECT came [MQTT-3.1.0-2]"
          : "the first packet is no CONNECT [MQTT-3.1.0-1]",
      );
    }
    // Counted as MQTT 5.0 §3.1.2.11.4 counts a packet: fixed header and remaining length.
    const { beforeConnectBytesMax, bytesMax } = this.#limits;
    const most = this.#connected ? bytesMax : beforeConnectBytesMax;
    if (this.#packetBytes <= most) return;
    const when = this.#connected ? "" : " before it is connected";
    throw new WireError(
      REASON.packetTooLarge,
      `a packet of ${this.#packetBytes} bytes is over the ${most} that a client may send${when}`,
    );
  }

  #read(bytes: Buffer, at: number, handle: (packet: ClientPacket) => void): void {
    const first = bytes[at] ?? 0;
    const bodyAt = at + this.#headBytes;
    const body = new Cursor(bytes, bodyAt, at + this.#packetBytes);
    const isPadded = this.#headBytes > 2 && bytes[bodyAt - 1] === 0;
    const packet =
      this.#level === undefined
        ? this.#readConnect(first, body)
        : decodePacket(first, body, this.#level);
    // 3.1.1 §2.2.3 asks for no shortest form; 5.0 does, of every variable byte integer.
    if (isPadded && this.#level === 5) {
      const refusalLevel = packet.type === PACKET.connect ? this.#level : undefined;
      throw new WireError(
        REASON.malformedPacket,
        "a remaining length is longer than it need be [MQTT-1.5.5-1]",
        refusalLevel,
      );
    }
    this.#ended = packet.type === PACKET.disconnect;
    handle(packet);
  }

  #readConnect(first: number, body: Cursor): ClientPacket {
    if ((first & 0x0f) !== 0) {
      throw malformed("a CONNECT has flags beside its type [MQTT-2.2.2-2, MQTT-2.1.3-1]");
    }
    const packet = decodeConnect(body);
    this.#level = packet.level;
    return packet;
  }
}

// packet-gate: measures each MQTT packet by its fixed header, before anybody holds its bytes.
// Path: stream → [packet-gate] → session. Touches: nothing.

import { SluiceError } from "#contract/errors";

/** MQTT 3.1.1 §2.2.3: the remaining length takes four bytes at the most. */
const LENGTH_BYTES_MAX = 4;

/**
 * Walks the fixed headers of a byte stream in whatever chunks it comes; holds none of its bytes.
 * type → length → body → type. Having thrown, it is of no more use: its connection ends.
 */
export class PacketGate {
  readonly #limits: { readonly beforeConnectBytesMax: number; readonly bytesMax: number };
  #connected = false;
  #mode: "type" | "length" | "body" = "type";
  /** The remaining length as far as it is read, and the bytes that it took. */
  #length = 0;
  #lengthBytes = 0;
  #bodyLeft = 0;

  constructor(limits: { beforeConnectBytesMax: number; bytesMax: number }) {
    this.#limits = limits;
  }

  /** From the next packet on, `bytesMax` is the measure: the session knows who the client is. */
  connected(): void {
    this.#connected = true;
  }

  /**
   * Looks through the next bytes of the stream.
   * @throws SluiceError PACKET_TOO_LARGE when a packet, with its fixed header, is over the limit, or
   *   when its length is malformed: over four bytes.
   */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#mode === "body") {
        at += this.#skipBody(chunk.length - at);
      } else {
        this.#readHeader(chunk[at] ?? 0);
        at += 1;
      }
    }
  }

  #skipBody(bytes: number): number {
    const skipped = Math.min(bytes, this.#bodyLeft);
    this.#bodyLeft -= skipped;
    if (this.#bodyLeft === 0) this.#mode = "type";
    return skipped;
  }

  #readHeader(byte: number): void {
    if (this.#mode === "type") {
      this.#mode = "length";
      this.#length = 0;
      this.#lengthBytes = 0;
      return;
    }
    this.#length += (byte & 0x7f) * 0x80 ** this.#lengthBytes;
    this.#lengthBytes += 1;
    if (byte >= 0x80) {
      if (this.#lengthBytes === LENGTH_BYTES_MAX) throw malformed();
      return;
    }
    this.#measure();
    this.#bodyLeft = this.#length;
    this.#mode = this.#length === 0 ? "type" : "body";
  }

  #measure(): void {
    // Counted as MQTT 5.0 §3.1.2.11.4 counts a packet: fixed header and remaining length.
    const bytes = 1 + this.#lengthBytes + this.#length;
    const { beforeConnectBytesMax, bytesMax } = this.#limits;
    const most = this.#connected ? bytesMax : beforeConnectBytesMax;
    if (bytes <= most) return;
    const when = this.#connected ? "" : " before it is connected";
    throw new SluiceError(
      "PACKET_TOO_LARGE",
      `an MQTT packet of ${bytes} bytes is over the ${most} that a client may send${when}`,
    );
  }
}

function malformed(): SluiceError {
  return new SluiceError(
    "PACKET_TOO_LARGE",
    "an MQTT packet has a malformed length: over four bytes [MQTT 3.1.1 §2.2.3]",
  );
}

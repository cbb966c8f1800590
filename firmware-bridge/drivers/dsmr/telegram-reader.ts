// telegram-reader: cuts a stream of bytes into P1 telegrams, and holds no more than one of them.
// Path: chunk → [telegram-reader] → dsmr. Touches: nothing.

import { CHECKSUMS } from "../framing/checksums.ts";
import type { Framed } from "../framing/framer.ts";

/** A telegram of DSMR 5 with four meters and both messages full has some 4,000. */
const TELEGRAM_BYTES_MAX = 8_192;

const SLASH = 0x2f;
const EXCLAMATION_MARK = 0x21;
const LF = 0x0a;
const CR = 0x0d;

export class TelegramReader {
  readonly #isChecksumRequired: boolean;
  readonly #held = Buffer.allocUnsafe(TELEGRAM_BYTES_MAX);
  #length = 0;
  /** Where the line that has begun starts in what is held. */
  #lineAt = 0;
  #isInside = false;
  #skipped = 0;

  constructor(isChecksumRequired: boolean) {
    this.#isChecksumRequired = isChecksumRequired;
  }

  /** The telegrams that `chunk` ends, from `/` to the `!`, the sum checked and taken off. */
  push(chunk: Uint8Array): Framed[] {
    const framed: Framed[] = [];
    for (const byte of chunk) {
      const isBegun = byte === SLASH && (!this.#isInside || this.#lineAt === this.#length);
      if (isBegun) this.#begin(framed);
      if (this.#isInside) this.#take(byte, framed);
      else this.#skip(byte, framed);
    }
    return framed;
  }

  #begin(framed: Framed[]): void {
    if (this.#isInside) framed.push(this.#fault("a telegram has no end"));
    if (this.#skipped > 0) framed.push(outside());
    this.#isInside = true;
    this.#length = 0;
    this.#lineAt = 0;
    this.#skipped = 0;
  }

  #take(byte: number, framed: Framed[]): void {
    if (this.#length === TELEGRAM_BYTES_MAX) {
      this.#isInside = false;
      framed.push(this.#fault(`a telegram is longer than ${TELEGRAM_BYTES_MAX} bytes`));
      return;
    }
    this.#length = this.#held.writeUInt8(byte, this.#length);
    if (byte !== LF) return;
    if (this.#held[this.#lineAt] === EXCLAMATION_MARK) {
      this.#isInside = false;
      framed.push(this.#finish());
    }
    this.#lineAt = this.#length;
  }

  /** Noise is told as often as it would fill a telegram, so that a wrong baud rate shows. */
  #skip(byte: number, framed: Framed[]): void {
    if (byte === LF || byte === CR) return;
    this.#skipped += 1;
    if (this.#skipped < TELEGRAM_BYTES_MAX) return;
    this.#skipped = 0;
    framed.push(outside());
  }

  /** From DSMR 4 on the `!` has the CRC16 of all up to it (P1 companion standard 5.0.2, 6.2). */
  #finish(): Framed {
    const end = this.#lineAt + 1;
    const digits = this.#held.toString("latin1", end, this.#length).trim();
    const telegram = Buffer.from(this.#held.subarray(0, end));
    if (digits === "" && !this.#isChecksumRequired) return { kind: "frame", bytes: telegram };
    if (!/^[0-9A-F]{4}$/i.test(digits)) return this.#fault("a telegram has no checksum");
    const isRight = Number.parseInt(digits, 16) === CHECKSUMS["crc16-arc"].of(telegram);
    return isRight
      ? { kind: "frame", bytes: telegram }
      : this.#fault("a telegram's checksum is wrong");
  }

  #fault(reason: string): Framed {
    return { kind: "fault", reason, frame: Buffer.from(this.#held.subarray(0, this.#length)) };
  }
}

function outside(): Framed {
  return { kind: "fault", reason: "bytes outside of a telegram" };
}

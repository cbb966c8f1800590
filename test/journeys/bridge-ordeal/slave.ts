// slave: a Modbus slave whose first register counts how often it was asked, and whose second takes commands.
// Path: world → [slave] → outlet. Touches: nothing.

import { CHECKSUMS } from "../../../firmware-bridge/drivers/framing/checksums.ts";
import { Counter } from "./counter.ts";
import type { Outlet, Plugged } from "./outlet.ts";

const ADDRESS = 1;
const READ_HOLDING = 3;
const WRITE_SINGLE = 6;
/** Both have their questions' length (Modbus Application Protocol V1.1b3 §6.3, §6.6). */
const QUESTION_BYTES = 8;
const HELD_BYTES_MAX = 256;
const CRC = CHECKSUMS["crc16-modbus"];

export class Slave implements Plugged {
  readonly commands = new Counter();
  readonly #outlet: Outlet;
  readonly #registers = [0, 0];
  #held = Buffer.alloc(0);

  constructor(outlet: Outlet) {
    this.#outlet = outlet;
    outlet.use(this);
  }

  get isIdle(): boolean {
    return true;
  }

  pause(): void {}

  end(): void {}

  plugged(): void {}

  unplugged(): void {
    this.#held = Buffer.alloc(0);
  }

  hear(bytes: Buffer): void {
    let held = Buffer.concat([this.#held, bytes]).subarray(-HELD_BYTES_MAX);
    while (held.length >= QUESTION_BYTES) {
      const question = held.subarray(0, QUESTION_BYTES);
      const isWhole =
        question[0] === ADDRESS && CRC.of(question.subarray(0, -2)) === question.readUInt16LE(6);
      if (isWhole) this.#answer(question);
      held = held.subarray(isWhole ? QUESTION_BYTES : 1);
    }
    this.#held = Buffer.from(held);
  }

  #answer(question: Buffer): void {
    const [at, value] = [question.readUInt16BE(2), question.readUInt16BE(4)];
    if (question[1] === WRITE_SINGLE) {
      this.#registers[at] = value;
      this.commands.count(value);
      this.#outlet.write(question);
    } else if (question[1] === READ_HOLDING) {
      if (at === 0) this.#registers[0] = (this.#registers[0] ?? 0) + 1;
      const values = Array.from({ length: value }, (_, index) => this.#registers[at + index] ?? 0);
      const pdu = Buffer.from([READ_HOLDING, 2 * value, ...values.flatMap(octetsOf)]);
      this.#outlet.write(framed(pdu));
    }
  }
}

function octetsOf(value: number): [number, number] {
  return [value >> 8, value & 0xff];
}

function framed(pdu: Buffer): Buffer {
  const body = Buffer.concat([Buffer.of(ADDRESS), pdu]);
  const crc = Buffer.alloc(2);
  crc.writeUInt16LE(CRC.of(body));
  return Buffer.concat([body, crc]);
}

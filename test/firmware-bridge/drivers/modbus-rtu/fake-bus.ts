// fake-bus: a line with slaves that say what a test makes them say, also wrong things, and late.
// Path: tests → [fake-bus] → driver. Touches: nothing.

import type { Chunk, Link } from "../../../../firmware-bridge/driver.ts";
import { rtuFrame } from "../../../../firmware-bridge/drivers/modbus-rtu/rtu-frame.ts";

export interface FakeBus {
  readonly link: Link;
  /** All frames that were sent, as hex. */
  readonly written: string[];
  /** The line brings these bytes. */
  say(bytes: Uint8Array): void;
  /** The link ends. */
  end(): void;
}

/** `answer` is called with each frame that was sent, once it has left. */
export function fakeBus(
  answer: (frame: Buffer, bus: FakeBus) => void = () => {},
  baudRate: number | undefined = 115_200,
): FakeBus {
  const chunks: Chunk[] = [];
  let wake = () => {};
  let isOver = false;
  const written: string[] = [];
  async function* readable(): AsyncGenerator<Chunk> {
    for (;;) {
      const chunk = chunks.shift();
      if (chunk) yield chunk;
      else if (isOver) return;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  }
  const bus: FakeBus = {
    written,
    link: {
      path: "/dev/bus",
      baudRate,
      readable: readable(),
      async write(bytes) {
        const frame = Buffer.from(bytes);
        written.push(frame.toString("hex"));
        setImmediate(() => answer(frame, bus));
      },
    },
    say(bytes) {
      chunks.push({ bytes, receivedAtMs: Date.now() });
      wake();
    },
    end() {
      isOver = true;
      wake();
    },
  };
  return bus;
}

/** The frame of a slave that answers with this PDU. */
export function answerFrame(unit: number, ...pdu: number[]): Buffer {
  return rtuFrame({ unit, pdu: Buffer.from(pdu) });
}

/** A slave's memory: a question is answered from it as the specification has it. */
export class FakeSlave {
  readonly unit: number;
  readonly registers = new Uint16Array(65_536);
  readonly coils = new Uint8Array(65_536);
  /** The exception for a question; undefined: none. */
  refuses: (code: number, address: number, count: number) => number | undefined = () => undefined;

  constructor(unit: number, registers: Readonly<Record<number, number>> = {}) {
    this.unit = unit;
    for (const [address, value] of Object.entries(registers)) {
      this.registers[Number(address)] = value;
    }
  }

  /** The whole frame of the answer; undefined when another slave is meant. */
  answer(frame: Buffer): Buffer | undefined {
    if (frame[0] !== this.unit) return undefined;
    const code = frame[1] ?? 0;
    const address = frame.readUInt16BE(2);
    const value = frame.readUInt16BE(4);
    const refusal = this.refuses(code, address, value);
    if (refusal !== undefined) return answerFrame(this.unit, code | 0x80, refusal);
    if (code === 1 || code === 2) return this.#bits(code, address, value);
    if (code === 3 || code === 4) return this.#words(code, address, value);
    this.#write(code, address, frame);
    return answerFrame(this.unit, ...frame.subarray(1, 6));
  }

  #bits(code: number, address: number, count: number): Buffer {
    const bytes = new Uint8Array(Math.ceil(count / 8));
    for (let index = 0; index < count; index += 1) {
      if (this.coils[address + index])
        bytes[index >> 3] = (bytes[index >> 3] ?? 0) | (1 << (index & 7));
    }
    return answerFrame(this.unit, code, bytes.length, ...bytes);
  }

  #words(code: number, address: number, count: number): Buffer {
    const bytes = Buffer.alloc(count * 2);
    for (let index = 0; index < count; index += 1) {
      bytes.writeUInt16BE(this.registers[address + index] ?? 0, index * 2);
    }
    return answerFrame(this.unit, code, bytes.length, ...bytes);
  }

  #write(code: number, address: number, frame: Buffer): void {
    if (code === 5) this.coils[address] = frame[4] === 0xff ? 1 : 0;
    if (code === 6) this.registers[address] = frame.readUInt16BE(4);
    if (code === 15) this.coils[address] = frame[7] ?? 0;
    for (let index = 0; code === 16 && index < frame.readUInt16BE(4); index += 1) {
      this.registers[address + index] = frame.readUInt16BE(7 + index * 2);
    }
  }
}

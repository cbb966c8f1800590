// pdu: what is asked of a slave and what it may answer, without the frame around it.
// Path: blocks, slave → [pdu] → line. Touches: nothing.
//
// Clauses are those of the Modbus Application Protocol V1.1b3.

export type Table = "holding" | "input" | "coil" | "discrete";

/** A question to one slave, and what its answer begins with. */
export interface Request {
  readonly unit: number;
  /** Function code and data (§4.1). */
  readonly pdu: Buffer;
  /** The answer's bytes as far as they are known before: another question's answer has others. */
  readonly answerPrefix: Buffer;
  readonly answerBytes: number;
}

const READ_FUNCTIONS = { coil: 1, discrete: 2, holding: 3, input: 4 } as const;

const TABLES = ["coil", "discrete", "holding", "input"] as const;
const ADDRESS_MAX = 65_535;

/** In one read: §6.1 to §6.4. */
export const READ_MAX = { coil: 2_000, discrete: 2_000, holding: 125, input: 125 } as const;

/** An answer with this bit in its function code is an exception (§7). */
export const EXCEPTION_BIT = 0x80;

const EXCEPTIONS: Readonly<Record<number, string>> = {
  1: "illegal function",
  2: "illegal data address",
  3: "illegal data value",
  4: "server device failure",
  5: "acknowledge: the device needs longer",
  6: "server device busy",
  8: "memory parity error",
  10: "gateway path unavailable",
  11: "gateway target device failed to respond",
};

/** `illegal data address (2)`; the words are those of §7. */
export function exceptionText(code: number): string {
  return `${EXCEPTIONS[code] ?? "an exception that the specification does not name"} (${code})`;
}

export function isBits(table: Table): boolean {
  return table === "coil" || table === "discrete";
}

/** Asks for `count` coils or registers from `address` on (§6.1 to §6.4). */
export function readRequest(unit: number, table: Table, address: number, count: number): Request {
  const code = READ_FUNCTIONS[table];
  const bytes = isBits(table) ? Math.ceil(count / 8) : count * 2;
  return {
    unit,
    pdu: head(code, address, count),
    answerPrefix: Buffer.from([code, bytes]),
    answerBytes: 2 + bytes,
  };
}

/**
 * A read of the same place whose answer has another length, a shorter one if there is one that is
 * not taken; undefined when there is none, or the request is no read.
 */
export function readLike(
  { unit, pdu }: Request,
  isTaken: (request: Request) => boolean,
): Request | undefined {
  const table = TABLES.find((name) => READ_FUNCTIONS[name] === pdu[0]);
  if (!table) return undefined;
  const [address, count] = [pdu.readUInt16BE(1), pdu.readUInt16BE(3)];
  const step = isBits(table) ? 8 : 1;
  const most = Math.min(READ_MAX[table], ADDRESS_MAX + 1 - address);
  const counts: number[] = [];
  for (let fewer = count - step; fewer > 0; fewer -= step) counts.push(fewer);
  for (let more = count + step; more <= most; more += step) counts.push(more);
  return counts.map((other) => readRequest(unit, table, address, other)).find((it) => !isTaken(it));
}

/** The coils or registers of an answer to `readRequest`: packed bits or register bytes. */
export function contentOf(answer: Buffer): Buffer {
  return answer.subarray(2);
}

/** Whether the coil at `index` of packed bits is on (§6.1). */
export function bitAt(content: Buffer, index: number): boolean {
  return (((content[index >> 3] ?? 0) >> (index & 7)) & 1) === 1;
}

/** Switches one coil: function 5, or 15 where the device knows no other (§6.5, §6.11). */
export function writeCoil(unit: number, address: number, on: boolean, many: boolean): Request {
  if (many) {
    const pdu = Buffer.concat([head(15, address, 1), Buffer.from([1, on ? 1 : 0])]);
    return { unit, pdu, ...echoOf(pdu) };
  }
  const pdu = head(5, address, on ? 0xff00 : 0);
  return { unit, pdu, ...echoOf(pdu) };
}

/** Writes registers: function 6 for one of them, 16 for more, or for all (§6.6, §6.12). */
export function writeRegisters(
  unit: number,
  address: number,
  registers: Buffer,
  many: boolean,
): Request {
  if (registers.length === 2 && !many) {
    const pdu = head(6, address, registers.readUInt16BE());
    return { unit, pdu, ...echoOf(pdu) };
  }
  const count = registers.length / 2;
  const bytes = Buffer.from([registers.length]);
  const pdu = Buffer.concat([head(16, address, count), bytes, registers]);
  return { unit, pdu, ...echoOf(pdu) };
}

/** A write is answered with its own first five bytes. */
function echoOf(pdu: Buffer): Pick<Request, "answerPrefix" | "answerBytes"> {
  return { answerPrefix: pdu.subarray(0, 5), answerBytes: 5 };
}

function head(code: number, address: number, value: number): Buffer {
  const pdu = Buffer.alloc(5);
  pdu.writeUInt8(code);
  pdu.writeUInt16BE(address, 1);
  pdu.writeUInt16BE(value, 3);
  return pdu;
}

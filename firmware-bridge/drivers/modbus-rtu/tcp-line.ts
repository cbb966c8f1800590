// tcp-line: asks devices by Modbus TCP, where each question has a number that its answer repeats.
// Path: slave → line → [tcp-line] → link, and the answers back. Touches: the clock.
//
// Clauses are those of Modbus Messaging on TCP/IP Implementation Guide V1.0b.

import { SluiceError } from "#contract/errors";
import type { Link } from "../../driver.ts";
import {
  type Answer,
  type Arrival,
  answerOf,
  type Line,
  type LineOptions,
  within,
} from "./line.ts";
import { EXCEPTION_BIT, type Request } from "./pdu.ts";

/** Transaction, protocol, length; the unit counts as part of what the length is of (§3.1.3). */
const HEADER_BYTES = 6;
const LENGTH_LEAST = 3;
const LENGTH_MOST = 254;
const PROTOCOL = 0;

interface Waiting {
  readonly request: Request;
  readonly transaction: number;
  readonly arrived: (arrival: Arrival) => void;
  readonly failed: (fault: SluiceError) => void;
}

export class TcpLine implements Line {
  readonly #link: Link;
  readonly #options: LineOptions;
  #buffer: Buffer = Buffer.alloc(0);
  #waiting: Waiting | undefined;
  #transaction = 0;
  #isOver = false;

  constructor(link: Link, options: LineOptions) {
    this.#link = link;
    this.#options = options;
  }

  /** A late answer has its own number, so nobody is held. */
  heldUntilMs(): number {
    return Number.NEGATIVE_INFINITY;
  }

  async exchange(request: Request, retriesMax = this.#options.retriesMax): Promise<Answer> {
    for (let retry = 0; ; retry += 1) {
      const arrival = await this.#send(request);
      if (arrival) return answerOf(arrival);
      if (retry >= retriesMax) break;
    }
    return { kind: "silent", why: `no answer within ${this.#options.timeoutMs} ms` };
  }

  receive(bytes: Uint8Array, receivedAtMs: number): void {
    this.#buffer = Buffer.concat([this.#buffer, bytes]);
    while (this.#buffer.length >= HEADER_BYTES) {
      const length = this.#buffer.readUInt16BE(4);
      if (this.#buffer.readUInt16BE(2) !== PROTOCOL) throw this.#foreign();
      if (length < LENGTH_LEAST || length > LENGTH_MOST) throw this.#foreign();
      const end = HEADER_BYTES + length;
      if (this.#buffer.length < end) return;
      this.#hear(this.#buffer.subarray(0, end), receivedAtMs);
      this.#buffer = this.#buffer.subarray(end);
    }
  }

  end(): void {
    this.#isOver = true;
    this.#waiting?.failed(this.#gone());
  }

  async #send(request: Request): Promise<Arrival | undefined> {
    if (this.#isOver) throw this.#gone();
    const { resolve, reject, promise } = Promise.withResolvers<Arrival>();
    // Told by the write, where that is what fails.
    promise.catch(() => {});
    this.#transaction = (this.#transaction + 1) & 0xffff;
    const transaction = this.#transaction;
    this.#waiting = { request, transaction, arrived: resolve, failed: reject };
    try {
      await this.#link.write(tcpFrame(transaction, request));
      return await within(this.#options.timeoutMs, promise);
    } finally {
      this.#waiting = undefined;
    }
  }

  #hear(frame: Buffer, receivedAtMs: number): void {
    const waiting = this.#waiting;
    if (!waiting || frame.readUInt16BE() !== waiting.transaction) {
      this.#options.fault("an answer to nobody's question, or a late one; raise timeout_ms", frame);
      return;
    }
    const pdu = frame.subarray(HEADER_BYTES + 1);
    if (frame[HEADER_BYTES] === waiting.request.unit && isAnswer(pdu, waiting.request)) {
      waiting.arrived({ pdu, receivedAtMs });
    } else {
      this.#options.fault("an answer that does not fit its question", frame);
    }
  }

  /** A stream that is out of step stays so: only a new connection mends it. */
  #foreign(): SluiceError {
    const message = `${this.#link.path} does not speak Modbus TCP; is framing = "rtu" meant?`;
    return new SluiceError("LINK_FAILED", message);
  }

  #gone(): SluiceError {
    return new SluiceError("LINK_FAILED", `${this.#link.path} ended while a device was asked`);
  }
}

/** The frame of a question (§3.1.3). */
export function tcpFrame(
  transaction: number,
  { unit, pdu }: Pick<Request, "unit" | "pdu">,
): Buffer {
  const header = Buffer.alloc(HEADER_BYTES + 1);
  header.writeUInt16BE(transaction);
  header.writeUInt16BE(PROTOCOL, 2);
  header.writeUInt16BE(pdu.length + 1, 4);
  header.writeUInt8(unit, HEADER_BYTES);
  return Buffer.concat([header, pdu]);
}

function isAnswer(pdu: Buffer, { answerPrefix, answerBytes }: Request): boolean {
  if (pdu.length === 2 && pdu[0] === ((answerPrefix[0] ?? 0) | EXCEPTION_BIT)) return true;
  return pdu.length === answerBytes && pdu.subarray(0, answerPrefix.length).equals(answerPrefix);
}

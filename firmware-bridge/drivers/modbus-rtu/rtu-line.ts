// rtu-line: asks the slaves of a serial line, or of one that is reached by TCP, in RTU frames.
// Path: slave → line → [rtu-line] → link, and the answers back. Touches: the clock.
//
// Clauses are those of Modbus over Serial Line V1.02.

import { SluiceError } from "#contract/errors";
import { wait } from "#runtime/backoff";
import type { Link } from "../../driver.ts";
import {
  type Answer,
  type Arrival,
  answerOf,
  type Line,
  type LineOptions,
  within,
} from "./line.ts";
import type { Request } from "./pdu.ts";
import {
  beginsLike,
  type Expected,
  FRAME_BYTES_MAX,
  findFrame,
  rtuFrame,
  silenceMs,
} from "./rtu-frame.ts";
import { Unanswered } from "./unanswered.ts";

/** A frame with its echo before it; what is older belongs to neither. */
const BUFFER_BYTES_MAX = 2 * FRAME_BYTES_MAX;

interface Waiting extends Expected {
  readonly arrived: (arrival: Arrival) => void;
  readonly failed: (fault: SluiceError) => void;
}

export class RtuLine implements Line {
  readonly #link: Link;
  readonly #options: LineOptions;
  readonly #gapMs: number;
  readonly #slaves = new Map<number, Unanswered>();
  readonly #ending = new AbortController();
  /** What came and was not yet part of an answer. */
  #buffer: Buffer = Buffer.alloc(0);
  #waiting: Waiting | undefined;
  #sent: Buffer = Buffer.alloc(0);
  /** What is still to come back of what was sent. */
  #echo: Buffer = Buffer.alloc(0);
  #lastByteMs = Number.NEGATIVE_INFINITY;

  constructor(link: Link, options: LineOptions) {
    this.#link = link;
    this.#options = options;
    this.#gapMs = options.gapMs ?? silenceMs(link.baudRate);
  }

  heldUntilMs(unit: number): number {
    return this.#unanswered(unit).heldUntilMs;
  }

  async exchange(request: Request, retriesMax = this.#options.retriesMax): Promise<Answer> {
    await this.#pauseUntil(this.heldUntilMs(request.unit));
    const proof = this.#unanswered(request.unit).proofFor(request, performance.now());
    if (proof) {
      const proven = await this.#ask(proof, performance.now());
      if (proven.kind !== "data") return proven;
    }
    const sinceMs = performance.now();
    let answer = await this.#ask(request, sinceMs);
    for (let retry = 0; retry < retriesMax && answer.kind === "silent"; retry += 1) {
      answer = await this.#ask(request, sinceMs);
    }
    return answer;
  }

  receive(bytes: Uint8Array, receivedAtMs: number): void {
    this.#lastByteMs = performance.now();
    const heard = this.#withoutEcho(Buffer.from(bytes));
    this.#buffer = Buffer.concat([this.#buffer, heard]).subarray(-BUFFER_BYTES_MAX);
    for (;;) {
      const found = findFrame<Expected>(this.#buffer, this.#expected());
      if (!found) return;
      this.#tellStray(this.#buffer.subarray(0, found.start));
      this.#buffer = this.#buffer.subarray(found.end);
      const { pdu, expected } = found;
      if (expected === this.#waiting) this.#waiting.arrived({ pdu, receivedAtMs });
      else this.#hearLate(expected.unit, pdu);
    }
  }

  end(): void {
    this.#ending.abort();
    this.#waiting?.failed(this.#gone());
  }

  async #ask(request: Request, sinceMs: number): Promise<Answer> {
    if (!(await this.#isSilent())) {
      return { kind: "silent", why: "the line is never silent, so nobody can be asked" };
    }
    this.#tellStray(this.#buffer);
    this.#buffer = Buffer.alloc(0);
    const atMs = performance.now();
    const arrival = await this.#send(request);
    return arrival ? this.#take(request, arrival, sinceMs, atMs) : this.#miss(request, atMs);
  }

  /** Undefined when nothing came in time. */
  async #send(request: Request): Promise<Arrival | undefined> {
    if (this.#ending.signal.aborted) throw this.#gone();
    const { resolve, reject, promise } = Promise.withResolvers<Arrival>();
    // Told by the write, where that is what fails.
    promise.catch(() => {});
    const { unit, answerPrefix, answerBytes } = request;
    this.#waiting = { unit, answerPrefix, answerBytes, arrived: resolve, failed: reject };
    this.#sent = rtuFrame(request);
    this.#echo = this.#options.hasEcho ? this.#sent : Buffer.alloc(0);
    try {
      await this.#link.write(this.#sent);
      this.#lastByteMs = performance.now();
      if (unit === 0) return await this.#turnAround();
      return await within(this.#options.timeoutMs, promise);
    } finally {
      this.#waiting = undefined;
    }
  }

  /** All slaves get a frame to 0, and none answers (§2.1, §2.4.1). */
  async #turnAround(): Promise<Arrival> {
    await wait(this.#options.turnaroundMs, this.#ending.signal);
    return { pdu: Buffer.alloc(1), receivedAtMs: Date.now() };
  }

  #take(request: Request, arrival: Arrival, sinceMs: number, atMs: number): Answer {
    const { unit } = request;
    if (unit === 0) return answerOf(arrival);
    const nowMs = performance.now();
    const slave = this.#unanswered(unit);
    if (slave.answered(request, arrival.pdu, sinceMs, atMs, nowMs)) return answerOf(arrival);
    this.#options.fault(`slave ${unit} may have answered an earlier question`, arrival.pdu);
    return { kind: "unsure" };
  }

  #miss(request: Request, atMs: number): Answer {
    const bytes = this.#buffer;
    const nowMs = performance.now();
    const slave = this.#unanswered(request.unit);
    // Then the answer has come, and no other one is awaited.
    const isBroken = beginsLike(bytes, request) && slave.expected(nowMs).length === 0;
    if (!isBroken) slave.silent(request, atMs, nowMs, this.#options.timeoutMs);
    this.#tellStray(bytes);
    this.#buffer = Buffer.alloc(0);
    if (bytes.length > 0) return { kind: "silent", why: "its answer is broken" };
    return { kind: "silent", why: `no answer within ${this.#options.timeoutMs} ms` };
  }

  #expected(): Expected[] {
    const nowMs = performance.now();
    const late = [...this.#slaves.values()].flatMap((slave) => slave.expected(nowMs));
    return this.#waiting ? [this.#waiting, ...late] : late;
  }

  #hearLate(unit: number, pdu: Buffer): void {
    const lateMs = Math.round(this.#unanswered(unit).late(pdu, performance.now()));
    this.#options.fault(`slave ${unit} answered after ${lateMs} ms; raise timeout_ms`, pdu);
  }

  /** What was sent comes first, where the adapter hears itself. */
  #withoutEcho(bytes: Buffer): Buffer {
    const length = Math.min(bytes.length, this.#echo.length);
    if (length === 0) return bytes;
    const isEcho = bytes.subarray(0, length).equals(this.#echo.subarray(0, length));
    this.#echo = isEcho ? this.#echo.subarray(length) : Buffer.alloc(0);
    if (!isEcho) this.#options.fault("what came back is not what was sent", bytes);
    return isEcho ? bytes.subarray(length) : bytes;
  }

  #tellStray(bytes: Buffer): void {
    if (bytes.length === 0) return;
    const isEcho = bytes.equals(this.#sent);
    const reason = isEcho ? "what was sent came back; set echo = true" : "no answer to a question";
    this.#options.fault(reason, bytes);
  }

  /** Resolves when the gap between frames is over (§2.5.1.1); false when it never is. */
  async #isSilent(): Promise<boolean> {
    const endMs = performance.now() + this.#options.timeoutMs;
    while (performance.now() < this.#lastByteMs + this.#gapMs) {
      if (performance.now() > endMs) return false;
      await this.#pauseUntil(this.#lastByteMs + this.#gapMs);
    }
    return true;
  }

  async #pauseUntil(ms: number): Promise<void> {
    const restMs = ms - performance.now();
    if (restMs > 0) await wait(Math.ceil(restMs), this.#ending.signal);
    if (this.#ending.signal.aborted) throw this.#gone();
  }

  #unanswered(unit: number): Unanswered {
    const slave = this.#slaves.get(unit) ?? new Unanswered();
    this.#slaves.set(unit, slave);
    return slave;
  }

  #gone(): SluiceError {
    return new SluiceError("LINK_FAILED", `${this.#link.path} ended while a slave was asked`);
  }
}

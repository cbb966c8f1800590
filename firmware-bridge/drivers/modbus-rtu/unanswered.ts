// unanswered: which questions to one slave may still be answered, late.
// Path: rtu-line → [unanswered]. Touches: nothing.
//
// An answer on a serial line names the slave, the function and its length, and not the question
// (Modbus over Serial Line V1.02 §2.4.1). So after a time-out the next answer that fits may be the
// last question's: another register's value. What keeps the two apart:
// - A slave that was silent is not asked for a while, in which a late answer is heard as one.
// - While an earlier question of the same answer may still be answered, another one is asked first
//   whose answer has a length of its own. A slave answers in order: with it, all before are settled.

import { EXCEPTION_BIT, type Request, readLike } from "./pdu.ts";
import type { Expected } from "./rtu-frame.ts";

/** Nobody answers later than this. */
const FORGET_MS = 60_000;

interface Asked extends Expected {
  readonly atMs: number;
}

export class Unanswered {
  /** The oldest first. */
  #asked: readonly Asked[] = [];
  #heldUntilMs = Number.NEGATIVE_INFINITY;

  /** Until then the slave is not asked anything. */
  get heldUntilMs(): number {
    return this.#heldUntilMs;
  }

  /** What may still be answered. */
  expected(nowMs: number): readonly Asked[] {
    if (this.#asked.length > 0) {
      this.#asked = this.#asked.filter(({ atMs }) => nowMs - atMs < FORGET_MS);
    }
    return this.#asked;
  }

  /** Nothing came for a question. */
  silent(request: Request, atMs: number, nowMs: number, holdMs: number): void {
    this.#asked = [...this.expected(nowMs), asked(request, atMs)];
    this.#heldUntilMs = nowMs + holdMs;
  }

  /**
   * What must be answered before this read is asked, lest its answer be another one's; undefined
   * when nothing must.
   */
  proofFor(request: Request, nowMs: number): Request | undefined {
    const before = this.expected(nowMs);
    const isTaken = (other: Request) => before.some((it) => isAlike(it, other));
    return isTaken(request) ? readLike(request, isTaken) : undefined;
  }

  /**
   * An answer came that fits the request: true when it is surely the answer to it, and not to an
   * earlier question; the same one, asked since `sinceMs`, is no other question.
   */
  answered(request: Request, pdu: Buffer, sinceMs: number, atMs: number, nowMs: number): boolean {
    const before = this.expected(nowMs);
    const fitting = before.filter((it) => fits(pdu, it));
    const [oldest] = fitting;
    const later = oldest ? before.slice(before.indexOf(oldest) + 1) : [];
    this.#asked = oldest ? [...later, asked(request, atMs)] : [];
    return fitting.every((it) => it.atMs >= sinceMs);
  }

  /** The answer to an earlier question came: how many ms ago it was asked. */
  late(pdu: Buffer, nowMs: number): number {
    const before = this.expected(nowMs);
    const index = before.findIndex((it) => fits(pdu, it));
    this.#asked = before.slice(index + 1);
    if (this.#asked.length === 0) this.#heldUntilMs = nowMs;
    return nowMs - (before[index]?.atMs ?? nowMs);
  }
}

function asked({ unit, answerPrefix, answerBytes }: Request, atMs: number): Asked {
  return { unit, answerPrefix, answerBytes, atMs };
}

function isAlike(a: Expected, b: Expected): boolean {
  return a.answerBytes === b.answerBytes && a.answerPrefix.equals(b.answerPrefix);
}

function fits(pdu: Buffer, { answerPrefix, answerBytes }: Expected): boolean {
  const code = answerPrefix[0] ?? 0;
  if (pdu[0] === (code | EXCEPTION_BIT)) return true;
  return pdu.length === answerBytes && pdu.subarray(0, answerPrefix.length).equals(answerPrefix);
}

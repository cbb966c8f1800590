// line: what slaves are asked through, serial or TCP: one question at a time.
// Path: slave → [line] → rtu-line, tcp-line. Touches: the clock.

import { setImmediate } from "node:timers/promises";
import { wait } from "#runtime/backoff";
import { EXCEPTION_BIT, exceptionText, type Request } from "./pdu.ts";

export type Answer =
  | { readonly kind: "data"; readonly pdu: Buffer; readonly receivedAtMs: number }
  | { readonly kind: "exception"; readonly code: number }
  /** Nothing came in time, or nothing whole. */
  | { readonly kind: "silent"; readonly why: string }
  /** It may be the late answer to an earlier question, so it is nobody's. */
  | { readonly kind: "unsure" };

/** How a line speaks. */
export interface LineOptions {
  readonly timeoutMs: number;
  /** Of silence between frames; undefined: what the specification asks for. */
  readonly gapMs: number | undefined;
  /** After a frame to all slaves, which none of them answers. */
  readonly turnaroundMs: number;
  /** How often a question is asked again that was not answered. */
  readonly retriesMax: number;
  /** The adapter hears what it sends. */
  readonly hasEcho: boolean;
  /** Counts and tells what was not understood. */
  readonly fault: (reason: string, frame?: Uint8Array) => void;
}

/** The next question is asked only when the promise of the last one is settled. */
export interface Line {
  /**
   * Waits until the slave may be asked, asks it, and asks again while it is silent; @throws
   * SluiceError LINK_FAILED when the link is gone.
   */
  exchange(request: Request, retriesMax?: number): Promise<Answer>;
  /** When the slave may be asked, in ms of performance.now(). */
  heldUntilMs(unit: number): number;
  /** What the link brought; @throws SluiceError LINK_FAILED when it cannot be followed any more. */
  receive(bytes: Uint8Array, receivedAtMs: number): void;
  /** Whoever waits for an answer gets LINK_FAILED. */
  end(): void;
}

/** What a frame brought. */
export interface Arrival {
  readonly pdu: Buffer;
  readonly receivedAtMs: number;
}

export function answerOf({ pdu, receivedAtMs }: Arrival): Answer {
  const isException = ((pdu[0] ?? 0) & EXCEPTION_BIT) !== 0;
  return isException
    ? { kind: "exception", code: pdu[1] ?? 0 }
    : { kind: "data", pdu, receivedAtMs };
}

/** In words. */
export function whyNoData(answer: Exclude<Answer, { kind: "data" }>): string {
  if (answer.kind === "exception") return exceptionText(answer.code);
  return answer.kind === "silent" ? answer.why : "its answer may be to an earlier question";
}

/**
 * What the promise gives; undefined when it takes longer than `ms`. A process that was held up
 * itself looks first for what has come meanwhile.
 */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const done = new AbortController();
  const late = wait(ms, done.signal).then(async () => {
    await setImmediate();
    return undefined;
  });
  return await Promise.race([promise, late]).finally(() => done.abort());
}

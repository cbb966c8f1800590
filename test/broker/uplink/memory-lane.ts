// memory-lane: a lane of the outbox in memory.
// Path: tests of the sender. Touches: nothing.

import assert from "node:assert/strict";
import { FRAME_LIMITS, type Run } from "#contract/frame";
import { encodeMessage } from "#contract/message";
import type { SendLane } from "../../../broker/uplink/send-lane.ts";

/** Keeps all that was ever appended; `tail` of it may be sent again. */
export class MemoryLane implements SendLane {
  readonly name: string;
  readonly writers: readonly string[];
  readonly #tail: number;
  epoch: number;
  position = 0;
  dropped = 0;
  #base = 0;
  #records: Uint8Array[] = [];
  #listener: () => void = () => {};

  constructor(
    name: string,
    {
      epoch = 5,
      writers = ["w"],
      tail = Number.POSITIVE_INFINITY,
    }: {
      epoch?: number;
      writers?: readonly string[];
      tail?: number;
    } = {},
  ) {
    this.name = name;
    this.epoch = epoch;
    this.writers = writers;
    this.#tail = tail;
  }

  get firstSeq(): number {
    return Math.max(1, this.position - this.#tail + 1);
  }

  get lastSeq(): number {
    return this.#records.length - this.#base;
  }

  /** A copy as of now, for another process on the same disk or on a copy of it. */
  copy(writers: readonly string[]): MemoryLane {
    const copy = new MemoryLane(this.name, { epoch: this.epoch, writers, tail: this.#tail });
    copy.position = this.position;
    copy.#base = this.#base;
    copy.#records = [...this.#records];
    return copy;
  }

  append(count: number, payloadBytes = 1): void {
    const payload = new Uint8Array(payloadBytes);
    const message = { topic: "t", payload, qos: 1, retain: false, takenAtMs: 1 } as const;
    for (let index = 0; index < count; index += 1) this.#records.push(encodeMessage(message));
    this.#listener();
  }

  onAppend(listener: () => void): void {
    this.#listener = listener;
  }

  async readAfter(seq: number): Promise<Run | undefined> {
    await new Promise(setImmediate);
    assert(seq >= this.firstSeq - 1, `${seq} is before the tail`);
    const from = seq + this.#base;
    const records: { first: number; last: number; record: Uint8Array }[] = [];
    let bytes = 0;
    for (const record of this.#records.slice(from, from + FRAME_LIMITS.recordsMax)) {
      if (records.length > 0 && bytes + record.length > FRAME_LIMITS.bytesMax) break;
      const at = seq + records.length + 1;
      records.push({ first: at, last: at, record });
      bytes += record.length;
    }
    if (records.length === 0) return undefined;
    return { firstSeq: seq + 1, lastSeq: seq + records.length, bytes, records };
  }

  async cloudHolds(run: Run): Promise<void> {
    assert.equal(run.firstSeq, this.position + 1, "it follows the position");
    assert.equal(run.records.at(-1)?.last, run.lastSeq);
    await new Promise(setImmediate);
    this.position = run.lastSeq;
  }

  async moveTo(seq: number): Promise<void> {
    assert(seq <= this.lastSeq && seq >= this.firstSeq - 1, `${seq} is not in ${this.name}`);
    this.position = seq;
  }

  async beginEpoch(newerThan: number): Promise<void> {
    this.epoch = Math.max(this.epoch + 1, newerThan + 1);
    this.#base += this.position;
    this.position = 0;
  }

  async countDropped(count: number): Promise<void> {
    this.dropped += count;
  }
}

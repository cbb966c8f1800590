// fake-queue: a session's queue in memory that keeps its promises, at a pace that the test sets.
// Path: tests of broker/mqtt → [fake-queue]. Touches: nothing.

import { setImmediate as turn } from "node:timers/promises";
import type { Message, Qos } from "#contract/message";
import type { QueuedMessage, SessionQueue } from "#contract/session";

export class FakeQueue implements SessionQueue {
  /** What is in it, by number. */
  readonly entries = new Map<number, QueuedMessage>();
  /** What was asked of it, as "release 3"; reads as "read behind 3". */
  readonly asked: string[] = [];
  /** Each verb is done when this is over; but what is removed is read no more at once. */
  pace: (verb: "read" | "release" | "remove") => Promise<unknown> = () => turn();
  #newest: number;

  constructor(newest = 0) {
    this.#newest = newest;
  }

  add(message: Message, qos: Exclude<Qos, 0>, more: Partial<QueuedMessage> = {}): number {
    this.#newest += 1;
    const usual = { number: this.#newest, message, qos, retain: false, subscriptionIds: [] };
    this.entries.set(this.#newest, { ...usual, ...more });
    return this.#newest;
  }

  async read(after: number, countMax: number, bytesMax: number): Promise<QueuedMessage[]> {
    this.asked.push(`read behind ${after}`);
    const found: QueuedMessage[] = [];
    let bytes = 0;
    for (const entry of this.entries.values()) {
      if (entry.number <= after) continue;
      if (found.length >= countMax || bytes > bytesMax) break;
      bytes += entry.message?.payload.length ?? 0;
      found.push(entry);
    }
    await this.pace("read");
    return found;
  }

  async release(number: number): Promise<void> {
    this.asked.push(`release ${number}`);
    await this.pace("release");
    const entry = this.entries.get(number);
    if (entry) this.entries.set(number, { ...entry, message: undefined });
  }

  async remove(number: number): Promise<void> {
    this.asked.push(`remove ${number}`);
    this.entries.delete(number);
    await this.pace("remove");
  }

  async newest(): Promise<number> {
    return this.#newest;
  }

  async size(): Promise<{ count: number; bytes: number }> {
    return { count: this.entries.size, bytes: 0 };
  }

  async incoming(): Promise<number[]> {
    return [];
  }

  async removeIncoming(): Promise<void> {}
}

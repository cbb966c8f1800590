// takes: custody of messages that come together, taken in one step and in their order.
// Path: sessions → [takes] → scripts → cluster Redis. Touches: the cluster Redis.

import assert from "node:assert";
import { SluiceError } from "#contract/errors";
import { encodeMessage } from "#contract/message";
import type { Taken, Taking } from "#contract/session";
import { RETAINED_KEY, sessionKeys } from "./keys.ts";
import { encodeHead } from "./queue.ts";
import { SCRIPTS, type Scripts, TAKE_OUTCOMES } from "./scripts.ts";

const BATCH_LIMITS = {
  /** Redis serves nobody else meanwhile. A message that goes into no queue counts as one entry. */
  entriesMax: 256,
  recordsBytesMax: 256 * 1_024,
} as const;

/** What becomes of the topic's retained message. */
export type RetainVerb = "keep" | "clear" | "";

export interface Asked {
  readonly taking: Taking;
  readonly verb: RetainVerb;
  /** Nobody can be told that it failed, and it may be kept twice: a broken connection delays it. */
  readonly isPatient: boolean;
}

interface Waiting extends Asked {
  readonly record: Buffer;
  readonly resolve: (taken: Taken) => void;
  readonly reject: (fault: unknown) => void;
}

export interface TakesOptions {
  readonly scripts: Scripts;
  /** Limits of each queue: entries, and bytes of their records. */
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  /** Sends what was asked before and must not come behind the batch that follows. */
  readonly beforeBatch: () => void;
  readonly dropped: (clientId: string, count: number) => void;
  readonly missing: (clientId: string) => void;
}

/**
 * One batch is under way at a time, and what comes meanwhile is the next one. Redis carries out a
 * batch whole or not at all; when it fails, what waits behind it is refused, too: it would be kept
 * in front of what its publisher sends again.
 */
export class Takes {
  readonly #options: TakesOptions;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #last: Promise<Taken> | undefined;

  constructor(options: TakesOptions) {
    this.#options = options;
  }

  /** Resolves when Redis has answered. @throws SluiceError CLOUD_UNREACHABLE, SESSION_MOVED. */
  add(asked: Asked): Promise<Taken> {
    const record = encodeMessage(asked.taking.message, Buffer.allocUnsafe);
    const { promise, resolve, reject } = Promise.withResolvers<Taken>();
    this.#waiting.push({ ...asked, record, resolve, reject });
    this.#last = promise;
    this.#running ??= this.#run();
    return promise;
  }

  /** Resolves when all that was asked up to now is answered; undefined: it is. */
  settled(): Promise<void> | undefined {
    const ignore = () => {};
    return this.#running && this.#last?.then(ignore, ignore);
  }

  async #run(): Promise<void> {
    // Whoever asks in this turn of the event loop joins the first batch.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) await this.#runBatch(this.#cut());
    this.#running = undefined;
  }

  #cut(): Waiting[] {
    const { entriesMax, recordsBytesMax } = BATCH_LIMITS;
    let entries = 0;
    let bytes = 0;
    const end = this.#waiting.findIndex(({ taking, record }, index) => {
      entries += Math.max(1, taking.queues.length);
      bytes += record.length;
      return index > 0 && (entries > entriesMax || bytes > recordsBytesMax);
    });
    return this.#waiting.splice(0, end < 0 ? this.#waiting.length : end);
  }

  async #runBatch(batch: readonly Waiting[]): Promise<void> {
    const { scripts, queueMessagesMax, queueBytesMax, beforeBatch } = this.#options;
    beforeBatch();
    const { keys, args } = encodeBatch(batch);
    args.unshift(queueMessagesMax, queueBytesMax);
    try {
      const answer = batch.every(({ isPatient }) => isPatient)
        ? await scripts.runSurely(SCRIPTS.take, keys, args)
        : await scripts.run(SCRIPTS.take, keys, args);
      this.#answered(batch, answer as Answer);
    } catch (fault) {
      this.#failed(batch, fault);
    }
  }

  #answered(batch: readonly Waiting[], [outcomes, over, gone]: Answer): void {
    const { dropped, missing } = this.#options;
    for (const clientId of targetsAt(batch, over)) dropped(clientId, 1);
    for (const clientId of targetsAt(batch, gone)) missing(clientId);
    for (const [index, { taking, resolve, reject }] of batch.entries()) {
      const outcome = TAKE_OUTCOMES[outcomes[index] ?? 0];
      if (outcome === undefined) reject(sessionMoved(taking.incoming?.clientId ?? ""));
      else resolve(outcome);
    }
  }

  #failed(batch: readonly Waiting[], fault: unknown): void {
    // What is patient goes once more, with its like alone, and waits for the connection then.
    const isFinal = batch.every(({ isPatient }) => isPatient);
    const all = [...batch, ...this.#waiting];
    this.#waiting = isFinal ? [] : all.filter(({ isPatient }) => isPatient);
    for (const { isPatient, reject } of all) if (isFinal || !isPatient) reject(fault);
  }
}

export function sessionMoved(clientId: string): SluiceError {
  return new SluiceError("SESSION_MOVED", `${clientId} is connected to another broker by now`);
}

/** A character for each message, then the places of targets: the message's, and its own in that. */
type Answer = readonly [outcomes: Buffer, over: readonly number[], gone: readonly number[]];

/** As SCRIPTS.take wants it, but for the limits in front. */
function encodeBatch(batch: readonly Waiting[]): {
  keys: string[];
  args: (string | Buffer | number)[];
} {
  const keys = [RETAINED_KEY];
  const places = new Map<string, number>();
  const placeOf = (clientId: string) => {
    const known = places.get(clientId);
    if (known !== undefined) return known;
    const { session, queue, incoming } = sessionKeys(clientId);
    const place = keys.push(session, queue, incoming) - 2;
    places.set(clientId, place);
    return place;
  };
  const args: (string | Buffer | number)[] = [];
  for (let at = 0; at < batch.length; ) {
    const alike = alikeFrom(batch, at);
    const [{ taking, verb }] = alike;
    const { message, queues, incoming } = taking;
    args.push(alike.length, verb, incoming ? placeOf(incoming.clientId) : 0, queues.length);
    if (incoming) args.push(incoming.packetId, incoming.broker ?? "");
    if (verb !== "") args.push(message.topic);
    for (const target of queues) args.push(placeOf(target.clientId), encodeHead(target));
    for (const { record } of alike) args.push(record);
    at += alike.length;
  }
  return { keys, args };
}

/** The message at a place, and those behind it that go into the same queues in the same form. */
function alikeFrom(batch: readonly Waiting[], start: number): [Waiting, ...Waiting[]] {
  const first = batch[start];
  assert(first, "the place is within the batch");
  const alike: [Waiting, ...Waiting[]] = [first];
  for (let at = start + 1; at < batch.length; at += 1) {
    const next = batch[at];
    if (!next || !isAlike(first, next)) break;
    alike.push(next);
  }
  return alike;
}

/** A retained one has a topic of its own, one of QoS 2 a packet id. */
function isAlike(one: Waiting, other: Waiting): boolean {
  if (one.verb !== "" || other.verb !== "") return false;
  if (one.taking.incoming || other.taking.incoming) return false;
  const targets = one.taking.queues;
  const others = other.taking.queues;
  return (
    targets.length === others.length &&
    targets.every((target, index) => {
      const to = others[index];
      return (
        target.clientId === to?.clientId &&
        target.qos === to.qos &&
        target.retain === to.retain &&
        target.shared === to.shared &&
        // Of one subscription they are the same array.
        target.subscriptionIds === to.subscriptionIds
      );
    })
  );
}

function targetsAt(batch: readonly Waiting[], places: readonly number[]): string[] {
  const clientIds: string[] = [];
  for (let at = 0; at < places.length; at += 2) {
    const target = batch[places[at] ?? 0]?.taking.queues[places[at + 1] ?? 0];
    if (target) clientIds.push(target.clientId);
  }
  return clientIds;
}

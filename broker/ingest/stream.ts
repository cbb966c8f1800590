// stream: one gateway's frames on their way into the cluster, each record once and in order.
// Path: landing → [stream] → bus. Touches: what it is given.

import { SluiceError } from "#contract/errors";
import { decodeFrame, type Sequenced } from "#contract/frame";
import { GAP_REASON_EXPIRED, type GapRecord, isExpired, type Message } from "#contract/message";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { bridgedMessage, type Origin, originOf } from "./bridge.ts";
import type { Checkpoint, LanePosition } from "./checkpoints.ts";
import { isOlderId, type LandingEntry } from "./landing.ts";

export interface StreamOptions {
  readonly gateway: string;
  readonly checkpoint: Checkpoint;
  /** Hands a message to the cluster's subscribers; resolves when every session's queue has it. */
  readonly deliver: (message: Message) => Promise<void>;
  /** Saves the position; false when another node owns this gateway now. */
  readonly save: (cursor: string, lane: string, position: LanePosition) => Promise<boolean>;
  /** Keeps what can never be delivered, with the reason, for a person to look at. */
  readonly bury: (entry: LandingEntry, reason: string) => Promise<void>;
  /** The steady clock by which the cluster's messages expire, in milliseconds. */
  readonly clock: () => number;
  readonly log: Log;
  readonly count: StreamCounters;
}

export type StreamCounters = ReturnType<typeof streamCounters>;

export function streamCounters(metrics: Metrics) {
  return {
    messages: metrics.counter("sluice_ingest_messages_total", "Messages taken into the cluster."),
    repeats: metrics.counter(
      "sluice_ingest_repeats_total",
      "Messages that the cluster had already.",
    ),
    gaps: metrics.counter("sluice_ingest_gaps_total", "Messages that gap records stand for."),
    expired: metrics.counter(
      "sluice_ingest_expired_total",
      "Messages that expired on the gateway, or before the cluster took them.",
    ),
    lost: metrics.counter("sluice_ingest_lost_total", "Messages that the landing does not have."),
    buried: metrics.counter(
      "sluice_ingest_dead_letters_total",
      "Records that cannot be delivered.",
    ),
  };
}

/**
 * What became of an entry: the cluster has it; or the stream must be read again from its cursor,
 * and what was read already is void; or another node owns the gateway now.
 */
export type Taken = "taken" | "again" | "gone";

/** An entry that can be read. */
interface Readable {
  readonly entry: LandingEntry;
  readonly origin: Origin;
  readonly records: readonly Sequenced[];
}

/**
 * The sequence numbers say what is new: what the checkpoint covers is a repeat (the landing was
 * rewound), a hole means that entries were missed (the landing was restored under smaller ids), and
 * the stream is read from its beginning once more.
 */
export class Stream {
  readonly #options: StreamOptions;
  readonly #lanes: Map<string, LanePosition>;
  #cursor: string;
  #hasReread = false;
  #messages = 0;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#lanes = new Map(options.checkpoint.lanes);
    this.#cursor = options.checkpoint.cursor;
  }

  /** The id behind which to read on. */
  get cursor(): string {
    return this.#cursor;
  }

  get messages(): number {
    return this.#messages;
  }

  /** The landing's newest id is behind our cursor: it went back in time, and so do we. */
  rewindBehind(newestId: string): void {
    if (isOlderId(newestId, this.#cursor)) this.#cursor = "0-0";
  }

  async take(entry: LandingEntry): Promise<Taken> {
    const readable = this.#decode(entry);
    if (typeof readable === "string") {
      await this.#bury(entry, readable);
      this.#cursor = entry.id;
      return "taken";
    }
    const held = this.#lanes.get(entry.lane);
    const isOldEpoch = held !== undefined && entry.epoch < held.epoch;
    const first = readable.records[0]?.first ?? 1;
    const expected = this.#expected(entry, first);
    if (!isOldEpoch && first > expected && this.#rereads()) return "again";
    if (!isOldEpoch && first > expected) this.#reportLost(entry, expected, first);
    const last = isOldEpoch ? 0 : await this.#deliverAll(readable, expected);
    this.#cursor = entry.id;
    if (last === 0) return "taken";
    const position = { epoch: entry.epoch, seq: last };
    this.#lanes.set(entry.lane, position);
    this.#hasReread = false;
    return (await this.#options.save(entry.id, entry.lane, position)) ? "taken" : "gone";
  }

  #decode(entry: LandingEntry): Readable | string {
    try {
      if (!entry.lane || !Number.isSafeInteger(entry.epoch)) return "entry without lane or epoch";
      return { entry, origin: originOf(entry), records: decodeFrame(entry.frame) };
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      return fault.message;
    }
  }

  /** The sequence that must come next; a lane that is new to us may begin anywhere. */
  #expected(entry: LandingEntry, first: number): number {
    const held = this.#lanes.get(entry.lane);
    if (!held) return first;
    return held.epoch === entry.epoch ? held.seq + 1 : 1;
  }

  /** Goes back to the stream's beginning, once for each hole. */
  #rereads(): boolean {
    if (this.#hasReread) return false;
    this.#hasReread = true;
    this.#cursor = "0-0";
    return true;
  }

  /** Delivers what is new of the frame; returns the last sequence, 0 when nothing was new. */
  async #deliverAll(readable: Readable, expected: number): Promise<number> {
    let newest = 0;
    for (const { first, last, record } of readable.records) {
      if (last < expected) {
        this.#options.count.repeats();
        continue;
      }
      if (record.kind === "gap") this.#passGap(readable.entry, record.gap, expected);
      else await this.#deliver(readable, first, record.message);
      newest = last;
    }
    return newest;
  }

  #passGap(entry: LandingEntry, gap: GapRecord, expected: number): void {
    const { gateway, log, count } = this.#options;
    // Of what a rewind reports as lost, the cluster may have taken a part before.
    const missing = Math.min(gap.count, gap.to - Math.max(gap.from, expected) + 1);
    const about = { gateway, lane: entry.lane, ...gap, missing };
    if (gap.reason === GAP_REASON_EXPIRED) {
      count.expired({ gateway }, missing);
      log.debug(about, "expired on the gateway");
    } else {
      count.gaps({ gateway }, missing);
      log.warn(about, "gap record");
    }
  }

  async #deliver({ entry, origin }: Readable, sequence: number, message: Message): Promise<void> {
    const { gateway, clock, deliver, log, count } = this.#options;
    let bridged: Message;
    try {
      bridged = bridgedMessage(origin, sequence, message);
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      await this.#bury(entry, fault.message);
      return;
    }
    if (isExpired(bridged.expiresAtMs, clock())) {
      count.expired({ gateway });
      log.debug({ gateway, lane: entry.lane, sequence }, "expired on its way");
      return;
    }
    await deliver(bridged);
    count.messages();
    this.#messages += 1;
  }

  #reportLost(entry: LandingEntry, from: number, first: number): void {
    const { gateway, log, count } = this.#options;
    count.lost({ gateway }, first - from);
    log.error({ gateway, lane: entry.lane, from, to: first - 1 }, "the landing lacks sequences");
  }

  async #bury(entry: LandingEntry, reason: string): Promise<void> {
    const { gateway, log, count, bury } = this.#options;
    log.error({ gateway, lane: entry.lane, id: entry.id, reason }, "dead letter");
    count.buried({ gateway });
    await bury(entry, reason);
  }
}

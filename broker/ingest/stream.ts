// stream: one gateway's frames on their way into the cluster, each record once and in order.
// Path: landing → [stream] → bus. Touches: what it is given.

import { reasonOf, SluiceError } from "#contract/errors";
import { decodeFrame, type Sequenced } from "#contract/frame";
import {
  encodeMessage,
  GAP_REASON_EXPIRED,
  type GapRecord,
  isExpired,
  type Message,
} from "#contract/message";
import { backoffMs } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import { bridgedMessage, type Origin, originOf } from "./bridge.ts";
import type { Checkpoint, LanePosition } from "./checkpoints.ts";
import type { GatewayCounts } from "./counts.ts";
import type { DeadLetter } from "./dead-letters.ts";
import { isOlderId, type LandingEntry } from "./landing.ts";

/** How often what cannot be handed on is tried, read from the landing anew each time. */
const TRIES_MAX = 3;
const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 1_000;
/** A batch is full once so much is under way in it, and handed on before the next one. */
const BATCH_RECORDS_MAX = 1_024;
const BATCH_BYTES_MAX = 512 * 1024;
/** Lanes of one gateway: each is a field of its checkpoint, and labels of metrics. */
const LANES_MAX = 64;
/** Places of dead letters that are known again, should the stream be read from its beginning. */
const BURIED_MAX = 1_024;
const BEGINNING = "0-0";

/** Hands a message to the cluster's subscribers; undefined: done already. */
export type Publish = (message: Message) => Promise<void> | undefined;

export interface StreamOptions {
  readonly gateway: string;
  readonly checkpoint: Checkpoint;
  /** A new publisher: its messages keep their order, and behind one that fails none is handed on. */
  readonly publisher: () => Publish;
  /** Resolves when clients have had a moment to keep up; undefined: none needs it. */
  readonly hold: () => Promise<void> | undefined;
  /** Is the gateway this node's to hand on, as far as it knows without asking? */
  readonly isOurs: () => boolean;
  /** Saves how far it came; false when another node owns this gateway now. */
  readonly save: (checkpoint: Checkpoint) => Promise<boolean>;
  /** Keeps what cannot be handed on, with the reason, for a person to look at. */
  readonly bury: (letter: DeadLetter) => Promise<void>;
  /** The steady clock by which the cluster's messages expire, in milliseconds. */
  readonly clock: () => number;
  readonly log: Log;
  readonly counts: GatewayCounts;
}

/**
 * What became of the entries: the cluster has them; or the stream must be read again from its
 * cursor, and what was read already is void; or the gateway is not this node's any more.
 */
export type Taken = "taken" | "again" | "gone";

/** What a step of the way through an entry is about. */
type Matter =
  | { readonly kind: "message" }
  | { readonly kind: "repeat" | "expired" | "buried" | "nothing" }
  | { readonly kind: "gap"; readonly gap: GapRecord; readonly missing: number }
  | { readonly kind: "lost"; readonly from: number };

interface Step {
  readonly entry: LandingEntry;
  readonly matter: Matter;
  /** The lane's newest sequence behind it. */
  readonly last: number;
  /** Does the entry end with it? */
  readonly isEnd: boolean;
  /** Of a message: settles when it was handed on. */
  readonly done?: Promise<void> | undefined;
  readonly message?: Message;
}

/** What cannot be handed on: one record, or an entry that cannot be read. */
interface Trouble {
  readonly entry: LandingEntry;
  readonly sequence: number | undefined;
  readonly bytes: Uint8Array;
  readonly fault: unknown;
}

/** Entries on their way: the steps that were begun, and why it went no further. */
interface Batch {
  readonly publish: Publish;
  /** The lanes' positions behind the last step. */
  readonly lanes: Map<string, LanePosition>;
  readonly steps: Step[];
  entryCount: number;
  stop: Trouble | "hole" | undefined;
}

const MESSAGE: Matter = { kind: "message" };
const REPEAT: Matter = { kind: "repeat" };
const EXPIRED: Matter = { kind: "expired" };
const BURIED: Matter = { kind: "buried" };
const NOTHING: Matter = { kind: "nothing" };

/**
 * The sequence numbers say what is new: what the checkpoint covers is a repeat (the landing was
 * rewound), a hole means that entries were missed (the landing was restored under smaller ids), and
 * the stream is read from its beginning once more. Messages of a batch are handed on without waiting
 * for each other; the checkpoint is saved when the cluster has all of them. What fails is tried
 * again, behind a checkpoint that ends before it, and goes to the dead letters the third time.
 */
export class Stream {
  readonly #options: StreamOptions;
  readonly #lanes: Map<string, LanePosition>;
  readonly #buried = new Set<string>();
  #cursor: string;
  #savedCursor: string;
  #hasReread = false;
  /** The entry of which a part is in the checkpoint already: its repeats are our own. */
  #partlyTaken: string | undefined;
  #failed = { place: "", tries: 0 };
  #retryAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#lanes = new Map(options.checkpoint.lanes);
    this.#cursor = options.checkpoint.cursor;
    this.#savedCursor = this.#cursor;
  }

  /** The id behind which to read on. */
  get cursor(): string {
    return this.#cursor;
  }

  /** Up to which id the landing is not needed any more: saved, and not to be read again. */
  get doneUpTo(): string {
    return isOlderId(this.#cursor, this.#savedCursor) ? this.#cursor : this.#savedCursor;
  }

  get counts(): GatewayCounts {
    return this.#options.counts;
  }

  /** Is there nothing to wait for before it is read on? */
  get isDue(): boolean {
    return this.#options.clock() >= this.#retryAtMs;
  }

  /** The landing's newest id is behind our cursor: it went back in time, and so do we. */
  rewindBehind(newestId: string): void {
    if (isOlderId(newestId, this.#cursor)) this.#cursor = BEGINNING;
  }

  /**
   * Takes entries that were read behind the cursor.
   * @throws SluiceError CLOUD_UNREACHABLE, ACCESS_DENIED: a Redis is away, which is no fault of theirs.
   */
  async take(entries: readonly LandingEntry[]): Promise<Taken> {
    for (let at = 0; at < entries.length; ) {
      await this.#options.hold();
      // A node that was frozen has lost its lease without hearing of it.
      if (!this.#options.isOurs()) return "gone";
      const batch = this.#begin(entries.slice(at));
      const taken = await this.#finish(batch);
      if (taken !== "taken") return taken;
      at += batch.entryCount;
    }
    return "taken";
  }

  #begin(entries: readonly LandingEntry[]): Batch {
    const batch: Batch = {
      publish: this.#options.publisher(),
      lanes: new Map(this.#lanes),
      steps: [],
      entryCount: 0,
      stop: undefined,
    };
    let bytes = 0;
    for (const entry of entries) {
      if (batch.steps.length >= BATCH_RECORDS_MAX || bytes >= BATCH_BYTES_MAX) break;
      batch.entryCount += 1;
      bytes += entry.frame.length;
      batch.stop = this.#walk(entry, batch);
      if (batch.stop) break;
    }
    return batch;
  }

  /** Begins all that there is to do for an entry; answers with what stops it. */
  #walk(entry: LandingEntry, batch: Batch): Batch["stop"] {
    const held = batch.lanes.get(entry.lane);
    const pass = (matter: Matter, last: number) =>
      batch.steps.push({ entry, matter, last, isEnd: true });
    if (this.#buried.has(placeOf(entry))) return void pass(NOTHING, 0);
    let read: { origin: Origin; records: readonly Sequenced[] };
    try {
      read = this.#read(entry, batch);
    } catch (fault) {
      return { entry, sequence: undefined, bytes: entry.frame, fault };
    }
    if (held && entry.epoch < held.epoch) return void pass(NOTHING, 0);
    const first = read.records[0]?.first ?? 1;
    const expected = expectedBehind(held, entry, first);
    if (first > expected) {
      if (!this.#hasReread) return "hole";
      const matter = { kind: "lost", from: expected } as const;
      batch.steps.push({ entry, matter, last: first - 1, isEnd: false });
    }
    return this.#walkRecords(entry, read.origin, read.records, expected, batch);
  }

  #walkRecords(
    entry: LandingEntry,
    origin: Origin,
    records: readonly Sequenced[],
    expected: number,
    batch: Batch,
  ): Trouble | undefined {
    const nowMs = this.#options.clock();
    let seq = 0;
    for (const [index, { first, last, record }] of records.entries()) {
      const isEnd = index === records.length - 1;
      seq = last;
      if (last < expected) batch.steps.push({ entry, matter: REPEAT, last: 0, isEnd });
      else if (record.kind === "gap") {
        const matter = gapMatter(record.gap, expected);
        batch.steps.push({ entry, matter, last, isEnd });
      } else {
        const { message } = record;
        const done = this.#publish(entry, origin, first, message, nowMs, batch.publish);
        if ("fault" in done)
          return { entry, sequence: first, bytes: encodeMessage(message), ...done };
        batch.steps.push({ entry, message, ...done, last, isEnd });
      }
    }
    if (seq >= expected) batch.lanes.set(entry.lane, { epoch: entry.epoch, seq });
    return undefined;
  }

  #publish(
    entry: LandingEntry,
    origin: Origin,
    sequence: number,
    message: Message,
    nowMs: number,
    publish: Publish,
  ): Pick<Step, "matter" | "done"> | { readonly fault: unknown } {
    if (this.#buried.size > 0 && this.#buried.has(placeOf(entry, sequence))) {
      return { matter: BURIED };
    }
    try {
      const bridged = bridgedMessage(origin, sequence, message);
      if (isExpired(bridged.expiresAtMs, nowMs)) return { matter: EXPIRED };
      return { matter: MESSAGE, done: publish(bridged) };
    } catch (fault) {
      return { fault };
    }
  }

  #read(entry: LandingEntry, { lanes }: Batch): { origin: Origin; records: readonly Sequenced[] } {
    const origin = originOf(entry);
    if (!lanes.has(entry.lane) && lanes.size >= LANES_MAX) {
      throw new SluiceError("FRAME_INVALID", `entry of more lanes than ${LANES_MAX}`);
    }
    return { origin, records: decodeFrame(entry.frame) };
  }

  async #finish({ steps, stop }: Batch): Promise<Taken> {
    const failed = await firstFailure(steps);
    const trouble = failed ? troubleOf(failed) : stop;
    if (typeof trouble === "object" && isRedisFault(trouble.fault)) throw trouble.fault;
    const passed = failed ? steps.slice(0, steps.indexOf(failed.step)) : steps;
    if (!(await this.#pass(passed))) return "gone";
    if (trouble === undefined) return "taken";
    if (trouble === "hole") {
      this.#hasReread = true;
      this.#cursor = BEGINNING;
    } else await this.#tryLater(trouble);
    return "again";
  }

  /** The cluster has all of them: moves on behind them, and saves that. */
  async #pass(steps: readonly Step[]): Promise<boolean> {
    if (steps.length === 0) return true;
    const lanes = new Map<string, LanePosition>();
    for (const { entry, last, isEnd } of steps) {
      if (last > 0) lanes.set(entry.lane, { epoch: entry.epoch, seq: last });
      if (isEnd) this.#cursor = entry.id;
    }
    this.#tell(steps);
    for (const [lane, position] of lanes) this.#lanes.set(lane, position);
    if (lanes.size > 0) this.#hasReread = false;
    const end = steps.at(-1);
    this.#partlyTaken = end?.isEnd ? undefined : end?.entry.id;
    const cursor = this.#cursor;
    if (lanes.size === 0 && cursor === this.#savedCursor) return true;
    const isSaved = await this.#options.save({ cursor, lanes });
    if (isSaved) this.#savedCursor = cursor;
    return isSaved;
  }

  /** Counts and logs what became of the records. */
  #tell(steps: readonly Step[]): void {
    const { gateway, log, counts } = this.#options;
    const totals = new Map<string, { messages: number; repeats: number }>();
    for (const { entry, matter } of steps) {
      const { lane } = entry;
      const total = totals.get(lane) ?? { messages: 0, repeats: 0 };
      totals.set(lane, total);
      if (matter.kind === "message") total.messages += 1;
      else if (matter.kind === "repeat" && entry.id !== this.#partlyTaken) total.repeats += 1;
      else if (matter.kind === "gap") this.#tellGap(lane, matter.gap, matter.missing);
      else if (matter.kind === "expired") counts.addExpired(lane, 1);
    }
    for (const step of steps) {
      if (step.matter.kind !== "lost") continue;
      const { from } = step.matter;
      counts.addLost(step.entry.lane, step.last - from + 1);
      const about = { gateway, lane: step.entry.lane, from, to: step.last };
      log.error(about, "the landing lacks sequences");
    }
    for (const [lane, { messages, repeats }] of totals) {
      if (messages > 0) counts.addMessages(lane, messages);
      if (repeats > 0) counts.addRepeats(lane, repeats);
    }
  }

  #tellGap(lane: string, gap: GapRecord, missing: number): void {
    const { gateway, log, counts } = this.#options;
    const about = { gateway, lane, ...gap, missing };
    if (gap.reason === GAP_REASON_EXPIRED) {
      counts.addExpired(lane, missing);
      log.debug(about, "expired on the gateway");
    } else if (missing === 0) {
      log.debug(about, "numbers that no message has");
    } else {
      counts.addGap(lane, gap.reason, missing);
      log.warn(about, "gap record");
    }
  }

  /** Leaves it for a moment; after the last try it is a dead letter, and passed over from then on. */
  async #tryLater({ entry, sequence, bytes, fault }: Trouble): Promise<void> {
    const { log, counts, clock, bury } = this.#options;
    const { gateway, id, lane, epoch } = entry;
    const place = placeOf(entry, sequence);
    const tries = this.#failed.place === place ? this.#failed.tries + 1 : 1;
    this.#failed = { place, tries };
    counts.addFailure();
    const reason = reasonOf(fault);
    const about = { gateway, lane, id, sequence, reason, tries };
    if (tries < TRIES_MAX) {
      log.warn(about, "cannot be handed on: is tried again");
      this.#retryAtMs = clock() + backoffMs(tries - 1, RETRY_MS_LEAST, RETRY_MS_MOST);
      return;
    }
    await bury({ gateway, lane, epoch, id, sequence, reason, bytes });
    log.error(about, "dead letter");
    counts.addDeadLetter();
    this.#buried.add(place);
    const [oldest] = this.#buried;
    if (this.#buried.size > BURIED_MAX && oldest !== undefined) this.#buried.delete(oldest);
  }
}

/** A record's place in the landing, or an entry's. */
function placeOf({ id }: LandingEntry, sequence?: number): string {
  return sequence === undefined ? id : `${id}/${sequence}`;
}

/** The sequence that must come next; a lane that is new to us may begin anywhere. */
function expectedBehind(
  held: LanePosition | undefined,
  entry: LandingEntry,
  first: number,
): number {
  if (!held) return first;
  return held.epoch === entry.epoch ? held.seq + 1 : 1;
}

/** Of what a rewind reports as lost, the cluster may have taken a part before. */
function gapMatter(gap: GapRecord, expected: number): Matter {
  const missing = Math.min(gap.count, gap.to - Math.max(gap.from, expected) + 1);
  return { kind: "gap", gap, missing };
}

interface Failure {
  readonly step: Step;
  readonly fault: unknown;
}

/** Waits until all are settled; the first one, in their order, that failed. */
async function firstFailure(steps: readonly Step[]): Promise<Failure | undefined> {
  const pending = steps.filter(({ done }) => done !== undefined);
  const outcomes = await Promise.allSettled(pending.map(({ done }) => done));
  const index = outcomes.findIndex(({ status }) => status === "rejected");
  const [step, outcome] = [pending[index], outcomes[index]];
  return step && outcome?.status === "rejected" ? { step, fault: outcome.reason } : undefined;
}

function troubleOf({ step, fault }: Failure): Trouble {
  const { entry, last, message } = step;
  // A message's step ends with its own sequence.
  return { entry, sequence: last, bytes: message ? encodeMessage(message) : entry.frame, fault };
}

/** Says that a Redis is away or refuses us, and nothing of what was to be handed on. */
function isRedisFault(fault: unknown): boolean {
  if (!(fault instanceof SluiceError)) return false;
  return fault.code === "CLOUD_UNREACHABLE" || fault.code === "ACCESS_DENIED";
}

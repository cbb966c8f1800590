// flight: the frames that are under way on one connection, sent ahead of their answers.
// Path: outbox → [flight] → landing. Touches: the landing that it is given.

import { SluiceError } from "#contract/errors";
import { FRAME_LIMITS } from "#contract/frame";
import type { AppendAnswer, FullAnswer, PositionAnswer } from "#contract/landing";
import type { Agreement } from "./agreement.ts";
import type { Bell } from "./bell.ts";
import type { SendCounters } from "./counters.ts";
import { type CutFrame, cutFrame } from "./frame-cut.ts";
import { type SendLanding, type SendLane, writerOf } from "./send-lane.ts";
import type { TokenBucket } from "./token-bucket.ts";

export interface FlightOptions {
  readonly landing: SendLanding;
  /** The highest first. */
  readonly lanes: readonly SendLane[];
  readonly agreement: Agreement;
  /** undefined: as fast as the line goes. */
  readonly bucket: TokenBucket | undefined;
  /** Rings when an answer has come. */
  readonly bell: Bell;
  readonly clock: () => number;
  readonly count: SendCounters;
}

/**
 * What comes in quick succession shares a frame: each costs the gateway a write, an answer and a
 * change of its position. Who says something now and then is sent at once.
 */
const GATHER_MS = 10;

interface UnderWay {
  readonly lane: SendLane;
  readonly frame: CutFrame;
  readonly answer: Promise<AppendAnswer>;
  isAnswered: boolean;
}

/**
 * Each frame follows the last one sent of its lane. The landing answers in order, and takes none
 * that follows one which it did not take.
 */
export class Flight {
  readonly #options: FlightOptions;
  readonly #frames: UnderWay[] = [];
  /** The last frame of each lane, and when it went. */
  readonly #launched = new Map<SendLane, { readonly frame: CutFrame; readonly atMs: number }>();

  constructor(options: FlightOptions) {
    this.#options = options;
  }

  /** Frames that have no answer yet, or whose answer is not settled. */
  get count(): number {
    return this.#frames.length;
  }

  /**
   * Sends ahead until `framesMax` are under way or nothing is left that should go now; answers in
   * how many milliseconds more should go, or Infinity when that depends on what comes.
   */
  async send(framesMax: number): Promise<number> {
    while (this.#frames.length < framesMax) {
      const waitMs = this.#options.bucket?.waitMs || (await this.#sendNext());
      if (waitMs > 0) return waitMs;
    }
    return Number.POSITIVE_INFINITY;
  }

  /**
   * Moves the lanes by the answers that have come; resolves with the count of frames that were
   * taken. @throws SluiceError CLOUD_FULL, CLOUD_FENCED; what broke the connection.
   */
  async settle(): Promise<number> {
    for (let taken = 0; ; taken += 1) {
      const first = this.#frames[0];
      if (!first?.isAnswered) return taken;
      if (!isTaken(first, await first.answer)) {
        await this.#straighten();
        return taken;
      }
      this.#frames.shift();
      await this.#taken(first);
    }
  }

  /** Waits until nothing is under way. */
  async land(): Promise<void> {
    for (let first = this.#frames[0]; first; first = this.#frames[0]) {
      await first.answer;
      await this.settle();
    }
  }

  /**
   * One frame of the first lane that has any: a higher lane never waits for a lower one's backlog.
   * Answers 0, or in how many milliseconds there is one to send.
   */
  async #sendNext(): Promise<number> {
    const { bucket, lanes, clock } = this.#options;
    let dueMs = Number.POSITIVE_INFINITY;
    for (const lane of lanes) {
      const before = this.#frames.findLast((it) => it.lane === lane);
      const sent = before?.frame.run.lastSeq ?? lane.position;
      const waitMs = this.#gatheringMs(lane, lane.lastSeq - sent, before);
      dueMs = Math.min(dueMs, waitMs);
      if (waitMs > 0) continue;
      const run = await lane.readAfter(sent);
      if (!run) continue;
      const bytesMax = bucket?.frameBytesMax ?? Number.POSITIVE_INFINITY;
      this.#launch(lane, cutFrame(run, clock(), bytesMax));
      return 0;
    }
    return dueMs > 0 ? dueMs : Number.POSITIVE_INFINITY;
  }

  /**
   * For how long more what waits in a lane should gather: until the answer to the frame in front of
   * it has come, and a moment since the last one, unless it fills a frame by itself.
   */
  #gatheringMs(lane: SendLane, waiting: number, before: UnderWay | undefined): number {
    if (waiting <= 0) return Number.POSITIVE_INFINITY;
    const last = this.#launched.get(lane);
    if (!last || fillsFrame(waiting, last.frame)) return 0;
    if (before) return Number.POSITIVE_INFINITY;
    return Math.max(0, last.atMs + GATHER_MS - performance.now());
  }

  #launch(lane: SendLane, frame: CutFrame): void {
    const { landing, bell, bucket, clock } = this.#options;
    const { run, bytes } = frame;
    const answer = landing.append({
      ...{ lane: lane.name, epoch: lane.epoch, writer: writerOf(lane) },
      ...{ prev: run.firstSeq - 1, last: run.lastSeq, frame: bytes, sentMs: clock() },
    });
    bucket?.take(bytes.length);
    const underWay: UnderWay = { lane, frame, answer, isAnswered: false };
    const answered = () => {
      underWay.isAnswered = true;
      bell.ring();
    };
    answer.then(answered, answered);
    this.#frames.push(underWay);
    this.#launched.set(lane, { frame, atMs: performance.now() });
  }

  async #taken({ lane, frame }: UnderWay): Promise<void> {
    const { count } = this.#options;
    const labels = { lane: lane.name };
    count.frames(labels);
    count.messages(labels, frame.messages);
    if (frame.expired > 0) count.expired(labels, frame.expired);
    await lane.cloudHolds(frame.run);
  }

  /**
   * One was not simply taken: when all that is under way has been answered, each lane goes to where
   * its last answer says that the cloud is.
   */
  async #straighten(): Promise<void> {
    const { landing, agreement, count } = this.#options;
    const last = new Map<SendLane, PositionAnswer>();
    let full: FullAnswer | undefined;
    for (const it of this.#frames.splice(0)) {
      const answer = await it.answer;
      if (answer.status === "FULL") {
        full ??= answer;
        count.full({ lane: it.lane.name });
      } else if (!last.has(it.lane) && isTaken(it, answer)) await this.#taken(it);
      else last.set(it.lane, answer);
    }
    for (const [lane, answer] of last) await agreement.obey(landing, lane, answer);
    if (full) throw new SluiceError("CLOUD_FULL", full.why);
  }
}

function isTaken({ frame }: UnderWay, answer: AppendAnswer): boolean {
  return answer.status === "OK" && answer.seq === frame.run.lastSeq;
}

/** Would so many sequences fill a frame, by their count or if they are as large as those of `last`? */
function fillsFrame(waiting: number, { run }: CutFrame): boolean {
  const { firstSeq, lastSeq, bytes } = run;
  const expectedBytes = (waiting * bytes) / (lastSeq - firstSeq + 1);
  return waiting >= FRAME_LIMITS.recordsMax || expectedBytes >= FRAME_LIMITS.bytesMax;
}

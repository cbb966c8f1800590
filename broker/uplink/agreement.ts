// agreement: brings a lane and the cloud to one position, and settles who writes the lane.
// Path: outbox ⇄ [agreement] ⇄ landing. Touches: the landing that it is given.

import { SluiceError } from "#contract/errors";
import { encodeFrame } from "#contract/frame";
import type { PositionAnswer } from "#contract/landing";
import { encodeGap, GAP_REASON_FORGOTTEN } from "#contract/message";
import type { Log } from "#runtime/log";
import type { SendCounters } from "./counters.ts";
import { type SendLanding, type SendLane, writerOf } from "./send-lane.ts";

export interface AgreementOptions {
  readonly downCursor: () => string;
  readonly clock: () => number;
  readonly log: Log;
  readonly count: SendCounters;
}

/**
 * Of two boxes with copies of one disk, the landing lets one write an epoch: the one that took the
 * lane by a probe. The other one, as it starts, begins an epoch of its own, which fences the first;
 * it does so once, so that they cannot take the lane from each other for ever.
 */
export class Agreement {
  readonly #options: AgreementOptions;
  /** Lanes that the landing has given to this process. */
  readonly #held = new Set<string>();

  constructor(options: AgreementOptions) {
    this.#options = options;
  }

  /** Takes the lane, and brings it to where the cloud is. @throws SluiceError CLOUD_FENCED. */
  async probe(landing: SendLanding, lane: SendLane): Promise<void> {
    let answer = await this.#ask(landing, lane);
    if (isOtherWriter(lane, answer) && !this.#held.has(lane.name)) {
      await this.#beginEpoch(
        lane,
        answer,
        "another box wrote with a copy of this outbox, or its disk was restored",
      );
      answer = await this.#ask(landing, lane);
    }
    if (answer.status === "FENCED") throw fenced(lane, answer);
    this.#held.add(lane.name);
    await this.#follow(landing, lane, answer);
  }

  /** Brings the lane to where the answer to an append says that the cloud is. */
  async obey(landing: SendLanding, lane: SendLane, answer: PositionAnswer): Promise<void> {
    // The landing may only have gone back to when an earlier process of ours wrote: a probe tells.
    if (isOtherWriter(lane, answer)) return this.probe(landing, lane);
    if (answer.status === "FENCED") throw fenced(lane, answer);
    return this.#follow(landing, lane, answer);
  }

  #ask(landing: SendLanding, { name, epoch, writers }: SendLane): Promise<PositionAnswer> {
    return landing.probe({ lane: name, epoch, writers, downCursor: this.#options.downCursor() });
  }

  async #follow(landing: SendLanding, lane: SendLane, answer: PositionAnswer): Promise<void> {
    const { seq } = answer;
    if (seq === lane.position && seq >= lane.firstSeq - 1) return;
    if (seq > lane.lastSeq) {
      const why = "the cloud holds more than this outbox wrote: its disk went back in time";
      return this.#beginEpoch(lane, answer, why);
    }
    if (seq < lane.position) this.#rewound(lane, seq);
    if (seq >= lane.firstSeq - 1) return lane.moveTo(seq);
    return this.#reportLost(landing, lane, seq);
  }

  async #beginEpoch(lane: SendLane, answer: PositionAnswer, why: string): Promise<void> {
    const { name: laneName, epoch, lastSeq } = lane;
    await lane.beginEpoch(answer.epoch);
    this.#options.count.epochs({ lane: laneName });
    const about = { lane: laneName, epoch, cloud: answer.seq, lastSeq, newEpoch: lane.epoch };
    this.#options.log.warn(about, `${why}; a new epoch begins`);
  }

  #rewound(lane: SendLane, to: number): void {
    this.#options.count.rewinds({ lane: lane.name });
    this.#options.log.warn(
      { lane: lane.name, from: lane.position, to },
      "the cloud forgot what it held: rewinding into the tail",
    );
  }

  /** The cloud forgot more than the tail holds: a gap record takes the place of the rest. */
  async #reportLost(landing: SendLanding, lane: SendLane, held: number): Promise<void> {
    const [from, to] = [held + 1, lane.firstSeq - 1];
    const gap = { from, to, count: to - held, reason: GAP_REASON_FORGOTTEN };
    const answer = await landing.append({
      ...{ lane: lane.name, epoch: lane.epoch, writer: writerOf(lane) },
      ...{ prev: held, last: to, frame: encodeFrame(from, [encodeGap(gap)]) },
      sentMs: this.#options.clock(),
    });
    if (answer.status === "FULL") throw new SluiceError("CLOUD_FULL", answer.why);
    if (answer.status === "FENCED") throw fenced(lane, answer);
    this.#options.count.lost({ lane: lane.name }, gap.count);
    this.#options.log.error({ lane: lane.name, ...gap }, "lost beyond the tail");
    await lane.countDropped(gap.count);
    await lane.moveTo(to);
  }
}

/** Somebody who is none of the lane's writers has written the epoch that is ours. */
function isOtherWriter(lane: SendLane, { status, epoch }: PositionAnswer): boolean {
  return status === "FENCED" && epoch === lane.epoch;
}

function fenced(lane: SendLane, { epoch }: PositionAnswer): SluiceError {
  const why =
    epoch === lane.epoch
      ? `lane ${lane.name}: another box with a copy of this disk writes to the cloud (epoch ${epoch}): ` +
        "stop one of the two and give it another name and an empty data folder; " +
        "to let this one go on, restart it"
      : `lane ${lane.name}: epoch ${epoch} of this gateway writes to the cloud, ours is ${lane.epoch}: ` +
        "another box has this name, or a copy of this disk; give one of them another name " +
        "and an empty data folder";
  return new SluiceError("CLOUD_FENCED", why);
}

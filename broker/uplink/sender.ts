// sender: hands the outbox to the landing, frame by frame, and follows what the cloud holds.
// Path: outbox → [sender] → landing. Touches: the landing that it is given.

import { reasonOf, SluiceError } from "#contract/errors";
import { encodeFrame } from "#contract/frame";
import type { AppendAnswer, PositionAnswer } from "#contract/landing";
import { encodeGap, GAP_REASON_EXPIRED, isExpired, recordExpiresAtMs } from "#contract/message";
import type { UplinkStatus } from "#contract/status";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";

const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 30_000;
const STOP_REASON = "stopped on request";

/** A record with its place in the lane; `first` < `last` for a gap record alone. */
interface RunRecord {
  readonly first: number;
  readonly last: number;
  readonly record: Uint8Array;
}

interface Run {
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly bytes: number;
  readonly records: readonly RunRecord[];
}

/** What the sender needs of a lane of the outbox. */
export interface SendLane {
  readonly name: string;
  readonly epoch: number;
  readonly position: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
  onAppend(listener: () => void): void;
  readAfter(seq: number): Promise<Run | undefined>;
  cloudHolds(run: Run): Promise<void>;
  moveTo(seq: number): Promise<void>;
  beginEpoch(newerThan: number): Promise<void>;
  countDropped(count: number): Promise<void>;
}

/** What the sender needs of the landing. */
export interface SendLanding {
  probe(lane: string, epoch: number, downCursor: string): Promise<AppendAnswer>;
  append(
    lane: string,
    epoch: number,
    prev: number,
    last: number,
    frame: Uint8Array,
    sentMs: number,
  ): Promise<AppendAnswer>;
  leave(why: string): Promise<void>;
  close(): void;
}

export interface SenderOptions {
  readonly lanes: readonly SendLane[];
  readonly probeMs: number;
  readonly connect: (lost: (why: string) => void) => Promise<SendLanding>;
  readonly downCursor: () => string;
  /** The steady clock by which messages expire, in milliseconds. */
  readonly clock: () => number;
  readonly log: Log;
  readonly metrics: Metrics;
}

type Mode = UplinkStatus["state"];

/**
 * connecting → online ⇄ waiting (for a retry) → connecting; fenced and stopped are final.
 * Only #setMode writes the mode.
 */
export class Sender {
  readonly #options: SenderOptions;
  readonly #stop = new AbortController();
  readonly #count: ReturnType<typeof countersOf>;
  #mode: Mode = "connecting";
  #why = "";
  #sinceMs = Date.now();
  #wake: () => void = () => {};
  #lost: string | undefined;
  #attempt = 0;

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#count = countersOf(options.metrics);
    for (const lane of options.lanes) lane.onAppend(() => this.#wake());
    options.metrics.gauge("sluice_uplink_online", "1 while the uplink is online.", () =>
      Number(this.#mode === "online"),
    );
  }

  /** Runs until stop() or until a newer epoch fences this gateway off. */
  async run(): Promise<void> {
    while (!this.#stop.signal.aborted && this.#mode !== "fenced") {
      try {
        await this.#session();
      } catch (fault) {
        if (!(fault instanceof SluiceError)) throw fault;
        if (fault.code === "CLOUD_FENCED") this.#setMode("fenced", fault.message);
        else await this.#retryLater(reasonOf(fault));
      }
    }
  }

  stop(): void {
    this.#setMode("stopped", STOP_REASON);
    this.#stop.abort();
    this.#wake();
  }

  status(): Pick<UplinkStatus, "state" | "why" | "sinceMs" | "sentMessages" | "rewinds"> {
    return {
      state: this.#mode,
      why: this.#why,
      sinceMs: this.#sinceMs,
      sentMessages: this.#options.metrics.total("sluice_uplink_messages_total"),
      rewinds: this.#options.metrics.total("sluice_uplink_rewinds_total"),
    };
  }

  /** One connection, from its opening to its loss. */
  async #session(): Promise<void> {
    this.#setMode("connecting", this.#why);
    this.#lost = undefined;
    const landing = await this.#options.connect((why) => {
      this.#lost = why;
      this.#wake();
    });
    try {
      while (!this.#stop.signal.aborted) {
        await this.#probeAll(landing);
        this.#setMode("online", "");
        this.#attempt = 0;
        await this.#sendUntilProbe(landing);
      }
      await landing.leave(STOP_REASON);
    } finally {
      landing.close();
    }
  }

  async #probeAll(landing: SendLanding): Promise<void> {
    for (const lane of this.#options.lanes) {
      const answer = await landing.probe(lane.name, lane.epoch, this.#options.downCursor());
      await this.#obey(landing, lane, answer);
    }
  }

  /** Sends what there is, waits for more, returns when the next probe is due. */
  async #sendUntilProbe(landing: SendLanding): Promise<void> {
    const dueAtMs = performance.now() + this.#options.probeMs;
    while (!this.#stop.signal.aborted) {
      if (this.#lost !== undefined) throw new SluiceError("CLOUD_UNREACHABLE", this.#lost);
      const leftMs = dueAtMs - performance.now();
      if (leftMs <= 0) return;
      const woken = this.#nextWake(leftMs);
      if (!(await this.#sendOne(landing))) await woken;
    }
  }

  /** One frame of the first lane that has any: a higher lane never waits for a lower one's backlog. */
  async #sendOne(landing: SendLanding): Promise<boolean> {
    for (const lane of this.#options.lanes) {
      const run = await lane.readAfter(lane.position);
      if (!run) continue;
      const nowMs = this.#options.clock();
      const { records, expired } = withoutExpired(run, nowMs);
      const frame = encodeFrame(run.firstSeq, records);
      const prev = run.firstSeq - 1;
      const answer = await landing.append(lane.name, lane.epoch, prev, run.lastSeq, frame, nowMs);
      if (answer.status === "OK" && answer.seq === run.lastSeq) {
        await lane.cloudHolds(run);
        this.#count.frames({ lane: lane.name });
        this.#count.messages({ lane: lane.name }, records.length - expired);
        if (expired > 0) this.#count.expired({ lane: lane.name }, expired);
      } else {
        await this.#obey(landing, lane, answer);
      }
      return true;
    }
    return false;
  }

  /** Brings the lane to where the cloud says that it is. */
  async #obey(landing: SendLanding, lane: SendLane, answer: AppendAnswer): Promise<void> {
    if (answer.status === "FULL") throw new SluiceError("CLOUD_UNREACHABLE", answer.why);
    if (answer.status === "FENCED") throw fenced(lane, answer);
    if (answer.seq === lane.position && answer.seq >= lane.firstSeq - 1) return;
    if (answer.seq > lane.lastSeq) return this.#beginEpoch(lane, answer);
    if (answer.seq < lane.position) this.#rewound(lane, answer.seq);
    if (answer.seq >= lane.firstSeq - 1) return lane.moveTo(answer.seq);
    return this.#reportLost(landing, lane, answer.seq);
  }

  /** The cloud holds more than this outbox ever wrote: the gateway's disk went back in time. */
  async #beginEpoch(lane: SendLane, answer: PositionAnswer): Promise<void> {
    const { name: laneName, epoch, lastSeq } = lane;
    await lane.beginEpoch(answer.epoch);
    this.#options.log.warn(
      { lane: laneName, epoch, cloud: answer.seq, lastSeq, newEpoch: lane.epoch },
      "the cloud holds more than this outbox wrote: its disk went back in time, a new epoch begins",
    );
  }

  #rewound(lane: SendLane, to: number): void {
    this.#count.rewinds({ lane: lane.name });
    this.#options.log.warn(
      { lane: lane.name, from: lane.position, to },
      "the cloud forgot what it held: rewinding into the tail",
    );
  }

  /** The cloud forgot more than the tail holds: a gap record takes the place of the rest. */
  async #reportLost(landing: SendLanding, lane: SendLane, held: number): Promise<void> {
    const [from, to] = [held + 1, lane.firstSeq - 1];
    const gap = { from, to, count: to - held, reason: "the cloud forgot more than the tail holds" };
    const frame = encodeFrame(from, [encodeGap(gap)]);
    const nowMs = this.#options.clock();
    const answer = await landing.append(lane.name, lane.epoch, held, to, frame, nowMs);
    if (answer.status === "FENCED") throw fenced(lane, answer);
    this.#count.lost({ lane: lane.name }, gap.count);
    this.#options.log.error({ lane: lane.name, ...gap }, "lost beyond the tail");
    await lane.countDropped(gap.count);
    await lane.moveTo(to);
  }

  async #retryLater(why: string): Promise<void> {
    if (this.#stop.signal.aborted) return;
    const delayMs = backoffMs(this.#attempt++, RETRY_MS_LEAST, RETRY_MS_MOST);
    this.#setMode("waiting", why);
    await wait(delayMs, this.#stop.signal);
  }

  #nextWake(mostMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, mostMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #setMode(next: Mode, why: string): void {
    if (this.#mode === "stopped" || (this.#mode === next && this.#why === why)) return;
    // Retries of one failure are one change to an operator.
    const isNews =
      next === "online" || next === "fenced" || (next === "waiting" && why !== this.#why);
    if (isNews) this.#options.log.info({ from: this.#mode, to: next, why }, "uplink mode");
    this.#mode = next;
    this.#why = why;
    this.#sinceMs = Date.now();
  }
}

/**
 * The run's records with a gap record in place of each message that has expired, so that the frame
 * still covers its sequence; the lane keeps what it has.
 */
function withoutExpired(run: Run, nowMs: number): { records: Uint8Array[]; expired: number } {
  let expired = 0;
  const records = run.records.map(({ first, last, record }) => {
    if (!isExpired(recordExpiresAtMs(record), nowMs)) return record;
    expired += 1;
    return encodeGap({ from: first, to: last, count: 1, reason: GAP_REASON_EXPIRED });
  });
  return { records, expired };
}

function fenced(lane: SendLane, { epoch }: PositionAnswer): SluiceError {
  return new SluiceError(
    "CLOUD_FENCED",
    `lane ${lane.name}: epoch ${epoch} of this gateway writes to the cloud, ours is ${lane.epoch}: ` +
      "another box has this name, or a copy of this disk; give one of them another name",
  );
}

function countersOf(metrics: Metrics) {
  return {
    messages: metrics.counter("sluice_uplink_messages_total", "Messages that the cloud took."),
    frames: metrics.counter("sluice_uplink_frames_total", "Frames that the cloud took."),
    expired: metrics.counter(
      "sluice_uplink_expired_total",
      "Messages that expired before the cloud took them, as gap records.",
    ),
    rewinds: metrics.counter("sluice_uplink_rewinds_total", "Rewinds into the tail."),
    lost: metrics.counter(
      "sluice_uplink_lost_total",
      "Messages lost beyond the tail, as gap records.",
    ),
  };
}

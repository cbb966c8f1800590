// fake-landing: a landing in memory that answers when the test lets it, and fails when told to.
// Path: tests of the sender. Touches: nothing.

import { SluiceError } from "#contract/errors";
import { decodeFrame } from "#contract/frame";
import type { AppendAnswer, AppendRequest, PositionAnswer, ProbeRequest } from "#contract/landing";
import type { SendLanding } from "../../../broker/uplink/send-lane.ts";

interface Position {
  readonly epoch: number;
  readonly seq: number;
  readonly writer: string;
}

/** What a frame left in the stream. */
export interface Landed extends Position {
  readonly lane: string;
  readonly first: number;
}

/** What the landing holds: as the functions of its library, for one gateway. */
export class FakeLanding {
  readonly positions = new Map<string, Position>();
  readonly stream: Landed[] = [];
  /** Every append that has come, in order: `<lane> <first>..<last>`. */
  readonly asked: string[] = [];
  /** Frames that have come and have no answer yet. */
  readonly held: (() => void)[] = [];
  /** Appends wait for release() before they are carried out. */
  holds = false;
  /** The next appends fail so. */
  faults: ("lost before" | "lost after" | "full")[] = [];
  connections = 0;

  /** Carries out and answers the oldest append that is held. */
  release(): void {
    this.held.shift()?.();
  }

  connect(lost: (why: string) => void): SendLanding {
    this.connections += 1;
    let isOpen = true;
    const cut = () => {
      if (isOpen) lost("cut off");
      isOpen = false;
      return new SluiceError("CLOUD_UNREACHABLE", "cut off");
    };
    const open = () => {
      if (!isOpen) throw new SluiceError("CLOUD_UNREACHABLE", "cut off");
    };
    return {
      probe: async (request) => {
        await new Promise(setImmediate);
        open();
        return this.#probe(request);
      },
      append: async (request) => {
        this.asked.push(`${request.lane} ${request.prev + 1}..${request.last}`);
        if (this.holds) await new Promise<void>((resolve) => this.held.push(resolve));
        else await new Promise(setImmediate);
        open();
        const fault = this.faults.shift();
        if (fault === "lost before") throw cut();
        if (fault === "full") return { status: "FULL", why: "no room" };
        const answer = this.#append(request);
        if (fault === "lost after") throw cut();
        return answer;
      },
      leave: async () => {},
      close: () => {
        isOpen = false;
      },
    };
  }

  #probe({ lane, epoch, writers }: ProbeRequest): PositionAnswer {
    const at = this.#at(lane);
    const isOther = at.epoch === epoch && at.writer !== "" && !writers.includes(at.writer);
    if (epoch < at.epoch || isOther) return { status: "FENCED", epoch: at.epoch, seq: at.seq };
    const seq = epoch > at.epoch ? 0 : at.seq;
    this.positions.set(lane, { epoch, seq, writer: writers[0] ?? "" });
    return { status: "OK", epoch, seq };
  }

  #append({ lane, epoch, prev, last, frame, writer }: AppendRequest): AppendAnswer {
    const at = this.#at(lane);
    const isOther = at.epoch === epoch && at.writer !== "" && at.writer !== writer;
    if (epoch < at.epoch || isOther) return { status: "FENCED", epoch: at.epoch, seq: at.seq };
    const stored = epoch > at.epoch ? 0 : at.seq;
    if (last <= stored) return { status: "DUP", epoch, seq: stored };
    if (prev !== stored) return { status: "GAP", epoch, seq: stored };
    for (const { first, last: seq } of decodeFrame(frame)) {
      this.stream.push({ lane, epoch, first, seq, writer });
    }
    this.positions.set(lane, { epoch, seq: last, writer });
    return { status: "OK", epoch, seq: last };
  }

  #at(lane: string): Position {
    return this.positions.get(lane) ?? { epoch: 0, seq: 0, writer: "" };
  }
}

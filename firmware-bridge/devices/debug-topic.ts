// debug-topic: frames that a link's driver did not understand, shown on a topic, so many a second.
// Path: link-host → [debug-topic] → own-client. Touches: nothing; the time is passed in.

const BYTES_MAX = 256;
const SECOND_MS = 1_000;

export interface DebugTopicOptions {
  readonly link: string;
  readonly framesPerSecondMax: number;
  /** QoS 0, not retained; false when there is no connection. */
  readonly shout: (topic: string, payload: Buffer) => boolean;
}

export class DebugTopic {
  readonly #options: DebugTopicOptions;
  readonly #topic: string;
  #secondSinceMs = Number.NEGATIVE_INFINITY;
  #inSecond = 0;
  #dropped = 0;

  constructor(options: DebugTopicOptions) {
    this.#options = options;
    this.#topic = `serial/${options.link}/debug`;
  }

  /** `nowMs` is of a clock that never goes back. */
  show(reason: string, frame: Uint8Array | undefined, nowMs: number): void {
    const { framesPerSecondMax, shout } = this.#options;
    if (framesPerSecondMax === 0) return;
    if (nowMs - this.#secondSinceMs >= SECOND_MS) {
      this.#secondSinceMs = nowMs;
      this.#inSecond = 0;
    }
    this.#inSecond += 1;
    if (this.#inSecond > framesPerSecondMax || !shout(this.#topic, this.#payload(reason, frame))) {
      this.#dropped += 1;
    } else this.#dropped = 0;
  }

  #payload(reason: string, frame: Uint8Array | undefined): Buffer {
    const shown = frame && Buffer.from(frame.subarray(0, BYTES_MAX)).toString("hex");
    const text = JSON.stringify({
      at: new Date().toISOString(),
      reason,
      ...(shown !== undefined && { bytes: shown }),
      ...(frame && frame.length > BYTES_MAX && { length: frame.length }),
      ...(this.#dropped > 0 && { dropped: this.#dropped }),
    });
    return Buffer.from(text);
  }
}

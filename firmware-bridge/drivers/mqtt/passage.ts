// passage: one connection to the broker for one CONNECT of the device.
// Path: mqtt → [passage] → broker, and back to the link. Touches: the network, by the broker's door.

import type { Duplex } from "node:stream";
import { reasonOf } from "#contract/errors";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { BrokerDoor, Link } from "../../driver.ts";

const PASSAGE_LIMITS = {
  /** Sent by the device before the broker has answered its CONNECT; beyond, the link waits. */
  earlyBytesMax: 16_384,
  /** Given to the link at once: what a device that connects anew may still get of what was before. */
  writeBytesMax: 1_024,
  retryMsLeast: 250,
  retryMsMost: 2_000,
  /** For the broker to take what the device had said before it left. */
  leaveMsMax: 1_000,
  /** A broker that takes nothing for so long is as good as gone. */
  stalledMsMax: 8_000,
} as const;

export interface PassageOptions {
  readonly door: BrokerDoor;
  /** The packet that begins it. */
  readonly connect: Uint8Array;
  /** For the broker's first byte in answer, retries included. */
  readonly connectMsMax: number;
  readonly link: Pick<Link, "write">;
  readonly log: Log;
  /** The link does not take what the broker says. */
  readonly onLinkFault: (fault: unknown) => void;
}

/**
 * trying → open → closed, trying → closed. While trying, nobody has answered the CONNECT yet: a
 * broker that cannot be reached is tried again. closed is final: there is no way to tell the device.
 */
export class Passage {
  readonly #options: PassageOptions;
  readonly #closing = new AbortController();
  readonly #answered = Promise.withResolvers<void>();
  readonly #ended: Promise<void>;
  readonly #early: Uint8Array[] = [];
  #earlyBytes = 0;
  #mode: "trying" | "open" | "closed" = "trying";
  #stream: Duplex | undefined;

  constructor(options: PassageOptions) {
    this.#options = options;
    this.#ended = this.#run();
  }

  get isOpen(): boolean {
    return this.#mode !== "closed";
  }

  /** Takes what the device said; what it returns resolves when there is room for more. */
  send(bytes: Uint8Array): Promise<void> | undefined {
    if (this.#mode === "closed") return undefined;
    if (this.#mode === "open") return this.#write(bytes);
    this.#early.push(bytes);
    this.#earlyBytes += bytes.length;
    return this.#earlyBytes < PASSAGE_LIMITS.earlyBytesMax ? undefined : this.#answered.promise;
  }

  /**
   * Ends the connection as a network that fails does, without a DISCONNECT of ours: a will is then
   * published [MQTT-3.1.2-8]. What the device had said before still goes to the broker.
   */
  async leave(): Promise<void> {
    const wasTrying = this.#mode === "trying";
    this.#close("the device left");
    if (wasTrying) this.#stream?.destroy();
    else this.#stream?.end();
    await within(PASSAGE_LIMITS.leaveMsMax, this.#ended);
    this.#stream?.destroy();
  }

  async #run(): Promise<void> {
    const late = setTimeout(() => this.#giveUp(), this.#options.connectMsMax);
    void this.#answered.promise.then(() => clearTimeout(late));
    for (let attempt = 0; this.#mode === "trying"; attempt += 1) {
      const why = await this.#once();
      if (this.#mode !== "trying") break;
      this.#options.log.debug({ why, attempt }, "broker not reached");
      const { retryMsLeast, retryMsMost } = PASSAGE_LIMITS;
      await wait(backoffMs(attempt, retryMsLeast, retryMsMost), this.#closing.signal);
    }
  }

  /** One connection from its beginning to its end; resolves with why it ended. */
  async #once(): Promise<string> {
    const stream = this.#options.door.open();
    this.#stream = stream;
    // Told by the iterator below; without a listener the last one, after its end, would be thrown.
    stream.on("error", () => {});
    stream.write(this.#options.connect);
    try {
      for await (const bytes of stream) await this.#toDevice(bytes);
      // A broker that closes without a word does not want this CONNECT [MQTT-3.1.4-1].
      this.#close("the broker closed the connection");
    } catch (fault) {
      if (this.#mode === "open") this.#close(reasonOf(fault));
      return reasonOf(fault);
    }
    return "";
  }

  async #toDevice(bytes: Uint8Array): Promise<void> {
    if (this.#mode === "trying") this.#open();
    for (let at = 0; at < bytes.length && this.#mode === "open"; ) {
      const end = at + PASSAGE_LIMITS.writeBytesMax;
      await this.#options.link.write(bytes.subarray(at, end)).catch((fault: unknown) => {
        if (this.#mode === "open") this.#options.onLinkFault(fault);
        this.#close(reasonOf(fault));
      });
      at = end;
    }
  }

  #open(): void {
    this.#mode = "open";
    for (const bytes of this.#early.splice(0)) this.#stream?.write(bytes);
    this.#answered.resolve();
    this.#options.log.info("device at the broker");
  }

  async #write(bytes: Uint8Array): Promise<void> {
    const stream = this.#stream;
    // What comes after the broker's end is discarded.
    if (!stream || stream.destroyed || stream.writableEnded || stream.write(bytes)) return;
    await within(PASSAGE_LIMITS.stalledMsMax, drained(stream));
    if (stream.destroyed || !stream.writableNeedDrain) return;
    this.#close(`the broker takes nothing for ${PASSAGE_LIMITS.stalledMsMax} ms`);
    stream.destroy();
  }

  #giveUp(): void {
    this.#close(`no answer from the broker within ${this.#options.connectMsMax} ms`);
    this.#stream?.destroy();
  }

  #close(why: string): void {
    if (this.#mode === "closed") return;
    this.#mode = "closed";
    this.#early.length = 0;
    this.#closing.abort();
    this.#answered.resolve();
    this.#options.log.info({ why }, "device not at the broker");
  }
}

/** Resolves when the stream takes more, or never will. */
function drained(stream: Duplex): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off("drain", done);
      stream.off("close", done);
      resolve();
    };
    stream.on("drain", done);
    stream.on("close", done);
  });
}

async function within(ms: number, promise: Promise<void>): Promise<void> {
  const done = new AbortController();
  await Promise.race([promise, wait(ms, done.signal)]);
  done.abort();
}

// downlink: carries out the cloud's commands on the gateway, in order, from a stored cursor.
// Path: landing → [downlink] → mqtt. Touches: the landing and the cursor that it is given.

import { reasonOf, SluiceError } from "#contract/errors";
import { decodeRecord, isExpired, type Message, moveExpiry } from "#contract/message";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { Addresses } from "./addresses.ts";

const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 30_000;

/** Where the cursor is kept over restarts. */
export interface CursorStore {
  read(): Promise<string | undefined>;
  /** Resolves when the cursor is synced. */
  write(cursor: string): Promise<void>;
}

export interface DownLanding {
  readCommands(cursor: string): Promise<{ cursor: string; record: Uint8Array }[]>;
  /** The clock by which commands expire, in milliseconds. */
  nowMs(): Promise<number>;
  close(): void;
}

export interface DownlinkOptions {
  /** Where the landing may be reached; tried in turn. */
  readonly urls: readonly string[];
  readonly connect: (url: string) => Promise<DownLanding>;
  readonly cursor: CursorStore;
  /** Publishes a command on its local topic; resolves when every local session has it. */
  readonly deliver: (message: Message) => Promise<void>;
  /** The steady clock by which the gateway's own messages expire, in milliseconds. */
  readonly clock: () => number;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Reads the stream of commands behind the cursor for as long as the gateway runs. */
export class Downlink {
  readonly #options: DownlinkOptions;
  readonly #stop = new AbortController();
  readonly #count: (labels?: Record<string, string>) => void;
  #cursor = "0-0";
  #landing: DownLanding | undefined;

  constructor(options: DownlinkOptions) {
    this.#options = options;
    this.#count = options.metrics.counter(
      "sluice_downlink_commands_total",
      "Commands from the cloud, by what became of them.",
    );
  }

  /** The last command that was carried out; the sender reports it to the cloud. */
  get cursor(): string {
    return this.#cursor;
  }

  async run(): Promise<void> {
    this.#cursor = (await this.#options.cursor.read()) ?? "0-0";
    const addresses = new Addresses(this.#options.urls);
    let attempt = 0;
    while (!this.#stop.signal.aborted) {
      try {
        this.#landing = await this.#options.connect(addresses.url);
        while (!this.#stop.signal.aborted) {
          await this.#readOnce(this.#landing);
          addresses.served();
          attempt = 0;
        }
      } catch (fault) {
        if (!(fault instanceof SluiceError)) throw fault;
        // The sender meets the same landing and tells the operator why; here a retry is enough.
        this.#options.log.debug({ why: reasonOf(fault) }, "downlink waits");
        const delayMs = backoffMs(attempt, RETRY_MS_LEAST, RETRY_MS_MOST);
        if (addresses.failed()) attempt += 1;
        await wait(delayMs, this.#stop.signal);
      } finally {
        this.#landing?.close();
      }
    }
  }

  stop(): void {
    this.#stop.abort();
    this.#landing?.close();
  }

  async #readOnce(landing: DownLanding): Promise<void> {
    let aheadMs: number | undefined;
    for (const { cursor, record } of await landing.readCommands(this.#cursor)) {
      let message = this.#messageOf(cursor, record);
      if (message?.expiresAtMs !== undefined) {
        // Steady clocks go alike, so that one look at the cloud's serves all commands that were read.
        aheadMs ??= await this.#aheadOf(landing);
        message = moveExpiry(message, aheadMs);
      }
      this.#count({ result: await this.#carryOut(message) });
      await this.#options.cursor.write(cursor);
      this.#cursor = cursor;
    }
  }

  /** How far our clock is ahead of the landing's, in milliseconds. */
  async #aheadOf(landing: DownLanding): Promise<number> {
    const landingMs = await landing.nowMs();
    return this.#options.clock() - landingMs;
  }

  async #carryOut(message: Message | undefined): Promise<"done" | "expired" | "invalid"> {
    if (!message) return "invalid";
    if (isExpired(message.expiresAtMs, this.#options.clock())) return "expired";
    await this.#options.deliver(message);
    return "done";
  }

  #messageOf(cursor: string, record: Uint8Array): Message | undefined {
    try {
      const decoded = decodeRecord(record);
      if (decoded.kind === "message") return decoded.message;
    } catch (fault) {
      this.#options.log.error(
        { cursor, why: reasonOf(fault) },
        "a command cannot be read: skipped",
      );
    }
    return undefined;
  }
}

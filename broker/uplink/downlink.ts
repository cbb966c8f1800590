// downlink: carries out the cloud's commands on the gateway, in order, from a stored cursor.
// Path: landing → [downlink] → mqtt. Touches: the landing and the cursor that it is given.

import { reasonOf, SluiceError } from "#contract/errors";
import { type Message, moveExpiry } from "#contract/message";
import { backoffMs, wait } from "#runtime/backoff";
import type { Log } from "#runtime/log";
import type { Metrics } from "#runtime/metrics";
import { Addresses } from "./addresses.ts";
import { answerTo, type Command, type Refused, readCommand, unlessExpired } from "./command.ts";

const RETRY_MS_LEAST = 100;
const RETRY_MS_MOST = 30_000;

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
  /** The id of the last command that was done with, as it is stored. */
  readonly cursor: () => Promise<string | undefined>;
  /**
   * Publishes a command on its local topic; resolves when what lasts of it is stored together with
   * its id, and every local session has it.
   */
  readonly deliver: (message: Message, id: string) => Promise<void>;
  /** Takes an answer for the cloud into custody, stored together with the command's id. */
  readonly answer: (message: Message, id: string) => Promise<void>;
  /** The steady clock by which the gateway's own messages expire, in milliseconds. */
  readonly clock: () => number;
  readonly log: Log;
  readonly metrics: Metrics;
}

/**
 * Reads the stream of commands behind the cursor for as long as the gateway runs. The cursor lies in
 * the same batch as what a command brings about, so that neither a crash nor a failure of the disk
 * between the two carries a command out twice, or never.
 */
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

  /** The last command that was done with; the sender reports it to the cloud. */
  get cursor(): string {
    return this.#cursor;
  }

  async run(): Promise<void> {
    const addresses = new Addresses(this.#options.urls);
    let attempt = 0;
    while (!this.#stop.signal.aborted) {
      try {
        // What failed in the end may be stored all the same.
        this.#cursor = (await this.#options.cursor()) ?? "0-0";
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
    for (const { cursor: id, record } of await landing.readCommands(this.#cursor)) {
      let command = readCommand(id, record);
      if ("message" in command && command.message.expiresAtMs !== undefined) {
        // Steady clocks go alike, so that one look at the cloud's serves all commands that were read.
        aheadMs ??= await this.#aheadOf(landing);
        const message = moveExpiry(command.message, aheadMs);
        command = unlessExpired({ ...command, message }, this.#options.clock());
      }
      this.#count({ result: await this.#carryOut(id, command) });
      this.#cursor = id;
    }
  }

  /** How far our clock is ahead of the landing's, in milliseconds. */
  async #aheadOf(landing: DownLanding): Promise<number> {
    const landingMs = await landing.nowMs();
    return this.#options.clock() - landingMs;
  }

  async #carryOut(id: string, command: Command | Refused): Promise<"done" | Refused["result"]> {
    if ("message" in command) {
      await this.#options.deliver(command.message, id);
      return "done";
    }
    const { result, reason, topic } = command;
    this.#options.log.warn({ id, topic, result, reason }, "a command is not carried out");
    await this.#options.answer(answerTo(id, command, new Date()), id);
    return result;
  }
}

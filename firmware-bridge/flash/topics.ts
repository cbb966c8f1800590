// topics: flashing by MQTT: the verb, where the settings allow it, and how each flash goes.
// Path: broker → [topics] → flasher, and back. Touches: the client and the folder it is given.

import * as v from "valibot";
import { reasonOf, SluiceError } from "#contract/errors";
import { type FlashEvent, isFinal } from "#contract/flash";
import type { Log } from "#runtime/log";
import type { Flasher, Image } from "./flasher.ts";

/** What the bridge's own client of the broker gives a handler. */
export interface FlashCommand {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain: boolean;
  /** Came before, it may be: on a connection that broke. */
  readonly dup: boolean;
  readonly responseTopic?: string | undefined;
  readonly correlationData?: Uint8Array | undefined;
}

/** The bridge's own client of the broker. */
export interface FlashClient {
  /** Hands each message on FLASH_COMMANDS to `handler`; it is acknowledged when that returns. */
  listen(handler: (command: FlashCommand) => void): void;
  publish(message: {
    readonly topic: string;
    readonly payload: Uint8Array;
    /** QoS 1; otherwise QoS 0, and lost when the broker is away. */
    readonly isLasting: boolean;
    readonly retain: boolean;
    readonly correlationData?: Uint8Array | undefined;
  }): void;
}

export interface FlashTopicsOptions {
  readonly client: FlashClient;
  readonly log: Log;
  readonly nowMs?: () => number;
}

const FLASH_COMMAND = /^sluice\/flash\/([A-Za-z0-9._-]{1,63})\/set$/;
/** An answer there could be a command, given with the rights of the bridge. */
const COMMANDS_LIE_BELOW = /^(?:serial|sluice)\//;
const PROGRESS_MS_LEAST = 1_000;
const PAYLOAD_BYTES_MAX = 1_024;

const Wanted = v.object({
  file: v.string(),
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/i)),
});
type WantedImage = v.InferOutput<typeof Wanted>;

/** Tells on `sluice/flash/<link>` how each flash goes, whoever asked for it. */
export class FlashTopics {
  readonly #client: FlashClient;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #toldAtMs = new Map<string, number>();
  /** Links for which a command is under way: each has an image in memory. */
  readonly #busy = new Set<string>();

  constructor({ client, log, nowMs = () => performance.now() }: FlashTopicsOptions) {
    this.#client = client;
    this.#log = log;
    this.#nowMs = nowMs;
  }

  /** Progress at most once a second; only what a device became by it, done or failed, is retained. */
  tell(event: FlashEvent): void {
    const { link, state } = event;
    if (state === "progress" && this.#nowMs() - this.#lastMs(link) < PROGRESS_MS_LEAST) return;
    this.#toldAtMs.set(link, this.#nowMs());
    const retain = state === "done" || state === "failed";
    const topic = `sluice/flash/${link}`;
    const isLasting = state !== "progress";
    this.#client.publish({ topic, payload: payloadOf(event), isLasting, retain });
  }

  /** Takes commands from now on; `read` finds the image that one names. */
  listen(flasher: Flasher, read: (wanted: WantedImage) => Promise<Image>): void {
    this.#client.listen((command) => {
      const [, link] = FLASH_COMMAND.exec(command.topic) ?? [];
      if (link) void this.#carryOut(link, command, { flasher, read });
    });
  }

  async #carryOut(
    link: string,
    command: FlashCommand,
    to: { flasher: Flasher; read: (wanted: WantedImage) => Promise<Image> },
  ): Promise<void> {
    const answer = (event: FlashEvent) => this.#answer(command, event);
    try {
      const wanted = wantedBy(command);
      to.flasher.assertFree(link);
      if (this.#busy.has(link))
        throw refused(`link ${link} has a command already; wait for its end`);
      this.#busy.add(link);
      await to
        .read(wanted)
        .then((image) => to.flasher.flash(link, image, answer))
        .finally(() => this.#busy.delete(link));
    } catch (fault) {
      if (!(fault instanceof SluiceError)) this.#log.error({ link, err: fault }, "flash failed");
      else this.#log.warn({ link, why: fault.message }, "flash refused");
      const event: FlashEvent = { state: "refused", link, reason: reasonOf(fault) };
      // Names that are none of ours come without end.
      if (to.flasher.knows(link)) this.tell(event);
      answer(event);
    }
  }

  /** To who asked, as MQTT 5.0 §4.10 has it: accepted, and the end. */
  #answer({ responseTopic, correlationData }: FlashCommand, event: FlashEvent): void {
    if (responseTopic === undefined || !(event.state === "accepted" || isFinal(event))) return;
    if (COMMANDS_LIE_BELOW.test(responseTopic)) {
      this.#log.warn({ responseTopic, link: event.link }, "response topic not answered");
      return;
    }
    const payload = payloadOf(event);
    this.#client.publish({
      topic: responseTopic,
      payload,
      isLasting: true,
      retain: false,
      correlationData,
    });
  }

  #lastMs(link: string): number {
    return this.#toldAtMs.get(link) ?? Number.NEGATIVE_INFINITY;
  }
}

/** @throws SluiceError FLASH_REFUSED when the command cannot be taken as one given now, once. */
function wantedBy({ payload, retain, dup }: FlashCommand): WantedImage {
  if (retain) throw refused("a retained command is not carried out: it would be again and again");
  if (dup) throw refused("the command came twice, and may have been carried out: give it again");
  const result = v.safeParse(Wanted, parsed(payload));
  if (result.success) return result.output;
  throw refused('allowed: {"file": "<name>", "sha256": "<64 digits>"}');
}

function parsed(payload: Uint8Array): unknown {
  if (payload.length > PAYLOAD_BYTES_MAX) return undefined;
  try {
    return JSON.parse(Buffer.from(payload).toString("utf8"));
  } catch {
    return undefined;
  }
}

function payloadOf(event: FlashEvent): Uint8Array {
  return Buffer.from(JSON.stringify(event));
}

function refused(message: string): SluiceError {
  return new SluiceError("FLASH_REFUSED", message);
}

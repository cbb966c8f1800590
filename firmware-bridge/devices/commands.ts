// commands: carries out what the broker has for one device: one at a time, each once, each answered.
// Path: connection → [commands] → driver; results → outgoing. Touches: the journal that it is given.
//
// A command is acknowledged only when its result is at the broker: until then it waits there, and
// comes again when the connection breaks or the bridge ends. The broker sends one at a time (Receive
// Maximum 1). By QoS 1 and 2 alike a repeat is known by DUP, its packet identifier and what it says,
// from memory while the process lives and from the journal after it was killed.

import type { IPublishPacket } from "mqtt-packet";
import { reasonOf, SluiceError } from "#contract/errors";
import type { Log } from "#runtime/log";
import type { CarryOut, Outcome } from "../driver.ts";
import type { CommandJournal } from "./command-journal.ts";
import type { Publication } from "./outgoing.ts";
import {
  type Progress,
  type ReceivedCommand,
  receivedCommand,
  resultsOf,
} from "./received-command.ts";

/** Commands of QoS 0, which wait nowhere else. */
const WAITING_MAX = 16;
/** Whoever gives commands that fail must not fill the log; the others are told at level debug. */
const WARN_MS_LEAST = 1_000;
const LOGGED_CHARACTERS_MAX = 128;
const UNKNOWN: Outcome = {
  state: "failed",
  reason: "was under way when the bridge ended; whether the device got it is not known",
};

export interface CommandsOptions {
  readonly device: string;
  /** As `serial/<device>/`. */
  readonly base: string;
  readonly journal: CommandJournal;
  readonly log: Log;
  /** undefined: not known yet whether the link is there. */
  readonly target: () => CarryOut | { readonly offline: string } | undefined;
  readonly say: (publication: Publication) => void;
  readonly acknowledge: (cmd: "puback" | "pubrec", packetId: number) => void;
}

export interface CommandCounts {
  accepted: number;
  done: number;
  failed: number;
}

export class Commands {
  readonly #options: CommandsOptions;
  readonly counts: CommandCounts = { accepted: 0, done: 0, failed: 0 };
  #waiting: ReceivedCommand[] = [];
  #current: ReceivedCommand | undefined;
  /** Has it come on the connection that is up, so that it can be acknowledged there? */
  #currentIsHere = false;
  #lastKey: string | undefined;
  /** What the broker forgot comes no more, and its identifiers are another's. */
  #currentIsForgotten = false;
  #isWorking = false;
  #onIdle: (() => void) | undefined;
  #isCrowded = false;
  /** When each kind of warning was last in the log. */
  readonly #warnedAtMs = new Map<string, number>();

  constructor(options: CommandsOptions) {
    this.#options = options;
  }

  /** What was not begun comes again; `sessionPresent`: the broker knows what it has sent. */
  connected(sessionPresent: boolean): void {
    this.#waiting = this.#waiting.filter(({ key }) => key === undefined);
    this.#currentIsHere = false;
    if (sessionPresent) return;
    this.#currentIsForgotten = true;
    this.#lastKey = undefined;
    void this.#options.journal.forget(this.#options.device);
  }

  receive(packet: IPublishPacket): void {
    const command = receivedCommand(packet, this.#options.base);
    const { key, isRepeat } = command;
    if (isRepeat && key !== undefined && this.#isKnown(command, key)) return;
    // The same identifier anew: the command that had it is over, and its repeats would be this one's.
    if (!isRepeat && key !== undefined) this.#forget(key);
    // The others are one at a time, and nothing follows one that has no answer.
    if (key === undefined && this.#waiting.length >= WAITING_MAX) {
      this.#turnAway(command);
      return;
    }
    this.#waiting.push(command);
    this.work();
  }

  /** Goes on, if it can: the link's state is known, or another command has come. */
  work(): void {
    if (!this.#isWorking) void this.#work();
  }

  /** Resolves when none is under way. */
  async idle(): Promise<void> {
    if (!this.#isWorking) return;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
  }

  #isKnown(command: ReceivedCommand, key: string): boolean {
    if (!this.#currentIsForgotten && this.#current?.key === key) {
      this.#currentIsHere = true;
      return true;
    }
    if (this.#lastKey !== key) return false;
    this.#acknowledge(command);
    return true;
  }

  #forget(key: string): void {
    if (this.#lastKey === key) this.#lastKey = undefined;
    void this.#options.journal.forget(this.#options.device, key);
  }

  async #work(): Promise<void> {
    this.#isWorking = true;
    for (let target = this.#options.target(); target; target = this.#options.target()) {
      const command = this.#waiting.shift();
      if (!command) break;
      this.#current = command;
      this.#currentIsHere = true;
      this.#currentIsForgotten = false;
      const outcome = await this.#outcomeOf(command, target);
      await this.#tell(command, outcome);
      this.#finish(command, outcome);
    }
    this.#isWorking = false;
    this.#isCrowded = false;
    this.#onIdle?.();
  }

  /** Without a result: those would be as many. */
  #turnAway({ name }: ReceivedCommand): void {
    this.counts.failed += 1;
    const command = name.slice(0, LOGGED_CHARACTERS_MAX);
    const fields = { command, why: `${WAITING_MAX} commands wait already` };
    if (this.#isCrowded) this.#options.log.debug(fields, "command dropped");
    else this.#options.log.warn(fields, "command dropped");
    this.#isCrowded = true;
  }

  #finish(command: ReceivedCommand, outcome: Outcome): void {
    const { journal, device } = this.#options;
    this.#current = undefined;
    if (command.key === undefined || this.#currentIsForgotten) return;
    journal.finish(device, command.key, outcome);
    this.#lastKey = command.key;
    if (this.#currentIsHere) this.#acknowledge(command);
  }

  async #outcomeOf(
    command: ReceivedCommand,
    target: CarryOut | { readonly offline: string },
  ): Promise<Outcome> {
    const { journal, device } = this.#options;
    // It would be carried out again at each connection.
    if (command.isRetained) return failed("a command must not be retained");
    if (command.isRepeat) {
      const before = command.key && (await journal.find(device, command.key));
      if (before) return before.outcome ?? UNKNOWN;
    }
    if (typeof target !== "function") return failed(target.offline);
    try {
      if (command.key !== undefined) await journal.begin(device, command.key);
      void this.#tell(command, { state: "accepted" });
      return await target(command);
    } catch (fault) {
      if (!(fault instanceof SluiceError)) throw fault;
      return failed(reasonOf(fault));
    }
  }

  /** Resolves when the broker has it, or will never take it. */
  async #tell(command: ReceivedCommand, progress: Progress): Promise<void> {
    const { base, say } = this.#options;
    this.counts[progress.state] += 1;
    this.#log(command, progress);
    const told = resultsOf(command, progress, base).map(
      (publication) =>
        new Promise<void>((settled) => {
          say({ ...publication, settled });
        }),
    );
    await Promise.all(told);
  }

  #acknowledge({ qos, packetId }: ReceivedCommand): void {
    if (qos > 0) this.#options.acknowledge(qos === 1 ? "puback" : "pubrec", packetId);
  }

  #log({ name, id, responseFault }: ReceivedCommand, progress: Progress): void {
    const { log } = this.#options;
    const command = name.slice(0, LOGGED_CHARACTERS_MAX);
    const fields = { command, ...(id !== undefined && { id }) };
    if (progress.state === "failed") {
      this.#warn({ ...fields, why: progress.reason }, "command failed");
    } else log.debug(fields, `command ${progress.state}`);
    if (responseFault !== undefined && progress.state !== "accepted") {
      this.#warn({ ...fields, why: responseFault }, "response topic not answered");
    }
  }

  /** Each kind by itself. */
  #warn(fields: Readonly<Record<string, string>>, message: string): void {
    const { log } = this.#options;
    const nowMs = performance.now();
    const isSoon =
      nowMs - (this.#warnedAtMs.get(message) ?? Number.NEGATIVE_INFINITY) < WARN_MS_LEAST;
    if (isSoon) {
      log.debug(fields, message);
      return;
    }
    this.#warnedAtMs.set(message, nowMs);
    log.warn(fields, message);
  }
}

function failed(reason: string): Outcome {
  return { state: "failed", reason };
}

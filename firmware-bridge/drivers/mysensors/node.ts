// node: one node of the radio network: its device, its last values, and commands to it.
// Path: network → [node] → device, and back. Touches: the clock, by sleep.ts.

import { wait } from "#runtime/backoff";
import type { Command, Device, Outcome } from "../../driver.ts";
import type { SensorMessage } from "./codec.ts";
import { messageOf } from "./commands.ts";
import { Sleep } from "./sleep.ts";
import { COMMAND } from "./types.ts";

/** Values of one node that are kept to answer its questions; beyond, the oldest is forgotten. */
const VALUES_MAX = 512;
const LINK_GONE = "the link is gone";

export interface CommandLimits {
  /** For the message to come back. */
  readonly ackMsMax: number;
  readonly triesMax: number;
  /** For a sleeping node to wake. */
  readonly sleepMsMax: number;
}

/** The way to the gateway while the link is up. */
export interface Line {
  send(message: SensorMessage): Promise<void>;
  /** Aborts when the link is gone. */
  readonly ended: AbortSignal;
}

export class Node {
  readonly id: number;
  readonly device: Device;
  readonly sleep = new Sleep();
  /** It told how full its battery is. */
  hasBattery = false;
  readonly #limits: CommandLimits;
  readonly #values = new Map<string, Uint8Array>();
  #expected: { readonly message: SensorMessage; readonly confirm: () => void } | undefined;

  constructor(id: number, device: Device, limits: CommandLimits) {
    this.id = id;
    this.device = device;
    this.#limits = limits;
  }

  online(line: Line): void {
    this.device.online((command) => this.#carryOut(command, line));
  }

  /** What was told or set last. */
  value(child: number, type: number): Uint8Array | undefined {
    return this.#values.get(`${child}/${type}`);
  }

  keep({ child, type, payload }: SensorMessage): void {
    const key = `${child}/${type}`;
    const [oldest] = this.#values.keys();
    if (this.#values.size >= VALUES_MAX && oldest !== undefined && !this.#values.has(key)) {
      this.#values.delete(oldest);
    }
    this.#values.set(key, payload);
  }

  /** A message of ours has come back; one that nobody waits for any more is let go. */
  confirm(echo: SensorMessage): void {
    const expected = this.#expected;
    if (expected && isEcho(expected.message, echo)) expected.confirm();
  }

  async #carryOut(command: Command, line: Line): Promise<Outcome> {
    const wanted = messageOf(this.id, command);
    if (wanted.kind === "refused") return failed(wanted.reason);
    const { message } = wanted;
    const { triesMax, sleepMsMax } = this.#limits;
    for (let tries = 0; tries < triesMax; tries += 1) {
      const isAwake = await this.sleep.isAwakeWithin(sleepMsMax, line.ended);
      if (line.ended.aborted) return failed(LINK_GONE);
      if (!isAwake) return failed(`the node slept for more than ${sleepMsMax / 1_000} s`);
      if (await this.#isSent(message, line)) return { state: "done" };
    }
    if (line.ended.aborted) return failed(LINK_GONE);
    return failed(`the node did not acknowledge it, ${triesMax} times`);
  }

  /** True when the node has it; where none is to confirm it, when it is on its way. */
  async #isSent(message: SensorMessage, line: Line): Promise<boolean> {
    const echo = Promise.withResolvers<boolean>();
    this.#expected = { message, confirm: () => echo.resolve(true) };
    await line.send(message);
    if (!message.ack) return true;
    const done = new AbortController();
    const signal = AbortSignal.any([done.signal, line.ended]);
    const late = wait(this.#limits.ackMsMax, signal).then(() => false);
    const isConfirmed = await Promise.race([echo.promise, late]);
    done.abort();
    this.#expected = undefined;
    if (isConfirmed && message.command === COMMAND.set) this.keep(message);
    return isConfirmed;
  }
}

function isEcho(message: SensorMessage, echo: SensorMessage): boolean {
  const isSame = message.command === echo.command && message.type === echo.type;
  return (
    isSame && message.child === echo.child && Buffer.compare(message.payload, echo.payload) === 0
  );
}

function failed(reason: string): Outcome {
  return { state: "failed", reason };
}

// stream-driver: runs a codec on a link that is one device.
// Path: link → codec → [stream-driver] → device; and commands the other way. Touches: nothing.

import type { Log } from "#runtime/log";
import type { Codec, Command, Decoded, Device, Driver, Host, Link, Outcome } from "../driver.ts";

/** Faults are told in the log at most so often. */
const FAULT_LOG_MS_LEAST = 60_000;

export class StreamDriver implements Driver {
  readonly #createCodec: () => Codec;
  readonly #device: Device;
  readonly #log: Log;
  readonly #nowMs: () => number;
  #faults = 0;
  #faultLoggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    createCodec: () => Codec,
    host: Host,
    log: Log,
    nowMs: () => number = () => performance.now(),
  ) {
    this.#createCodec = createCodec;
    this.#device = host.device(host.name);
    this.#log = log;
    this.#nowMs = nowMs;
  }

  async run(link: Link): Promise<void> {
    const codec = this.#createCodec();
    this.#device.online((command) => carryOut(codec, link, command));
    for await (const chunk of link.readable) {
      for (const decoded of codec.decode(chunk)) await this.#handOn(decoded, link);
    }
  }

  async #handOn(decoded: Decoded, link: Link): Promise<void> {
    if (decoded.kind === "message") await this.#device.publish(decoded.message);
    else this.#countFault(decoded.reason, link);
  }

  #countFault(reason: string, link: Link): void {
    this.#faults += 1;
    const nowMs = this.#nowMs();
    if (nowMs - this.#faultLoggedAtMs < FAULT_LOG_MS_LEAST) return;
    this.#faultLoggedAtMs = nowMs;
    this.#log.warn({ link: link.path, reason, faults: this.#faults }, "not understood");
  }
}

async function carryOut(codec: Codec, link: Link, command: Command): Promise<Outcome> {
  const encoded = codec.encode(command);
  if (encoded.kind === "refused") return { state: "failed", reason: encoded.reason };
  await link.write(encoded.bytes);
  return { state: "done" };
}

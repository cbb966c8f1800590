// slave: one slave of a line as a device: what it holds, whether it is there, what it is told.
// Path: modbus-rtu → [slave] → line, device. Touches: the clock.

import type { Command, Device, Host, Outcome } from "../../driver.ts";
import { type Block, splitBlock } from "./blocks.ts";
import { type Answer, type Line, whyNoData } from "./line.ts";
import type { LineQueue } from "./line-queue.ts";
import { contentOf, exceptionText, readRequest } from "./pdu.ts";
import { channelAbout, valueIn, type Write, writeOf } from "./register.ts";
import { ERROR_CHANNEL } from "./settings.ts";
import type { RegisterSettings, SlaveSettings } from "./settings-schema.ts";
import { write } from "./writing.ts";

/** After the first miss; each further one doubles it. */
const MISS_MS_LEAST = 1_000;

/** What a read came to, for its schedule. */
export type Polled = "worked" | "refused" | "busy" | "split" | "missed";

/** What a slave speaks through while the link is up. */
export interface Way {
  readonly line: Line;
  readonly queue: LineQueue;
}

/** unheard → online → (misses_max misses) → offline → online. */
export class Slave {
  readonly settings: SlaveSettings;
  readonly #host: Host;
  readonly #device: Device;
  readonly #silentMsMax: number;
  /** By channel, what is wrong with it. */
  readonly #errors = new Map<string, string>();
  /** What the log has of them: each once, since a busy device may come and go with each poll. */
  readonly #logged = new Set<string>();
  #way: Way | undefined;
  #isOnline = false;
  #misses = 0;
  #restUntilMs = Number.NEGATIVE_INFINITY;
  /** Messages for which there is no room yet. */
  readonly #crowded = new Set<Promise<void>>();

  constructor(settings: SlaveSettings, silentMsMax: number, host: Host) {
    this.settings = settings;
    this.#silentMsMax = silentMsMax;
    this.#host = host;
    const { device, model, registers } = settings;
    this.#device = host.device(device, {
      ...(model === undefined ? {} : { model }),
      channels: registers.map(channelAbout),
    });
  }

  get unit(): number {
    return this.settings.address;
  }

  /** Whether a poll that is late is late by the line, and not by the slave's own silence. */
  get isAnswering(): boolean {
    return this.#isOnline && this.#misses === 0;
  }

  /** The link is up. */
  begin(way: Way): void {
    this.#way = way;
    this.#isOnline = false;
    this.#misses = 0;
    this.#restUntilMs = Number.NEGATIVE_INFINITY;
    // Who is never asked cannot show that he is there.
    if (!this.settings.registers.some(({ poll }) => poll)) this.#heard();
  }

  /** When it may be polled: not while it is silent, nor while its messages have no room. */
  heldUntilMs(): number {
    if (this.#crowded.size > 0) return Number.POSITIVE_INFINITY;
    const lineMs = this.#way?.line.heldUntilMs(this.unit) ?? Number.POSITIVE_INFINITY;
    return Math.max(this.#restUntilMs, lineMs);
  }

  /** Resolves when all that was read is handed on. */
  async handOn(): Promise<void> {
    await Promise.all(this.#crowded);
  }

  async poll(line: Line, block: Block): Promise<Polled> {
    const { table, address, count, registers } = block;
    const request = readRequest(this.unit, table, address, count);
    const answer = await line.exchange(request, this.#misses > 0 ? 0 : undefined);
    switch (answer.kind) {
      case "silent":
      case "unsure":
        this.#missed(whyNoData(answer));
        return "missed";
      case "exception":
        return this.#pollRefused(block, answer.code);
      case "data":
        this.#heard();
        this.#host.countFrames(1);
        for (const register of registers) this.#read(register, answer, address);
        return "worked";
    }
  }

  #pollRefused(block: Block, code: number): Polled {
    if (isAbsence(code)) {
      this.#missed(exceptionText(code));
      return "missed";
    }
    this.#heard();
    const isLasting = code <= 3;
    // Part of the block may be what the device does not have, or it may be too long for it.
    if (isLasting && splitBlock(block).length > 1) return "split";
    for (const register of block.registers) this.#setError(register, exceptionText(code));
    return isLasting ? "refused" : "busy";
  }

  #read(register: RegisterSettings, answer: Answer & { kind: "data" }, from: number): void {
    const value = valueIn(register, contentOf(answer.pdu), from);
    if (value === undefined) {
      this.#setError(register, `what it holds is no ${register.type}`);
      return;
    }
    this.#setError(register, undefined);
    this.#publish(register.channel, value, answer.receivedAtMs);
  }

  #publish(channel: string, text: string, receivedAtMs = Date.now()): void {
    const room = this.#device.publish({ channel, payload: Buffer.from(text), receivedAtMs });
    if (!room) return;
    const crowded = room.finally(() => {
      this.#crowded.delete(crowded);
      this.#way?.queue.wake();
    });
    this.#crowded.add(crowded);
  }

  /** Told when it changes, not at each poll. */
  #setError(register: RegisterSettings, error: string | undefined): void {
    const { channel, function: table, address } = register;
    if (this.#errors.get(channel) === error) return;
    if (error === undefined) this.#errors.delete(channel);
    else this.#errors.set(channel, error);
    const told = { channel, function: table, address, error: error ?? null };
    this.#publish(ERROR_CHANNEL, JSON.stringify(told));
    const known = `${channel} ${error}`;
    if (error === undefined || this.#logged.has(known)) return;
    this.#logged.add(known);
    this.#host.log.warn({ device: this.settings.device, ...told }, "register not read");
  }

  #heard(): void {
    this.#misses = 0;
    this.#restUntilMs = Number.NEGATIVE_INFINITY;
    if (this.#isOnline) return;
    this.#isOnline = true;
    this.#host.log.info({ device: this.settings.device }, "device online");
    this.#device.online((command) => this.#carryOut(command));
  }

  /** Whoever is silent is asked ever more seldom: each question costs the others a time-out. */
  #missed(why: string): void {
    this.#misses += 1;
    const restMs = MISS_MS_LEAST * 2 ** Math.min(this.#misses - 1, 30);
    this.#restUntilMs = performance.now() + Math.min(restMs, this.#silentMsMax);
    if (this.#misses < this.settings.misses_max) return;
    if (!this.#isOnline && this.#misses > this.settings.misses_max) return;
    this.#isOnline = false;
    const reason = `slave ${this.unit}: ${why}, ${this.#misses} times in a row`;
    this.#host.log.warn({ device: this.settings.device, why: reason }, "device offline");
    this.#device.offline(reason);
  }

  async #carryOut({ channel, payload }: Command): Promise<Outcome> {
    if (channel === undefined) return failed("a command goes to one channel, as set/<channel>");
    const register = this.settings.registers.find((it) => it.channel === channel);
    if (!register) return failed(`there is no channel ${JSON.stringify(channel.slice(0, 128))}`);
    if (!register.writable) return failed(`${channel} is not writable in the settings`);
    const command = writeOf(register, this.unit, payload);
    if (command.kind === "refused") return failed(command.reason);
    const way = this.#way;
    if (!way) return failed("the link was never up");
    return await way.queue.command(this.unit, () => this.#write(way.line, register, command));
  }

  async #write(
    line: Line,
    register: RegisterSettings,
    command: Write & { kind: "write" },
  ): Promise<Outcome> {
    const { outcome, silence, read } = await write(line, register, command);
    if (silence === undefined) this.#host.countFrames(1);
    else this.#missed(silence);
    if (read) this.#publish(register.channel, read.value, read.receivedAtMs);
    return outcome;
  }
}

/** A gateway's word that the slave behind it is not there (Modbus Application Protocol §7). */
function isAbsence(code: number): boolean {
  return code === 10 || code === 11;
}

function failed(reason: string): Outcome {
  return { state: "failed", reason };
}

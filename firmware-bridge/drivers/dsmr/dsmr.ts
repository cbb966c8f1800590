// dsmr: the codec of smart meters with a P1 port: DSMR 2.2 to 5, and Belgium's e-MUCS-P1.
// Path: link → stream-driver → [dsmr] → device. Touches: nothing.

import * as v from "valibot";
import { flag, oneOf } from "#runtime/settings-values";
import type { Channel, Codec, Decoded, Encoded } from "../../driver.ts";
import { codecDriver } from "../kind.ts";
import { readTelegram, type Telegram } from "./telegram.ts";
import { TelegramReader } from "./telegram-reader.ts";

/** What noise on a line without checksums could make of codes is not all kept. */
const CHANNELS_MAX = 200;

const Settings = v.strictObject({
  checksum: v.optional(oneOf("optional", "required"), "optional"),
  others: v.optional(flag(), false),
});

export type DsmrSettings = Readonly<v.InferOutput<typeof Settings>>;

export const dsmr = codecDriver(Settings, (settings) => new DsmrCodec(settings));

/** Telegrams to messages, for one time that a link is up; a meter takes no commands. */
export class DsmrCodec implements Codec {
  readonly #settings: DsmrSettings;
  readonly #reader: TelegramReader;
  readonly #channels = new Map<string, Channel>();

  constructor(settings: DsmrSettings) {
    this.#settings = settings;
    this.#reader = new TelegramReader(settings.checksum === "required");
  }

  decode(chunk: Uint8Array): Decoded[] {
    return this.#reader
      .push(chunk)
      .flatMap((framed) => (framed.kind === "fault" ? [framed] : this.#decode(framed.bytes)));
  }

  encode(): Encoded {
    return { kind: "refused", reason: "a P1 port takes no commands" };
  }

  #decode(bytes: Uint8Array): Decoded[] {
    const telegram = readTelegram(bytes, this.#settings.others);
    const { readings, broken } = telegram;
    return [
      ...this.#learn(telegram),
      ...broken.map((line): Decoded => {
        const frame = Buffer.from(line, "latin1");
        return { kind: "fault", reason: "an object is not as it must be", frame };
      }),
      ...readings.map(({ channel, text }): Decoded => {
        return { kind: "message", message: { channel, payload: Buffer.from(text) } };
      }),
    ];
  }

  /** Which objects a meter has shows with its first telegram, and with what is plugged in later. */
  #learn({ identification, readings }: Telegram): Decoded[] {
    const known = this.#channels.size;
    for (const { channel: name, unit, kind } of readings) {
      if (this.#channels.size === CHANNELS_MAX || this.#channels.has(name)) continue;
      this.#channels.set(name, unit === undefined ? { name, kind } : { name, kind, unit });
    }
    if (this.#channels.size === known) return [];
    const channels = [...this.#channels.values()];
    return [{ kind: "about", about: { model: identification, channels } }];
  }
}

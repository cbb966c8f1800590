// nmea: the codec of receivers and instruments that speak NMEA 0183: positions, time, sentences.
// Path: link → stream-driver → [nmea] → device. Touches: nothing.

import * as v from "valibot";
import { oneOf } from "#runtime/settings-values";
import type { About, Codec, Command, Decoded, Encoded } from "../../driver.ts";
import { LineSplitter, TOO_LONG } from "../framing/line-splitter.ts";
import { codecDriver } from "../kind.ts";
import { Epochs } from "./epochs.ts";
import { formatterOf, reportOf } from "./report.ts";
import { lineOf, type Sentence, sentenceOf } from "./sentence.ts";

/** The standard has 82; many receivers' own sentences are longer. */
const SENTENCE_BYTES_MAX = 1_024;

const Settings = v.strictObject({
  checksum: v.optional(oneOf("required", "optional"), "required"),
  sentences: v.optional(oneOf("others", "all", "none"), "others"),
});

export type NmeaSettings = Readonly<v.InferOutput<typeof Settings>>;

const ABOUT: About = {
  channels: [
    { name: "position", kind: "text" },
    { name: "time", kind: "text" },
    { name: "latitude", unit: "°", kind: "number" },
    { name: "longitude", unit: "°", kind: "number" },
    { name: "altitude", unit: "m", kind: "number" },
    { name: "speed", unit: "m/s", kind: "number" },
    { name: "course", unit: "°", kind: "number" },
    { name: "fix", kind: "text" },
    { name: "quality", kind: "number" },
    { name: "satellites", kind: "number" },
    { name: "satellites_in_view", kind: "number" },
    { name: "hdop", kind: "number" },
  ],
};

export const nmea = codecDriver(
  Settings,
  (settings) => new NmeaCodec(settings),
  () => ABOUT,
);

/** Sentences to messages and commands to sentences, for one time that a link is up. */
export class NmeaCodec implements Codec {
  readonly #settings: NmeaSettings;
  readonly #splitter = new LineSplitter("lf", SENTENCE_BYTES_MAX);
  readonly #epochs = new Epochs();

  constructor(settings: NmeaSettings) {
    this.#settings = settings;
  }

  decode(chunk: Uint8Array): Decoded[] {
    return this.#splitter.push(chunk).flatMap((line) => {
      if (line === TOO_LONG) return fault(`a line is longer than ${SENTENCE_BYTES_MAX} bytes`);
      return line.length === 0 ? [] : this.#decodeLine(line);
    });
  }

  encode({ channel, payload }: Command): Encoded {
    if (channel !== undefined) return { kind: "refused", reason: "a sentence goes to set, whole" };
    const line = lineOf(payload);
    if (!(line instanceof Uint8Array)) return { kind: "refused", reason: line.reason };
    if (line.length <= SENTENCE_BYTES_MAX) return { kind: "bytes", bytes: line };
    return { kind: "refused", reason: `the sentence is longer than ${SENTENCE_BYTES_MAX} bytes` };
  }

  #decodeLine(line: Uint8Array): Decoded[] {
    const sentence = sentenceOf(line, this.#settings.checksum === "required");
    if (typeof sentence === "string") return fault(sentence, line);
    const formatter = formatterOf(sentence);
    const whole = this.#whole(sentence, formatter !== undefined);
    if (formatter === undefined) return whole;
    const report = reportOf(formatter, sentence.fields);
    if (!report) return [...whole, ...fault(`a ${formatter} sentence is not as laid out`, line)];
    const messages = this.#epochs.push(sentence.address.slice(0, 2), formatter, report);
    return [...whole, ...messages.map((message): Decoded => ({ kind: "message", message }))];
  }

  /** The sentence as it is, where the settings want that. */
  #whole({ address, bytes }: Sentence, isDecoded: boolean): Decoded[] {
    const { sentences } = this.#settings;
    if (sentences === "none" || (sentences === "others" && isDecoded)) return [];
    return [{ kind: "message", message: { channel: `sentence/${address}`, payload: bytes } }];
  }
}

function fault(reason: string, frame?: Uint8Array): Decoded[] {
  return [frame ? { kind: "fault", reason, frame } : { kind: "fault", reason }];
}

// lines: the codec of devices that speak in lines: text, JSON, pairs or CSV.
// Path: link → stream-driver → [lines] → device. Touches: nothing.

import * as v from "valibot";
import { name, oneOf, whole } from "#runtime/settings-values";
import type { Codec, Command, Decoded, Encoded, Message } from "../../driver.ts";
import { LineSplitter, TOO_LONG } from "../framing/line-splitter.ts";
import { codecDriver } from "../kind.ts";
import { bytes, type Format, refused } from "./format.ts";
import { csvFormat } from "./format-csv.ts";
import { jsonFormat } from "./format-json.ts";
import { keyValueFormat } from "./format-key-value.ts";
import { textFormat } from "./format-text.ts";

/** The channel of lines that are not of the format that the settings name. */
const UNPARSED_CHANNEL = "unparsed";
const LINE_ENDS = { lf: "\n", crlf: "\r\n", cr: "\r" } as const;

const Settings = v.strictObject({
  format: v.optional(oneOf("text", "json", "key-value", "csv"), "text"),
  columns: v.optional(v.array(name), []),
  separator: v.optional(v.pipe(v.string(), v.length(1, "allowed: one character")), ","),
  line_end: v.optional(oneOf("lf", "crlf", "cr"), "lf"),
  line_bytes_max: v.optional(whole(1, 65_536), 4_096),
});

export type LinesSettings = Readonly<v.InferOutput<typeof Settings>>;

export const lines = codecDriver(Settings, (settings) => new LinesCodec(settings));

/** Bytes to messages and commands to bytes, for one time that a link is up. */
export class LinesCodec implements Codec {
  readonly #settings: LinesSettings;
  readonly #format: Format;
  readonly #splitter: LineSplitter;

  constructor(settings: LinesSettings) {
    this.#settings = settings;
    this.#format = formatOf(settings);
    this.#splitter = new LineSplitter(settings.line_end, settings.line_bytes_max);
  }

  decode(chunk: Uint8Array): Decoded[] {
    return this.#splitter.push(chunk).flatMap((line) => {
      if (line === TOO_LONG) {
        return fault(`a line is longer than ${this.#settings.line_bytes_max} bytes`);
      }
      return line.length === 0 ? [] : this.#decodeLine(line);
    });
  }

  encode(command: Command): Encoded {
    const { channel, payload } = command;
    if (channel === "") return refused("the channel is empty");
    if (channel?.includes("/")) return refused("a channel is one topic level");
    const line = channel === undefined ? bytes(payload) : this.#format.encode(channel, payload);
    return line.kind === "bytes" ? this.#finish(line.bytes) : line;
  }

  #decodeLine(line: Uint8Array): Decoded[] {
    const messages = this.#format.decode(line);
    if (messages) return messages.map(message);
    return [
      ...fault(`a line is not ${this.#settings.format}`),
      message({ channel: UNPARSED_CHANNEL, payload: line }),
    ];
  }

  /** Any line end inside would make a second command of the rest. */
  #finish(line: Uint8Array): Encoded {
    const max = this.#settings.line_bytes_max;
    if (line.includes(0x0a) || line.includes(0x0d)) return refused("a command is one line");
    if (line.length > max) return refused(`the line is longer than ${max} bytes`);
    return bytes(Buffer.concat([line, Buffer.from(LINE_ENDS[this.#settings.line_end])]));
  }
}

function formatOf(settings: LinesSettings): Format {
  switch (settings.format) {
    case "text":
      return textFormat;
    case "json":
      return jsonFormat;
    case "key-value":
      return keyValueFormat;
    case "csv":
      return csvFormat(settings);
  }
}

function message(message: Message): Decoded {
  return { kind: "message", message };
}

function fault(reason: string): Decoded[] {
  return [{ kind: "fault", reason }];
}

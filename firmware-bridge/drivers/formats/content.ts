// content: what lines and frames say, by their format and by the templates of the settings.
// Path: splitter or framer → [content] → codec; and commands the other way. Touches: nothing.

import type { Command, Decoded, Encoded, Message } from "../../driver.ts";
import { Commands } from "./commands.ts";
import { csvFormat } from "./csv.ts";
import { type Field, type Format, messagesOf } from "./format.ts";
import { jsonFormat } from "./json.ts";
import { keyValueFormat } from "./key-value.ts";
import { regexFormat } from "./regex.ts";
import type { ContentSettings } from "./settings.ts";
import { ChannelTemplate, Template } from "./template.ts";
import { wholeFormat } from "./whole.ts";

/** The channel of what is not of the format that the settings name. */
const UNPARSED_CHANNEL = "unparsed";

export class Content {
  readonly #settings: ContentSettings;
  readonly #unit: string;
  readonly #format: Format;
  readonly #commands: Commands;
  readonly #channel: ChannelTemplate | undefined;
  readonly #value: Template | undefined;

  /** `unit` is what one of them is called, and the channel of those that are taken as they are. */
  constructor(settings: ContentSettings, unit: "line" | "frame") {
    const { channel, value } = settings;
    this.#settings = settings;
    this.#unit = unit;
    this.#format = formatOf(settings, unit);
    this.#commands = new Commands(settings, this.#format);
    this.#channel = channel === undefined ? undefined : new ChannelTemplate(channel);
    this.#value = value === undefined ? undefined : new Template(value);
  }

  /** The messages; or a fault, and the bytes on the channel `unparsed`. */
  decode(bytes: Uint8Array): Decoded[] {
    const messages = this.#channel
      ? this.#byTemplate(this.#channel, bytes)
      : (this.#format.decode(bytes) ?? `is not ${this.#settings.format}`);
    if (typeof messages !== "string") return messages.map(message);
    return [
      { kind: "fault", reason: `a ${this.#unit} ${messages}`, frame: bytes },
      message({ channel: UNPARSED_CHANNEL, payload: bytes }),
    ];
  }

  encode(command: Command): Encoded {
    return this.#commands.encode(command);
  }

  /** The messages, or why there are none. */
  #byTemplate(template: ChannelTemplate, bytes: Uint8Array): Message[] | string {
    const fields = this.#format.fields(bytes);
    if (!fields) return `is not ${this.#settings.format}`;
    const values = new Map(fields);
    const channel = template.fill((name) => values.get(name));
    if (channel === undefined) return `does not fill the channel ${this.#settings.channel}`;
    if (!this.#value) return othersOf(fields, template, channel) ?? "has a name that is no channel";
    const payload = this.#value.fill((name) => values.get(name));
    return payload ? [{ channel, payload }] : `does not fill the value ${this.#settings.value}`;
  }
}

/** Without a template of their value: what did not go into the channel, on a level below it. */
function othersOf(
  fields: readonly Field[],
  template: ChannelTemplate,
  channel: string,
): Message[] | undefined {
  const others = fields.filter(([name]) => !template.names.includes(name));
  return messagesOf(others)?.map((it) => ({ ...it, channel: `${channel}/${it.channel}` }));
}

function formatOf(settings: ContentSettings, unit: string): Format {
  switch (settings.format) {
    case "json":
      return jsonFormat(unit);
    case "key-value":
      return keyValueFormat;
    case "csv":
      return csvFormat(settings);
    case "regex":
      return regexFormat(settings.patterns);
    default:
      return wholeFormat(unit);
  }
}

function message(message: Message): Decoded {
  return { kind: "message", message };
}

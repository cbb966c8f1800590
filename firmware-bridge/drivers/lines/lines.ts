// lines: the codec of devices that speak in lines: text, JSON, pairs, CSV, or what fits expressions.
// Path: link → stream-driver → [lines] → device. Touches: nothing.

import * as v from "valibot";
import { oneOf, whole } from "#runtime/settings-values";
import type { Codec, Command, Decoded, Encoded } from "../../driver.ts";
import { Content } from "../formats/content.ts";
import { bytes, refused, textOf } from "../formats/format.ts";
import { aboutContent, CONTENT_KEYS, contentCheck } from "../formats/settings.ts";
import { ChecksumSuffix } from "../framing/checksum-suffix.ts";
import { LineSplitter, TOO_LONG } from "../framing/line-splitter.ts";
import { codecDriver } from "../kind.ts";

const LINE_ENDS = { lf: "\n", crlf: "\r\n", cr: "\r" } as const;
const SEPARATOR = "allowed: up to 8 printable characters of ASCII";

const Settings = v.pipe(
  v.strictObject({
    format: v.optional(oneOf("text", "json", "key-value", "csv", "regex"), "text"),
    ...CONTENT_KEYS,
    line_end: v.optional(oneOf("lf", "crlf", "cr"), "lf"),
    line_bytes_max: v.optional(whole(1, 65_536), 4_096),
    encoding: v.optional(oneOf("utf-8", "latin1"), "utf-8"),
    checksum: v.optional(
      oneOf("none", "nmea", "xor", "sum8", "crc16-modbus", "crc16-ccitt", "crc32"),
      "none",
    ),
    checksum_separator: v.optional(
      v.pipe(v.string(SEPARATOR), v.regex(/^[ -~]{0,8}$/, SEPARATOR)),
      "*",
    ),
  }),
  contentCheck(),
);

export type LinesSettings = Readonly<v.InferOutput<typeof Settings>>;

export const lines = codecDriver(Settings, (settings) => new LinesCodec(settings), aboutContent);

/** Bytes to messages and commands to bytes, for one time that a link is up. */
export class LinesCodec implements Codec {
  readonly #settings: LinesSettings;
  readonly #content: Content;
  readonly #splitter: LineSplitter;
  readonly #checksum: ChecksumSuffix | undefined;

  constructor(settings: LinesSettings) {
    const { checksum, checksum_separator } = settings;
    this.#settings = settings;
    this.#content = new Content(settings, "line");
    this.#splitter = new LineSplitter(settings.line_end, settings.line_bytes_max);
    this.#checksum =
      checksum === "none" ? undefined : new ChecksumSuffix(checksum, checksum_separator);
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
    const line = this.#content.encode(command);
    return line.kind === "bytes" ? this.#finish(line.bytes) : line;
  }

  #decodeLine(line: Uint8Array): Decoded[] {
    if (!this.#checksum) return this.#content.decode(this.#toUtf8(line));
    const { checked, body } = this.#checksum.check(line);
    if (checked !== "right") return fault(`a line's checksum is ${checked}`, line);
    return this.#content.decode(this.#toUtf8(body));
  }

  #toUtf8(line: Uint8Array): Uint8Array {
    if (this.#settings.encoding === "utf-8") return line;
    return Buffer.from(Buffer.from(line).toString("latin1"));
  }

  /** Any line end inside would make a second command of the rest. */
  #finish(content: Uint8Array): Encoded {
    const max = this.#settings.line_bytes_max;
    const encoded = this.#fromUtf8(content);
    if (typeof encoded === "string") return refused(encoded);
    if (encoded.includes(0x0a) || encoded.includes(0x0d)) return refused("a command is one line");
    const line = this.#checksum?.append(encoded) ?? encoded;
    if (line.length > max) return refused(`the line is longer than ${max} bytes`);
    return bytes(Buffer.concat([line, Buffer.from(LINE_ENDS[this.#settings.line_end])]));
  }

  /** The bytes that the device reads, or why there are none. */
  #fromUtf8(content: Uint8Array): Uint8Array | string {
    if (this.#settings.encoding === "utf-8") return content;
    const text = textOf(content);
    if (text === undefined) return "the payload is not UTF-8";
    // Node would cut them to their low byte, which may be a line end.
    const isLatin1 = /^[\0-\xff]*$/.test(text);
    return isLatin1 ? Buffer.from(text, "latin1") : "the payload has characters outside of latin1";
  }
}

function fault(reason: string, frame?: Uint8Array): Decoded[] {
  return [frame ? { kind: "fault", reason, frame } : { kind: "fault", reason }];
}

// frames: the codec of devices that speak in frames of bytes, between delimiters, with a CRC or not.
// Path: link → stream-driver → [frames] → device. Touches: nothing.

import * as v from "valibot";
import { oneOf, whole } from "#runtime/settings-values";
import type { Codec, Command, Decoded, Encoded } from "../../driver.ts";
import { Content } from "../formats/content.ts";
import { bytes, refused } from "../formats/format.ts";
import { aboutContent, CONTENT_KEYS, contentCheck } from "../formats/settings.ts";
import { ChecksumTail } from "../framing/checksum-tail.ts";
import { cobs } from "../framing/cobs.ts";
import { Framer } from "../framing/framer.ts";
import { slip } from "../framing/slip.ts";
import { codecDriver } from "../kind.ts";

const STUFFINGS = { slip, cobs } as const;

const Settings = v.pipe(
  v.strictObject({
    format: v.optional(oneOf("raw", "json", "key-value", "csv", "regex"), "raw"),
    ...CONTENT_KEYS,
    framing: v.optional(oneOf("slip", "cobs"), "slip"),
    frame_bytes_max: v.optional(whole(1, 65_536), 1_024),
    checksum: v.optional(
      oneOf(
        "none",
        "xor",
        "sum8",
        "crc16-modbus",
        "crc16-arc",
        "crc16-kermit",
        "crc16-ccitt",
        "crc16-xmodem",
        "crc32",
      ),
      "none",
    ),
    checksum_order: v.optional(oneOf("little", "big"), "little"),
  }),
  contentCheck(),
);

export type FramesSettings = Readonly<v.InferOutput<typeof Settings>>;

export const frames = codecDriver(Settings, (settings) => new FramesCodec(settings), aboutContent);

/** Bytes to messages and commands to bytes, for one time that a link is up. */
export class FramesCodec implements Codec {
  readonly #settings: FramesSettings;
  readonly #content: Content;
  readonly #framer: Framer;
  readonly #checksum: ChecksumTail | undefined;

  constructor(settings: FramesSettings) {
    const { framing, frame_bytes_max, checksum, checksum_order } = settings;
    this.#settings = settings;
    this.#content = new Content(settings, "frame");
    this.#checksum = checksum === "none" ? undefined : new ChecksumTail(checksum, checksum_order);
    this.#framer = new Framer(STUFFINGS[framing], frame_bytes_max);
  }

  decode(chunk: Uint8Array): Decoded[] {
    return this.#framer
      .push(chunk)
      .flatMap((framed) => (framed.kind === "fault" ? [framed] : this.#decodeFrame(framed.bytes)));
  }

  encode(command: Command): Encoded {
    const encoded = this.#content.encode(command);
    if (encoded.kind === "refused") return encoded;
    const { framing, frame_bytes_max: max } = this.#settings;
    const frame = this.#checksum?.append(encoded.bytes) ?? encoded.bytes;
    if (frame.length === 0) return refused("a frame has at least one byte");
    if (frame.length > max) return refused(`the frame is longer than ${max} bytes`);
    return bytes(STUFFINGS[framing].stuff(frame));
  }

  #decodeFrame(frame: Uint8Array): Decoded[] {
    const body = this.#checksum ? this.#checksum.bodyOf(frame) : frame;
    if (!body) return [{ kind: "fault", reason: "a frame's checksum is wrong", frame }];
    return body.length === 0 ? [] : this.#content.decode(body);
  }
}

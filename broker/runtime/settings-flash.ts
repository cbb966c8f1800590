// settings-flash: the keys of [flash] and of a link's own table of that name.
// Path: settings-schema, settings-links → [settings-flash]. Touches: nothing.

import * as v from "valibot";
import { flag, oneOf, path, whole } from "./settings-values.ts";

export const Flash = v.pipe(
  v.strictObject({
    public_key_file: v.optional(path),
    image_bytes_max: v.optional(whole(1_024, 268_435_456), 16_777_216),
    flash_seconds_max: v.optional(whole(10, 3_600), 300),
    mqtt: v.optional(flag(), false),
    folder: v.optional(path),
  }),
  // Clients of the loopback may do all there is unless the settings name rights.
  v.forward(
    v.partialCheck(
      [["mqtt"], ["public_key_file"]],
      (it) => !it.mqtt || it.public_key_file !== undefined,
      "allowed: with a public_key_file, so that only signed images are taken",
    ),
    ["mqtt"],
  ),
  v.forward(
    v.partialCheck(
      [["mqtt"], ["folder"]],
      (it) => !it.mqtt || it.folder !== undefined,
      "allowed: with the folder that the images lie in",
    ),
    ["mqtt"],
  ),
);

const PART_ALLOWED = 'allowed: with avrdude, its name of the chip, as "m328p"';

const part = v.pipe(
  v.string(PART_ALLOWED),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/, PART_ALLOWED),
);

/** Each of them takes the path of a port. The first four are boot loaders. */
const PROTOCOLS = [
  "arduino",
  "wiring",
  "avr109",
  "urclock",
  "stk500v1",
  "stk500v2",
  "jtag2updi",
  "serialupdi",
] as const;

const CHIPS = [
  "auto",
  "esp8266",
  "esp32",
  "esp32s2",
  "esp32s3",
  "esp32c2",
  "esp32c3",
  "esp32c6",
  "esp32h2",
] as const;

export const LinkFlash = v.pipe(
  v.strictObject({
    programmer: oneOf("avrdude", "esptool"),
    baud_rate: v.optional(whole(300, 4_000_000), 115_200),
    part: v.optional(part),
    protocol: v.optional(oneOf(...PROTOCOLS), "arduino"),
    chip: v.optional(oneOf(...CHIPS), "auto"),
    offset: v.optional(whole(0, 0xffff_ffff)),
  }),
  v.forward(
    v.partialCheck(
      [["programmer"], ["part"]],
      (it) => it.programmer !== "avrdude" || it.part !== undefined,
      PART_ALLOWED,
    ),
    ["part"],
  ),
  v.forward(
    v.partialCheck(
      [["programmer"], ["offset"]],
      (it) => it.programmer !== "esptool" || it.offset !== undefined,
      "allowed: with esptool, the address in flash that the image is for, as 0x10000",
    ),
    ["offset"],
  ),
);

export type FlashSettings = Readonly<v.InferOutput<typeof Flash>>;
export type LinkFlashSettings = Readonly<v.InferOutput<typeof LinkFlash>>;

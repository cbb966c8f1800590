// settings-flash.test: what settings for flashing are refused, and with which words.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSettings } from "#runtime/settings";

const GATEWAY = 'role = "gateway"\n';
const link = (flash: string) => `[[links]]\npath = "/dev/x"\nflash = { ${flash} }\n`;

const REFUSED: readonly (readonly [string, string, RegExp])[] = [
  [
    "a link's table without [flash], which switches flashing on",
    link('programmer = "avrdude", part = "m328p"'),
    /^t:4: links\[0\]\.flash .*; allowed: with a \[flash\] table$/,
  ],
  [
    "avrdude without the chip",
    `[flash]\n${link('programmer = "avrdude"')}`,
    /links\[0\]\.flash\.part .*allowed: with avrdude, its name of the chip, as "m328p"/,
  ],
  [
    "esptool without the address",
    `[flash]\n${link('programmer = "esptool"')}`,
    /links\[0\]\.flash\.offset .*allowed: with esptool, the address in flash/,
  ],
  [
    "a chip's name that avrdude would take for an option",
    `[flash]\n${link('programmer = "avrdude", part = "-Uflash"')}`,
    /links\[0\]\.flash\.part .*allowed: with avrdude, its name of the chip/,
  ],
  [
    "a program that is none of the two",
    `[flash]\n${link('programmer = "/bin/sh"')}`,
    /links\[0\]\.flash\.programmer .*allowed: "avrdude", "esptool"/,
  ],
  [
    "flashing by MQTT of images that nobody signed",
    '[flash]\nmqtt = true\nfolder = "/images"\n',
    /^t:3: flash\.mqtt .*; allowed: with a public_key_file, so that only signed images are taken$/,
  ],
  [
    "flashing by MQTT without the images' folder",
    '[flash]\nmqtt = true\npublic_key_file = "/key"\n',
    /^t:3: flash\.mqtt .*; allowed: with the folder that the images lie in$/,
  ],
];

for (const [what, text, expected] of REFUSED) {
  test(`refuses ${what}`, () => {
    assert.throws(() => parseSettings(GATEWAY + text, "t"), { message: expected });
  });
}

test("flashes nothing by default, and not by MQTT when flashing is on", () => {
  assert.equal(parseSettings(GATEWAY, "t").flash, undefined);
  assert.equal(parseSettings(`${GATEWAY}[flash]\n`, "t").flash?.mqtt, false);
});

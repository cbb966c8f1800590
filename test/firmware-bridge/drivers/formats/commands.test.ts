// commands.test: what commands by template promise, by the codec of lines.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { encode, refused } from "../line-codec.ts";

test("writes a command by the template of its channel, else by that of all", () => {
  const settings = {
    command: "SET {channel} {payload}",
    commands: [
      { channel: "led", send: "L{payload}", allow: ["0", "1"] },
      { channel: "dim/one", send: "D {payload}!", pattern: "[0-9]{1,3}" },
      { channel: "restart", send: "RST" },
    ],
  };
  assert.equal(encode(settings, "led", "1"), "L1\n");
  assert.equal(encode(settings, "dim/one", "255"), "D 255!\n");
  assert.equal(encode(settings, "restart", "PRESS"), "RST\n");
  assert.equal(encode(settings, "fan", "on {channel}"), "SET fan on {channel}\n");
  assert.equal(encode(settings, undefined, "raw"), "raw\n");
  refused(/^led takes "0", "1"$/, encode(settings, "led", "2"));
  refused(/^led takes/, encode(settings, "led", Buffer.of(0xff)));
  refused(/^dim\/one takes what fits/, encode(settings, "dim/one", "255 1"));
  refused(/one topic level/, encode(settings, "dim/two", "1"));
  refused(/holds a blank/, encode(settings, "fan on", "1"));
  refused(/one line/, encode(settings, "fan", "1\nRST"));
});

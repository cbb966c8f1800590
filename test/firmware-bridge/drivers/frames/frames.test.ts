// frames.test: what the codec of devices that speak in frames promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import * as v from "valibot";
import {
  FramesCodec,
  type FramesSettings,
  frames,
} from "../../../../firmware-bridge/drivers/frames/frames.ts";
import { CHECKSUMS } from "../../../../firmware-bridge/drivers/framing/checksums.ts";

const RUNS = { seed: 20_260_104, numRuns: 500 } as const;

function codec(some: Partial<FramesSettings>): FramesCodec {
  return new FramesCodec(v.parse(frames.settings, some));
}

/** The messages of bytes in hexadecimal digits as `channel=payload`, faults as `! reason`. */
function says(some: Partial<FramesSettings>, hex: string): string[] {
  return codec(some)
    .decode(Buffer.from(hex, "hex"))
    .map((it) => {
      if (it.kind !== "message") return it.kind === "fault" ? `! ${it.reason}` : "about";
      return `${it.message.channel}=${Buffer.from(it.message.payload).toString("latin1")}`;
    });
}

function encode(some: Partial<FramesSettings>, channel: string | undefined, payload: string) {
  const encoded = codec(some).encode({ channel, payload: Buffer.from(payload) });
  return encoded.kind === "bytes" ? Buffer.from(encoded.bytes).toString("hex") : encoded.reason;
}

const hexOf = (text: string) => Buffer.from(text).toString("hex");

const settingsOf = fc.record({
  framing: fc.constantFrom("slip", "cobs"),
  format: fc.constantFrom("raw", "json", "key-value", "csv"),
  checksum: fc.constantFrom("none", ...(Object.keys(CHECKSUMS) as (keyof typeof CHECKSUMS)[])),
  checksum_order: fc.constantFrom("little", "big"),
  frame_bytes_max: fc.integer({ min: 8, max: 300 }),
});

test("publishes a frame as it is, without its framing", () => {
  assert.deepEqual(says({}, "c0680069c0c001dbdc02c0"), ["frame=h\0i", "frame=\x01\xc0\x02"]);
  assert.deepEqual(says({ framing: "cobs" }, "000268026900"), ["frame=h\0i"]);
});

test("reads the formats that lines have, and their templates", () => {
  const json = `c0${hexOf('{"s":"a","t":21.50}')}c0`;
  assert.deepEqual(says({ format: "json" }, json), ["s=a", "t=21.50"]);
  assert.deepEqual(says({ format: "json", channel: "{s}" }, json), ["a/t=21.50"]);
  assert.deepEqual(says({ format: "json" }, `c0${hexOf("[1]")}c0`), ["frame=[1]"]);
  assert.deepEqual(says({ format: "csv" }, `c0${hexOf("1,2")}c0`), ["1=1", "2=2"]);
  assert.deepEqual(says({ format: "json" }, `c0${hexOf("{")}c0`), [
    "! a frame is not json",
    "unparsed={",
  ]);
});

test("takes a frame only with the right checksum, in the order of bytes that is set", () => {
  const body = hexOf("123456789");
  const checksum = "crc16-modbus";
  assert.deepEqual(says({ checksum }, `c0${body}374bc0`), ["frame=123456789"]);
  assert.deepEqual(says({ checksum, checksum_order: "big" }, `c0${body}4b37c0`), [
    "frame=123456789",
  ]);
  assert.deepEqual(says({ checksum: "crc32" }, `c0${body}2639f4cbc0`), ["frame=123456789"]);
  for (const bytes of [`c0${body}4b37c0`, `c0${body}c0`, "c037c0"]) {
    assert.deepEqual(says({ checksum }, bytes), ["! a frame's checksum is wrong"]);
  }
});

test("tells the bytes of a frame that it could not take", () => {
  const [fault] = codec({ checksum: "xor" }).decode(Buffer.from("c0010204c0", "hex"));
  assert.ok(fault?.kind === "fault" && fault.frame);
  assert.equal(Buffer.from(fault.frame).toString("hex"), "010204");
});

test("writes commands as it reads messages", () => {
  assert.equal(encode({}, undefined, "on"), "c06f6ec0");
  assert.equal(encode({ framing: "cobs" }, undefined, "\0"), "00010100");
  assert.equal(
    encode({ checksum: "crc16-modbus" }, undefined, "123456789"),
    `c0${hexOf("123456789")}374bc0`,
  );
  assert.equal(encode({}, "led", "on"), `c0${hexOf("led=on")}c0`);
  assert.equal(encode({ command: "{channel}:{payload}" }, "led", "1"), `c0${hexOf("led:1")}c0`);
});

test("refuses a command that makes no frame, or one that is too long", () => {
  assert.equal(encode({}, undefined, ""), "a frame has at least one byte");
  const settings = { frame_bytes_max: 10, checksum: "crc16-modbus" } as const;
  assert.equal(encode(settings, undefined, "123456789"), "the frame is longer than 10 bytes");
  assert.match(encode(settings, undefined, "12345678"), /^c0.*c0$/);
});

test("takes back each command that it wrote, wherever the bytes are cut, whatever came before", () => {
  const bytesOf = fc.uint8Array({ minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(settingsOf, bytesOf, bytesOf, (settings, payload, garbage) => {
      const some = { ...settings, format: "raw" } as const;
      const encoded = codec(some).encode({ channel: undefined, payload });
      if (encoded.kind === "refused") return;
      const reader = codec(some);
      const decoded = [...garbage, ...encoded.bytes].flatMap((byte) =>
        reader.decode(Buffer.of(byte)),
      );
      const last = decoded.at(-1);
      assert.ok(last?.kind === "message" && last.message.channel === "frame");
      assert.deepEqual(Buffer.from(last.message.payload), Buffer.from(payload));
    }),
    RUNS,
  );
});

test("takes any bytes", () => {
  const byteOf = fc.oneof(
    fc.constantFrom(0, 0xc0, 0xdb, ...Buffer.from('{":1}=,')),
    fc.integer({ min: 0, max: 255 }),
  );
  fc.assert(
    fc.property(settingsOf, fc.array(byteOf, { maxLength: 600 }), (settings, bytes) => {
      for (const decoded of codec(settings).decode(Buffer.from(bytes))) {
        if (decoded.kind !== "message") continue;
        assert.match(decoded.message.channel, /^[^/+#\0]+$/);
        assert.ok(decoded.message.payload.length <= settings.frame_bytes_max);
      }
    }),
    RUNS,
  );
});

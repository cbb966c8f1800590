// text.test: strings of MQTT, in every field that has one.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ProtocolLevel } from "../../../../broker/mqtt/wire/packets.ts";
import {
  CODE,
  connect,
  faultIn,
  field,
  LEVELS,
  packet,
  properties,
  publish,
  raw,
  read,
  readConnect,
} from "./packet-bytes.ts";

type Maker = (level: ProtocolLevel, text: Uint8Array) => Buffer;

const FIELDS: readonly (readonly [string, Maker])[] = [
  ["a client id", (level, text) => connect(level, { clientId: text })],
  ["a user name", (level, text) => connect(level, { flags: 0x82, rest: field(text) })],
  [
    "a will topic",
    (level, text) =>
      connect(level, { flags: 0x06, rest: raw(properties(level), field(text), field("x")) }),
  ],
  ["a topic name", (level, text) => publish(level, { topic: text })],
  [
    "a filter of SUBSCRIBE",
    (level, text) => packet(0x82, "0001", properties(level), field(text), "00"),
  ],
  [
    "a filter of UNSUBSCRIBE",
    (level, text) => packet(0xa2, "0001", properties(level), field("a"), field(text)),
  ],
];

/** The packet read, whichever it is. */
function accept(level: ProtocolLevel, bytes: Buffer) {
  return (bytes[0] ?? 0) === 0x10 ? readConnect(bytes) : read(level, bytes);
}

function assertMalformed(maker: Maker, text: Uint8Array): void {
  for (const level of LEVELS) {
    const fault = faultIn(() => accept(level, maker(level, text)));
    assert.equal(
      fault.reasonCode,
      CODE.malformed,
      `level ${level}: ${Buffer.from(text).toString("hex")}`,
    );
  }
}

/** Ill-formed: stray, cut, overlong, beyond U+10FFFF. */
const ILL_FORMED = ["80", "61ff", "c3", "e282", "f09f92", "c0af", "e080af", "f4908080", "fe"];

for (const [name, maker] of FIELDS) {
  test(`[MQTT-1.5.3-1, MQTT 5: 1.5.4-1] refuses ill-formed UTF-8 in ${name}`, () => {
    for (const hex of ILL_FORMED) assertMalformed(maker, raw("61", hex, "61"));
  });

  test(`[MQTT-1.5.3-1, MQTT 5: 1.5.4-1] refuses surrogates in ${name}`, () => {
    for (const hex of ["eda080", "edbfbf", "eda0bdedb880"]) assertMalformed(maker, raw("61", hex));
  });

  test(`[MQTT-1.5.3-2, MQTT 5: 1.5.4-2] refuses U+0000 in ${name}`, () => {
    for (const hex of ["00", "610061", "c3bc00"]) assertMalformed(maker, raw(hex));
  });

  test(`[MQTT-1.5.3-3, MQTT 5: 1.5.4-3] keeps U+FEFF in ${name}`, () => {
    for (const level of LEVELS) {
      const one = accept(level, maker(level, raw("efbbbf61")));
      assert.ok(JSON.stringify(one).includes("\ufeffa"));
    }
  });
}

test("takes a password of any bytes", () => {
  for (const level of LEVELS) {
    const rest = raw(field("u"), field(raw("00ff80")));
    assert.equal(readConnect(connect(level, { flags: 0xc2, rest })).type, 1);
  }
});

test("reads back every string that is text", () => {
  const text = fc.string({ unit: "binary", minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(text, (drawn) => {
      const filter = drawn.replaceAll("\u0000", "x");
      const topic = filter.replaceAll(/[+#]/g, "_");
      const subscribed = read(5, packet(0x82, "0001 00", field(filter), "00"));
      const published = read(4, publish(4, { topic }));
      assert.ok(subscribed.type === 8 && published.type === 3);
      assert.equal(subscribed.subscriptions[0]?.filter, filter);
      assert.equal(published.topic, topic);
    }),
    { seed: 1, numRuns: 2_000 },
  );
});

test("judges every string as the decoder of the platform does", () => {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const isText = (bytes: Uint8Array) => {
    try {
      return !decoder.decode(bytes).includes("\u0000");
    } catch {
      return false;
    }
  };
  const byte = fc.oneof(fc.nat(255), fc.constantFrom(0xed, 0xa0, 0x80, 0xf4, 0x8f, 0xbf, 0xc2));
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 6 }), (numbers) => {
      const bytes = raw(numbers);
      const subscribe = packet(0x82, "0001", field(bytes), "00");
      if (isText(bytes)) assert.equal(read(4, subscribe).type, 8);
      else assert.equal(faultIn(() => read(4, subscribe)).reasonCode, CODE.malformed);
    }),
    { seed: 1, numRuns: 3_000 },
  );
});

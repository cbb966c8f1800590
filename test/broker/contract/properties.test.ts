// properties.test: what is promised about raw MQTT 5.0 properties that are passed on.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Message } from "#contract/message";
import {
  COMMAND_PROPERTY,
  joinProperties,
  propertiesWithout,
  responseOf,
  userProperty,
  withoutCommandId,
} from "#contract/properties";
import { assertOnlyFrameInvalid } from "./frame-invalid.ts";

const RUNS = { seed: 20_260_106, numRuns: 1_000 } as const;
const NAMES: ReadonlySet<string> = new Set(["sluice-gateway", "sluice-lane"]);

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const without = (properties: Uint8Array) => joinProperties(propertiesWithout(properties, NAMES));

const texts = fc.string({ unit: "binary", maxLength: 20 }).filter((it) => !it.includes("\u0000"));
const names = fc.oneof(texts, fc.constantFrom(...NAMES, "sluice-", "Sluice-Gateway"));
const others = fc.subarray(["0101", "03000161", "080003612f62", "09000200ff"]);

test("writes a user property as MQTT 5.0 §3.3.2.3.7 has it", () => {
  assert.equal(hex(userProperty("ab", "ä")), "26000261620002c3a4");
  assert.equal(hex(userProperty("", "")), "2600000000");
  assert.equal(hex(userProperty("a", "x".repeat(300)).subarray(0, 6)), "26000161012c");
});

test("writes text of 65,535 bytes, and refuses a byte more [MQTT-1.5.4]", () => {
  assert.equal(userProperty("", "ä".repeat(32_767)).length, 1 + 2 + 2 + 65_534);
  for (const value of ["ä".repeat(32_768), "x".repeat(65_536)]) {
    const refusal = { name: "SluiceError", code: "FRAME_INVALID", message: /has 65536 bytes/ };
    assert.throws(() => userProperty("a", value), refusal);
    assert.throws(() => userProperty(value, "a"), refusal);
  }
});

test("writes no lone surrogate and no U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2]", () => {
  for (const text of ["\ud800", "a\u0000"]) {
    assert.throws(() => userProperty(text, "a"), { code: "FRAME_INVALID" });
    assert.throws(() => userProperty("a", text), { code: "FRAME_INVALID" });
  }
});

test("leaves out the user properties of the given names, each time that they stand there", () => {
  const [own, forged] = [userProperty("room", "7"), userProperty("sluice-gateway", "gw-002")];
  const format = Uint8Array.of(1, 1);
  assert.equal(
    hex(without(joinProperties([forged, own, forged, format, forged]))),
    hex(joinProperties([own, format])),
  );
  assert.equal(hex(without(forged)), "");
});

test("keeps all else as it is and in its order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(names, texts), { maxLength: 6 }),
      others,
      fc.infiniteStream(fc.nat()),
      (pairs, hexes, places) => {
        const parts: { readonly name?: string; readonly bytes: Uint8Array }[] = pairs.map(
          ([name, value]) => ({ name, bytes: userProperty(name, value) }),
        );
        for (const it of hexes) {
          const bytes = Buffer.from(it, "hex");
          parts.splice(Number(places.next().value) % (parts.length + 1), 0, { bytes });
        }
        const kept = parts.filter(({ name }) => name === undefined || !NAMES.has(name));
        assert.equal(
          hex(without(joinProperties(parts.map(({ bytes }) => bytes)))),
          hex(joinProperties(kept.map(({ bytes }) => bytes))),
        );
      },
    ),
    RUNS,
  );
});

test("refuses what a subscriber would have to end its connection for", () => {
  const bad: Record<string, string> = {
    "00": "holds property 0, which is not passed on",
    "0200000001": "holds property 2, which is not passed on",
    "230001": "holds property 35, which is not passed on",
    a600: "holds property 166, which is not passed on",
    "0102": "holds payload format 2",
    "01000101": "holds property 1 twice",
    "030000030000": "holds property 3 twice",
    "0300": "ends in the middle of a field",
    "03000261": "wants 2 bytes, has 1",
    "030001ff": "holds text that is not UTF-8",
    "030003eda080": "holds text that is not UTF-8",
    "03000100": "a property's text holds U+0000",
    "080000": "holds a response topic that is empty or a filter",
    "0800012b": "holds a response topic that is empty or a filter",
    "080003612f23": "holds a response topic that is empty or a filter",
    "090002ff": "wants 2 bytes, has 1",
    "26000161": "ends in the middle of a field",
    "260001610001": "wants 1 bytes, has 0",
    "260001000000": "a property's text holds U+0000",
    "260000000100": "a property's text holds U+0000",
  };
  for (const [input, message] of Object.entries(bad)) {
    assert.throws(
      () => without(Buffer.from(input, "hex")),
      { code: "FRAME_INVALID", message },
      input,
    );
  }
});

test("answers arbitrary bytes with properties that it takes again, or FRAME_INVALID", () => {
  const ids = fc.constantFrom(0x01, 0x03, 0x08, 0x09, 0x26);
  const bytes = fc
    .tuple(ids, fc.uint8Array({ maxLength: 12, max: 3 }), fc.uint8Array({ maxLength: 12 }))
    .map(([id, lengths, rest]) => Uint8Array.of(id, ...lengths, ...rest));
  fc.assert(
    fc.property(fc.oneof(bytes, fc.uint8Array({ maxLength: 40 })), (input) => {
      assertOnlyFrameInvalid(() => {
        const kept = without(input);
        assert.equal(hex(without(kept)), hex(kept));
      });
    }),
    { ...RUNS, numRuns: 5_000 },
  );
});

const message = (properties?: Uint8Array): Message => ({
  ...{ topic: "t", payload: new Uint8Array(), qos: 0, retain: false, takenAtMs: 1 },
  ...(properties ? { properties } : {}),
});

test("takes a command's id from a message that is none, and leaves all else", () => {
  const similar = [userProperty("sluice-comman", "d"), userProperty("x", COMMAND_PROPERTY)];
  const forged = userProperty(COMMAND_PROPERTY, "1-0");
  for (const kept of [joinProperties([]), joinProperties(similar), Uint8Array.of(1, 1)]) {
    const cleaned = withoutCommandId(message(joinProperties([forged, kept, forged]))).properties;
    assert.equal(hex(cleaned ?? Uint8Array.of(0)), hex(kept));
    assert.deepEqual(withoutCommandId(message(kept)), message(kept));
  }
  const plain = message();
  assert.equal(withoutCommandId(plain), plain);
});

test("tells where a request is to be answered [MQTT 5.0 4.10]", () => {
  const [topic, correlation] = ["080003612f62", "09000200ff"];
  const read = (...parts: string[]) => {
    const response = responseOf(Buffer.from(parts.join(""), "hex"));
    return [response.topic, response.correlation && hex(response.correlation)];
  };
  assert.deepEqual(read("0101", topic, hex(userProperty("a", "b")), correlation), [
    "a/b",
    correlation,
  ]);
  assert.deepEqual(read(topic), ["a/b", undefined]);
  assert.deepEqual(read(correlation), [undefined, correlation]);
  assert.deepEqual(read(), [undefined, undefined]);
  assert.throws(() => read("080003612f23"), { code: "FRAME_INVALID" });
});

// codec.test: lines of the MySensors protocol, and what is none.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseLine, serialiseLine } from "../../../../firmware-bridge/drivers/mysensors/codec.ts";

const byte = fc.nat(255);
const payload = fc
  .uint8Array({ maxLength: 40 })
  .map((bytes) => Uint8Array.from(bytes.filter((it) => it !== 0x0a && it !== 0x0d)));
const messages = fc.record({
  ...{ node: byte, child: byte, command: fc.nat(4), ack: fc.boolean(), type: byte },
  payload,
});

const parsed = (line: string) => parseLine(Buffer.from(line));

test("reads back every message that it writes", () => {
  fc.assert(
    fc.property(messages, (message) => {
      const line = serialiseLine(message);
      assert.equal(line.at(-1), 0x0a);
      const read = parseLine(line.subarray(0, -1));
      const bytes = Uint8Array.from(read?.payload ?? []);
      assert.deepEqual({ ...read, payload: bytes }, { ...message });
    }),
    { seed: 5 },
  );
});

test("reads the examples of the protocol's description", () => {
  const fields = (line: string) => {
    const { node, child, command, ack, type, payload: text } = parsed(line) ?? assert.fail(line);
    return [node, child, command, ack, type, Buffer.from(text).toString()];
  };
  assert.deepEqual(fields("12;6;0;0;3;My Light"), [12, 6, 0, false, 3, "My Light"]);
  assert.deepEqual(fields("12;6;1;0;0;36.5"), [12, 6, 1, false, 0, "36.5"]);
  assert.deepEqual(fields("13;7;1;1;2;1"), [13, 7, 1, true, 2, "1"]);
  assert.deepEqual(fields("255;255;3;0;3;"), [255, 255, 3, false, 3, ""]);
  assert.deepEqual(fields("9;1;1;0;49;55.7;13.0;18"), [9, 1, 1, false, 49, "55.7;13.0;18"]);
});

test("takes nothing else for a message", () => {
  const lines = [
    ...["", ";", "1;2;1;0;0", "256;1;1;0;0;1", "1;256;1;0;0;1", "1;1;5;0;0;1", "1;1;1;2;0;1"],
    ...["1;1;1;0;256;1", "-1;1;1;0;0;1", "1;;1;0;0;1", "1; 1;1;0;0;1", "0001;1;1;0;0;1"],
    ...["1.5;1;1;0;0;1", "0;0;3;0x0;9;x", "ets Jan  8 2013,rst cause:2, boot mode:(3,6)"],
  ];
  for (const line of lines) assert.equal(parsed(line), undefined, line);
});

test("makes of any bytes a message within bounds, or none", () => {
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.string({ unit: fc.constantFrom(..."0123456789;;;;.-x"), maxLength: 40 }).map(Buffer.from),
  );
  fc.assert(
    fc.property(noise, (bytes) => {
      const message = parseLine(bytes);
      if (!message) return;
      for (const field of [message.node, message.child, message.type]) assert.ok(field <= 255);
      assert.ok(message.command <= 4);
    }),
    { seed: 5, numRuns: 5_000 },
  );
});

// message.test: what the records of messages and gaps promise.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  decodeRecord,
  encodeGap,
  encodeMessage,
  type GapRecord,
  type Message,
  type Qos,
} from "#contract/message";
import { assertOnlyFrameInvalid } from "./frame-invalid.ts";

const RUNS = { seed: 20_260_102, numRuns: 1_000 } as const;

const text = fc.string({ unit: "binary", maxLength: 60 });

const messages: fc.Arbitrary<Message> = fc.record(
  {
    topic: text,
    payload: fc.uint8Array({ maxLength: 300 }),
    qos: fc.constantFrom<Qos>(0, 1, 2),
    retain: fc.boolean(),
    takenAtMs: fc.maxSafeNat(),
  },
  { noNullPrototype: true },
);

const gaps: fc.Arbitrary<GapRecord> = fc
  .record({ from: fc.integer({ min: 1, max: 2 ** 40 }), more: fc.nat(), reason: text })
  .chain(({ from, more, reason }) =>
    fc.nat({ max: more + 1 }).map((count) => ({ from, to: from + more, count, reason })),
  );

test("reads back each message that it wrote", () => {
  fc.assert(
    fc.property(messages, (message) => {
      assert.deepEqual(decodeRecord(encodeMessage(message)), { kind: "message", message });
    }),
    RUNS,
  );
});

test("reads back each gap that it wrote", () => {
  fc.assert(
    fc.property(gaps, (gap) => {
      assert.deepEqual(decodeRecord(encodeGap(gap)), { kind: "gap", gap });
    }),
    RUNS,
  );
});

test("keeps U+FEFF at the front of a topic [MQTT-1.5.3-3]", () => {
  const message = { topic: "\uFEFFa/b", payload: new Uint8Array(), qos: 1, retain: false } as const;
  const record = decodeRecord(encodeMessage({ ...message, takenAtMs: 5 }));
  assert.equal(record.kind === "message" && record.message.topic, "\uFEFFa/b");
});

test("gives the payload as a view of the record's bytes", () => {
  const payload = Uint8Array.of(1, 2, 3);
  const bytes = encodeMessage({ topic: "a", payload, qos: 0, retain: false, takenAtMs: 1 });
  const record = decodeRecord(bytes);
  assert.equal(record.kind === "message" && record.message.payload.buffer, bytes.buffer);
});

test("keeps the layout that lies on disks and in the cloud", () => {
  const message = { topic: "a/b", payload: Uint8Array.of(0xff), qos: 1, retain: true } as const;
  const record = encodeMessage({ ...message, takenAtMs: 300 });
  assert.equal(Buffer.from(record).toString("hex"), "51ac0203612f62ff");
  const gap = encodeGap({ from: 1, to: 300, count: 299, reason: "x" });
  assert.equal(Buffer.from(gap).toString("hex"), "0201ac02ab0278");
});

test("refuses what is cut off, of another kind, QoS 3, no UTF-8, or a gap that cannot be", () => {
  const bad: Record<string, string> = {
    "": "ends in the middle of a field",
    "03": "begins with 3, which no record does",
    "12": "begins with 18, which no record does",
    "3100": "begins with 49, which no record does",
    "8100": "begins with 129, which no record does",
    "110005": "wants 5 bytes, has 0",
    "110001ff": "holds text that is not UTF-8",
    "02000000": "gap of 0 in 0..0",
    "02020101": "gap of 1 in 2..1",
    "02010102": "gap of 2 in 1..1",
    "02010101c0": "holds text that is not UTF-8",
  };
  for (const [hex, message] of Object.entries(bad)) {
    assert.throws(() => decodeRecord(Buffer.from(hex, "hex")), { code: "FRAME_INVALID", message });
  }
});

test("answers arbitrary bytes with a record or FRAME_INVALID", () => {
  const begins = fc.constantFrom(0x01, 0x11, 0x21, 0x41, 0x51, 0x02, 0x31, 0x00, 0xff);
  const bytes = fc
    .tuple(begins, fc.uint8Array({ maxLength: 40 }))
    .map(([first, rest]) => Uint8Array.of(first, ...rest));
  fc.assert(
    fc.property(fc.oneof(bytes, fc.uint8Array({ maxLength: 60 })), (input) => {
      assertOnlyFrameInvalid(() => decodeRecord(input));
    }),
    { ...RUNS, numRuns: 5_000 },
  );
});

test("answers a record with a flipped bit with a record or FRAME_INVALID", () => {
  fc.assert(
    fc.property(
      fc.oneof(messages.map(encodeMessage), gaps.map(encodeGap)),
      fc.nat(),
      (bytes, at) => {
        const index = (at >> 3) % bytes.length;
        bytes[index] = (bytes[index] ?? 0) ^ (1 << (at & 7));
        assertOnlyFrameInvalid(() => decodeRecord(bytes));
      },
    ),
    RUNS,
  );
});

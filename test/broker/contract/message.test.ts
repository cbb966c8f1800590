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
  isExpired,
  type Message,
  moveExpiry,
  type Qos,
  recordExpiresAtMs,
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
    expiresAtMs: fc.maxSafeNat(),
    publisher: text,
    properties: fc.uint8Array({ maxLength: 300 }),
  },
  {
    noNullPrototype: true,
    requiredKeys: ["topic", "payload", "qos", "retain", "takenAtMs"],
  },
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

test("texts of any length are written whole, and memory that is given need not be clean", () => {
  const dirty = (length: number) => new Uint8Array(length).fill(0xff);
  const lengths = [0, 1, 682, 683, 1_365, 1_366, 4_096, 21_845];
  for (const character of ["a", "ü", "水", "𝄞"]) {
    for (const length of lengths) {
      for (const other of lengths) {
        const topic = character.repeat(length);
        const publisher = character.repeat(other);
        const payload = Uint8Array.of(1, 2, 3);
        const message = { topic, publisher, payload, qos: 1, retain: false, takenAtMs: 7 } as const;
        assert.deepEqual(decodeRecord(encodeMessage(message, dirty)), { kind: "message", message });
      }
    }
  }
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

test("keeps expiry, publisher and properties of a message, whichever it has", () => {
  const extras = { expiresAtMs: 2, publisher: "p", properties: Uint8Array.of(1, 1) };
  const layouts: [Partial<Message>, string][] = [
    [{}, "110501616d"],
    [{ expiresAtMs: 2 }, "9105010201616d"],
    [{ publisher: "p" }, "910502017001616d"],
    [{ publisher: "" }, "9105020001616d"],
    [{ properties: Uint8Array.of(1, 1) }, "91050402010101616d"],
    [extras, "91050702017002010101616d"],
  ];
  const plain = { topic: "a", payload: Buffer.from("m"), qos: 1, retain: false, takenAtMs: 5 };
  for (const [has, hex] of layouts) {
    const message = { ...plain, ...has } as Message;
    assert.equal(Buffer.from(encodeMessage(message)).toString("hex"), hex);
  }
});

test("keeps a steady clock's fractions out of records, and times out of a varint's range", () => {
  const plain = { topic: "a", payload: new Uint8Array(), qos: 1, retain: false } as const;
  const kept = (expiresAtMs: number) =>
    recordExpiresAtMs(encodeMessage({ ...plain, takenAtMs: 1.5, expiresAtMs }));
  assert.deepEqual([kept(1_234.9), kept(-5), kept(2 ** 60)], [1_234, 0, Number.MAX_SAFE_INTEGER]);
});

test("tells when a record expires without reading the rest of it", () => {
  fc.assert(
    fc.property(messages, (message) => {
      assert.equal(recordExpiresAtMs(encodeMessage(message)), message.expiresAtMs);
    }),
    RUNS,
  );
  assert.equal(recordExpiresAtMs(encodeGap({ from: 1, to: 1, count: 1, reason: "x" })), undefined);
  assert.throws(() => recordExpiresAtMs(Uint8Array.of(0x91, 1)), { code: "FRAME_INVALID" });
});

test("a message is expired from its last moment on, one without expiry never", () => {
  assert.deepEqual([isExpired(10, 9.9), isExpired(10, 10), isExpired(10, 11)], [false, true, true]);
  assert.equal(isExpired(undefined, Number.MAX_SAFE_INTEGER), false);
});

test("moves an expiry, and nothing else, to another clock, within what a record holds", () => {
  const plain: Message = {
    topic: "a",
    payload: new Uint8Array(),
    qos: 1,
    retain: false,
    takenAtMs: 1,
  };
  assert.deepEqual(moveExpiry(plain, 5), plain);
  const moved = (by: number) => moveExpiry({ ...plain, expiresAtMs: 100 }, by);
  assert.deepEqual(moved(-40), { ...plain, expiresAtMs: 60 });
  assert.deepEqual(
    [moved(-1_000).expiresAtMs, moved(2 ** 60).expiresAtMs],
    [0, Number.MAX_SAFE_INTEGER],
  );
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
    "8200": "begins with 130, which no record does",
    b100: "begins with 177, which no record does",
    "8100": "ends in the middle of a field",
    "810000": "announces extras by 0, which no record does",
    "810008": "announces extras by 8, which no record does",
    "81000180": "ends in the middle of a field",
    "81000202c3": "wants 2 bytes, has 1",
    "81000201c30000": "holds text that is not UTF-8",
    "81000405": "wants 5 bytes, has 0",
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
  const extras = fc
    .tuple(fc.constantFrom(0x81, 0x91, 0xe1, 0xb1), fc.nat(9), fc.uint8Array({ maxLength: 40 }))
    .map(([first, flags, rest]) => Uint8Array.of(first, 0, flags, ...rest));
  fc.assert(
    fc.property(fc.oneof(bytes, extras, fc.uint8Array({ maxLength: 60 })), (input) => {
      assertOnlyFrameInvalid(() => decodeRecord(input));
      assertOnlyFrameInvalid(() => recordExpiresAtMs(input));
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

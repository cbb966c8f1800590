// bus-entry.test: what an entry of the bus carries comes back whole, and garbage does no harm.
// Path: test → bus-entry. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Message, Qos } from "#contract/message";
import {
  BEGINNING,
  type BusPacket,
  decodeEntry,
  encodeEntry,
  encodePacket,
  entryLabel,
  follows,
  idOf,
  isBefore,
  placeOf,
} from "../../../broker/cluster/bus-entry.ts";

const SEEDED = { seed: 4, numRuns: 500 } as const;

const bytes = fc.uint8Array({ maxLength: 300 });
const PLAIN = { noNullPrototype: true } as const;
const text = fc.string({ unit: "grapheme", maxLength: 20 }).filter((it) => it.isWellFormed());
const message: fc.Arbitrary<Message> = fc.record(
  {
    topic: text,
    payload: bytes,
    qos: fc.constantFrom<Qos>(0, 1, 2),
    retain: fc.boolean(),
    takenAtMs: fc.nat(),
    expiresAtMs: fc.nat(),
    publisher: text,
    properties: bytes,
  },
  {
    requiredKeys: ["topic", "payload", "qos", "retain", "takenAtMs"],
    noNullPrototype: true,
  },
);
const envelope = fc.record(
  {
    message,
    queued: fc.array(text),
    chosen: fc.array(fc.record({ key: text, clientId: text }, PLAIN)),
    isRepeat: fc.boolean(),
  },
  PLAIN,
);
const session = fc.record(
  {
    clientId: text,
    expirySeconds: fc.nat(),
    subscriptions: fc.constant([]),
    will: fc.record({ message, delaySeconds: fc.nat() }, PLAIN),
    sentUpTo: fc.nat(),
  },
  PLAIN,
);
const packet: fc.Arbitrary<BusPacket> = fc.oneof(
  envelope.map((it) => ({
    topic: it.message.topic,
    payload: Buffer.alloc(0),
    properties: { envelope: it },
  })),
  session.map((it) => ({
    topic: "$SYS/b/sluice",
    payload: Buffer.alloc(0),
    properties: { notice: { kind: "session", session: it } },
  })),
  fc.record({ topic: text, payload: bytes.map((it) => Buffer.from(it)) }, PLAIN),
);

const raw = (fields: readonly (string | Buffer)[]) => fields.map((it) => Buffer.from(it as string));

test("packets come back as they were, in their order, with who wrote them", () => {
  fc.assert(
    fc.property(fc.array(packet, { maxLength: 8 }), (packets) => {
      const fields = raw(encodeEntry({ writer: "w", count: 7 }, packets.map(encodePacket)));
      assert.deepEqual(entryLabel(fields), { writer: "w", count: 7 });
      assert.deepEqual(decodeEntry(fields), packets);
    }),
    SEEDED,
  );
});

test("what was changed on its way is read or refused, with one error", () => {
  const change = fc.record({
    packets: fc.array(packet, { maxLength: 4 }),
    at: fc.nat(),
    to: bytes,
  });
  fc.assert(
    fc.property(change, ({ packets, at, to }) => {
      const fields = raw(encodeEntry({ writer: "w", count: 7 }, packets.map(encodePacket)));
      fields[at % fields.length] = Buffer.from(to);
      assertReadOrRefused(fields);
    }),
    SEEDED,
  );
});

test("JSON of any shape is read or refused, with one error", () => {
  fc.assert(
    fc.property(fc.array(fc.jsonValue()), bytes, (heads, records) => {
      const json = JSON.stringify(heads);
      const fields = ["writer", "w", "count", "1", "heads", json, "records", Buffer.from(records)];
      assertReadOrRefused(raw(fields));
    }),
    SEEDED,
  );
});

function assertReadOrRefused(fields: readonly Buffer[]): void {
  try {
    entryLabel(fields);
    for (const { topic } of decodeEntry(fields)) assert.equal(typeof topic, "string");
  } catch (fault) {
    assert.equal((fault as { code?: string }).code, "FRAME_INVALID", String(fault));
  }
}

test("places of one series are contiguous, and a newer series is behind an older one", () => {
  assert.equal(idOf(BEGINNING), "0-0");
  assert.deepEqual(placeOf("0-0"), BEGINNING);
  assert.equal(follows(placeOf("1-0"), BEGINNING), true);
  assert.equal(follows(placeOf("1-11"), placeOf("1-10")), true);
  assert.equal(follows(placeOf("1-12"), placeOf("1-10")), false);
  assert.equal(follows(placeOf("2-0"), placeOf("1-10")), false);
  assert.equal(isBefore(placeOf("1-9"), placeOf("1-10")), true);
  assert.equal(isBefore(placeOf("1-10"), placeOf("2-0")), true);
  assert.equal(isBefore(placeOf("1-10"), placeOf("1-10")), false);
});

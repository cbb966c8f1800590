import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SluiceError } from "#contract/errors";
import { encodeGap, encodeMessage } from "#contract/message";
import {
  decodeEntry,
  encodeEntry,
  entryOf,
  messageOf,
  RELEASED_ENTRY,
} from "../../../broker/store/queue-entry.ts";

const RECORD = encodeMessage({
  topic: "t/é",
  payload: new Uint8Array([0, 1, 255]),
  qos: 2,
  retain: true,
  takenAtMs: 1_700_000_000_000,
});

const target = fc.record({
  qos: fc.constantFrom<1 | 2>(1, 2),
  retain: fc.boolean(),
  subscriptionIds: fc.array(fc.integer({ min: 1, max: 268_435_455 })),
  shared: fc.option(fc.string({ unit: "binary" }), { nil: undefined }),
});

test("every entitlement comes back from its bytes", () => {
  fc.assert(
    fc.property(target, ({ shared, ...rest }) => {
      const given = shared === undefined ? rest : { ...rest, shared };
      const decoded = decodeEntry(7, encodeEntry(given, RECORD));
      assert.deepEqual(decoded, entryOf(7, given, messageOf(RECORD)));
    }),
    { seed: 1, numRuns: 500 },
  );
});

test("a released entry is the number and nothing else", () => {
  const released = { number: 7, qos: 2, retain: false, subscriptionIds: [], message: undefined };
  assert.deepEqual(decodeEntry(7, RELEASED_ENTRY), released);
});

test("bytes that are no entry are refused as such, never misread for something worse", () => {
  const refused = (bytes: Uint8Array) =>
    assert.throws(() => decodeEntry(1, bytes), { code: "FRAME_INVALID" });
  refused(new Uint8Array());
  refused(new Uint8Array([0, ...RECORD]));
  refused(new Uint8Array([3, ...RECORD]));
  refused(new Uint8Array([0x21, ...RECORD]));
  refused(new Uint8Array([0x09, 0xff, 0xff, 0xff, 0x7f]));
  refused(new Uint8Array([0x11, 1, 0xff, ...RECORD]));
  refused(new Uint8Array([1, ...encodeGap({ from: 1, to: 1, count: 1, reason: "" })]));
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      try {
        decodeEntry(1, bytes);
      } catch (fault) {
        assert.ok(fault instanceof SluiceError && fault.code === "FRAME_INVALID");
      }
    }),
    { seed: 1, numRuns: 2_000 },
  );
});

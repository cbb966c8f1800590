// publication.test: a message is serialised once for all who get it alike, and never told wrong.
// Path: test. Touches: the clock of its process.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Message, Qos } from "#contract/message";
import { steadyNowMs } from "#runtime/clock";
import { type Form, Publication } from "../../../broker/mqtt/publication.ts";
import { readPacket } from "../../conformance/support/wire-read.ts";
import { messageOf } from "./arbitraries.ts";

const form: fc.Arbitrary<Form> = fc.record({
  qos: fc.constantFrom<Qos>(0, 1, 2),
  retain: fc.boolean(),
  subscriptionIds: fc.constantFrom<number[]>([], [], [1], [12], [1, 2]),
});
const asked = fc.record({ level: fc.constantFrom<3 | 4 | 5>(3, 4, 5), form, laterMs: fc.nat(900) });

test("says to each the QoS, RETAIN, identifiers and expiry of its own, at any time", (t) => {
  let nowMs = 1_000;
  t.mock.method(performance, "now", () => nowMs);
  const property = fc.property(
    fc.array(asked, { maxLength: 30 }),
    fc.option(fc.integer({ min: 1, max: 10 }), { nil: undefined }),
    (all, seconds) => {
      const expiry: Partial<Message> =
        seconds === undefined ? {} : { expiresAtMs: steadyNowMs() + seconds * 1_000 };
      const publication = new Publication(messageOf("a/é", "text", expiry));
      for (const { level, form, laterMs } of all) {
        nowMs += laterMs;
        const { bytes, packetIdAt } = publication.bytes(level, form);
        const withId = Buffer.from(bytes);
        // A PUBLISH of QoS 1 or 2 never has the id 0 [MQTT-2.2.1-3].
        if (form.qos > 0) withId.writeUInt16BE(7, packetIdAt);
        else assert.equal(packetIdAt, -1);
        const packet = readPacket(withId, level === 5 ? 5 : 4);
        const { topic, payload, qos, retain, dup, packetId } = packet ?? {};
        assert.deepEqual(
          { topic, payload, qos, retain, dup, packetId },
          {
            topic: "a/é",
            payload: "text",
            qos: form.qos,
            retain: form.retain,
            dup: false,
            packetId: form.qos > 0 ? 7 : 0,
          },
        );
        const leftMs = (expiry.expiresAtMs ?? 0) - steadyNowMs();
        const { messageExpiryInterval, subscriptionIdentifier = [] } = packet?.properties ?? {};
        const told = seconds === undefined ? undefined : Math.max(0, Math.ceil(leftMs / 1_000));
        assert.equal(messageExpiryInterval, level === 5 ? told : undefined);
        assert.deepEqual(subscriptionIdentifier, level === 5 ? form.subscriptionIds : []);
        assert.equal(publication.isExpired, seconds !== undefined && leftMs <= 0);
      }
    },
  );
  fc.assert(property, { seed: 1, numRuns: 300 });
});

test("is serialised once for all who get it alike", () => {
  const publication = new Publication(messageOf("a", "1"));
  const plain = (): Form => ({ qos: 1, retain: false, subscriptionIds: [] });
  const identified = (): Form => ({ ...plain(), subscriptionIds: [3, 4] });
  assert.equal(publication.bytes(3, plain()), publication.bytes(4, plain()));
  assert.equal(publication.bytes(5, plain()), publication.bytes(5, plain()));
  assert.equal(publication.bytes(5, identified()), publication.bytes(5, identified()));
  assert.notEqual(publication.bytes(4, plain()), publication.bytes(5, plain()));
});

// arbitraries: any MQTT-SN message, for property tests.
// Path: tests. Touches: nothing.

import fc from "fast-check";
import type {
  Packet,
  TopicChoice,
  TopicReference,
} from "../../../../firmware-bridge/drivers/mqtt-sn/packets.ts";

export const RUNS = { seed: 20_131_114, numRuns: 1_000 } as const;

const octet = fc.integer({ min: 0, max: 255 });
const word = fc.integer({ min: 0, max: 65_535 });
const flag = fc.boolean();
const qos = fc.constantFrom(-1 as const, 0 as const, 1 as const, 2 as const);
const text = fc.string({ unit: "grapheme", maxLength: 200 }).filter((it) => it.isWellFormed());
const someText = text.filter((it) => it !== "");
export const bytes = fc.uint8Array({ maxLength: 300 });

const reference: fc.Arbitrary<TopicReference> = fc.record({
  kind: fc.constantFrom("normal" as const, "predefined" as const, "short" as const),
  id: word,
});
const choice: fc.Arbitrary<TopicChoice> = fc.oneof(
  fc.record({ kind: fc.constant("name" as const), name: someText }),
  fc.record({ kind: fc.constantFrom("predefined" as const, "short" as const), id: word }),
);
const will = fc.option(fc.record({ qos, retain: flag, topic: someText }), { nil: undefined });

function of<const T extends string>(...types: T[]): fc.Arbitrary<T> {
  return fc.constantFrom(...types);
}

const answer = { topicId: word, messageId: word, returnCode: octet };

export const packets: fc.Arbitrary<Packet> = fc.oneof(
  fc.record({ type: of("advertise"), gatewayId: octet, durationSeconds: word }),
  fc.record({ type: of("searchgw"), radius: octet }),
  fc.record({ type: of("gwinfo"), gatewayId: octet, address: bytes }),
  fc.record({
    type: of("connect"),
    will: flag,
    cleanSession: flag,
    protocolId: octet,
    durationSeconds: word,
    clientId: text,
  }),
  fc.record({ type: of("connack", "willtopicresp", "willmsgresp"), returnCode: octet }),
  fc.record({ type: of("willtopicreq", "willmsgreq", "pingresp") }),
  fc.record({ type: of("willtopic", "willtopicupd"), will }),
  fc.record({ type: of("willmsg", "willmsgupd"), message: bytes }),
  fc.record({ type: of("register"), topicId: word, messageId: word, topic: someText }),
  fc.record({ type: of("regack", "puback"), ...answer }),
  fc.record({
    type: of("publish"),
    dup: flag,
    qos,
    retain: flag,
    topic: reference,
    messageId: word,
    data: bytes,
  }),
  fc.record({ type: of("pubrec", "pubrel", "pubcomp", "unsuback"), messageId: word }),
  fc.record({ type: of("subscribe"), dup: flag, qos, messageId: word, topic: choice }),
  fc.record({ type: of("suback"), qos, ...answer }),
  fc.record({ type: of("unsubscribe"), messageId: word, topic: choice }),
  fc.record({ type: of("pingreq"), clientId: fc.option(someText, { nil: undefined }) }),
  fc.record({ type: of("disconnect"), durationSeconds: fc.option(word, { nil: undefined }) }),
);

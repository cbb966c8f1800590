// packets: MQTT packets as clients send them, for property tests.
// Path: tests. Touches: nothing.

import fc from "fast-check";
import type { IConnectPacket, Packet } from "mqtt-packet";

const text = fc.string({ maxLength: 40 });
const payload = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
const packetId = fc.integer({ min: 1, max: 65_535 });

function connectOf(version: 3 | 4 | 5, clientId: string, keepalive: number) {
  const protocolId = version === 3 ? "MQIsdp" : "MQTT";
  return { cmd: "connect", protocolId, protocolVersion: version, clientId, keepalive, clean: true };
}

/** With and without a will, a login and properties, of each version. */
export const connectPackets: fc.Arbitrary<IConnectPacket> = fc
  .record({
    version: fc.constantFrom(3 as const, 4 as const, 5 as const),
    clientId: fc.string({ minLength: 1, maxLength: 60, unit: "grapheme" }),
    keepalive: fc.nat(65_535),
    will: fc.option(fc.record({ topic: fc.constant("will"), payload, retain: fc.boolean() })),
    login: fc.option(fc.record({ username: fc.string({ minLength: 1 }), password: payload })),
    expiry: fc.option(fc.nat(0xffff_ffff)),
  })
  .map(({ version, clientId, keepalive, will, login, expiry }) => ({
    ...connectOf(version, clientId, keepalive),
    ...(will && { will: { ...will, qos: 1 } }),
    ...login,
    ...(version === 5 && expiry !== null && { properties: { sessionExpiryInterval: expiry } }),
  })) as unknown as fc.Arbitrary<IConnectPacket>;

/** All but CONNECT, of MQTT 3.1.1. */
export const clientPackets = fc.oneof(
  fc
    .record({ payload, topic: fc.constantFrom("t", "a/b"), qos: fc.nat(2), messageId: packetId })
    .map((it) => ({ cmd: "publish", retain: false, dup: false, ...it })),
  fc
    .record({ cmd: fc.constantFrom("puback", "pubrec", "pubrel", "pubcomp"), messageId: packetId })
    .map((it) => it),
  fc.record({ topic: text, messageId: packetId }).map(({ topic, messageId }) => ({
    ...{ cmd: "subscribe", messageId },
    subscriptions: [{ topic: `t${topic}`, qos: 1 }],
  })),
  packetId.map((messageId) => ({ cmd: "unsubscribe", messageId, unsubscriptions: ["t"] })),
  fc.constantFrom({ cmd: "pingreq" }, { cmd: "disconnect" }),
) as unknown as fc.Arbitrary<Packet>;

// packets.test: what the codec of MQTT-SN messages promises, by the clauses of version 1.2.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  decodePacket,
  encodePacket,
  type Packet,
} from "../../../../firmware-bridge/drivers/mqtt-sn/packets.ts";
import { bytes, packets, RUNS } from "./arbitraries.ts";

/** Bytes are told apart by what they hold, not by their class. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, plain(it)]));
}

function decodeHex(hex: string) {
  return decodePacket(Buffer.from(hex.replaceAll(" ", ""), "hex"));
}

const KNOWN: readonly (readonly [string, string, Packet])[] = [
  ["5.4.1", "05 00 07 0384", { type: "advertise", gatewayId: 7, durationSeconds: 900 }],
  ["5.4.2", "03 01 02", { type: "searchgw", radius: 2 }],
  ["5.4.3", "03 02 07", { type: "gwinfo", gatewayId: 7, address: Buffer.of() }],
  [
    "5.4.4",
    "09 04 0c 01 003c 626f78",
    {
      type: "connect",
      will: true,
      cleanSession: true,
      protocolId: 1,
      durationSeconds: 60,
      clientId: "box",
    },
  ],
  ["5.4.5", "03 05 03", { type: "connack", returnCode: 3 }],
  ["5.4.6", "02 06", { type: "willtopicreq" }],
  ["5.4.7", "02 07", { type: "willtopic", will: undefined }],
  ["5.4.7", "05 07 30 612f", { type: "willtopic", will: { qos: 1, retain: true, topic: "a/" } }],
  ["5.4.8", "02 08", { type: "willmsgreq" }],
  ["5.4.9", "03 09 78", { type: "willmsg", message: Buffer.from("x") }],
  ["5.4.10", "07 0a 0000 0001 61", { type: "register", topicId: 0, messageId: 1, topic: "a" }],
  ["5.4.11", "07 0b 0102 0003 00", { type: "regack", topicId: 258, messageId: 3, returnCode: 0 }],
  [
    "5.4.12",
    "09 0c f2 6162 0003 3131",
    {
      type: "publish",
      dup: true,
      qos: -1,
      retain: true,
      topic: { kind: "short", id: 0x6162 },
      messageId: 3,
      data: Buffer.from("11"),
    },
  ],
  ["5.4.13", "07 0d 0102 0003 02", { type: "puback", topicId: 258, messageId: 3, returnCode: 2 }],
  ["5.4.14", "04 0e 0003", { type: "pubcomp", messageId: 3 }],
  ["5.4.14", "04 0f 0003", { type: "pubrec", messageId: 3 }],
  ["5.4.14", "04 10 0003", { type: "pubrel", messageId: 3 }],
  [
    "5.4.15",
    "08 12 40 0003 612f23",
    {
      type: "subscribe",
      dup: false,
      qos: 2,
      messageId: 3,
      topic: { kind: "name", name: "a/#" },
    },
  ],
  [
    "5.4.16",
    "08 13 20 0005 0003 00",
    { type: "suback", qos: 1, topicId: 5, messageId: 3, returnCode: 0 },
  ],
  [
    "5.4.17",
    "07 14 01 0003 0009",
    { type: "unsubscribe", messageId: 3, topic: { kind: "predefined", id: 9 } },
  ],
  ["5.4.18", "04 15 0003", { type: "unsuback", messageId: 3 }],
  ["5.4.19", "05 16 626f78", { type: "pingreq", clientId: "box" }],
  ["5.4.19", "02 16", { type: "pingreq", clientId: undefined }],
  ["5.4.20", "02 17", { type: "pingresp" }],
  ["5.4.21", "02 18", { type: "disconnect", durationSeconds: undefined }],
  ["5.4.21", "04 18 003c", { type: "disconnect", durationSeconds: 60 }],
  ["5.4.22", "02 1a", { type: "willtopicupd", will: undefined }],
  ["5.4.23", "03 1c 78", { type: "willmsgupd", message: Buffer.from("x") }],
  ["5.4.24", "03 1b 00", { type: "willtopicresp", returnCode: 0 }],
  ["5.4.25", "03 1d 00", { type: "willmsgresp", returnCode: 0 }],
];

for (const [clause, hex, packet] of KNOWN) {
  test(`§${clause}: ${packet.type} has the octets of the specification: ${hex}`, () => {
    assert.deepEqual(plain(decodeHex(hex)), plain(packet));
    assert.equal(encodePacket(packet).toString("hex"), hex.replaceAll(" ", ""));
  });
}

test("§5.2.1: a message of up to 255 octets has one octet of length, a longer one three", () => {
  const lengthOf = (octets: number) =>
    encodePacket({ type: "willmsg", message: new Uint8Array(octets) }).subarray(0, 3);
  assert.deepEqual(lengthOf(253), Buffer.of(255, 0x09, 0));
  assert.deepEqual(lengthOf(254), Buffer.of(0x01, 0x01, 0x02));
  // Three octets may be used for any length.
  assert.deepEqual(
    plain(decodeHex("01 0006 05 00")),
    plain({ type: "malformed", reason: "its length says 6" }),
  );
  assert.deepEqual(plain(decodeHex("01 0005 05 00")), { type: "connack", returnCode: 0 });
});

test("reads back whatever it wrote", () => {
  fc.assert(
    fc.property(packets, (packet) => {
      assert.deepEqual(plain(decodePacket(encodePacket(packet))), plain(packet));
    }),
    RUNS,
  );
});

test("takes any bytes: a message, or a reason why they are none", () => {
  fc.assert(
    fc.property(bytes, fc.nat(0x1f), (body, type) => {
      for (const message of [body, Buffer.of(body.length + 2, type, ...body)]) {
        const packet = decodePacket(message);
        if (packet.type === "malformed") assert.notEqual(packet.reason, "");
        else assert.deepEqual(plain(decodePacket(encodePacket(packet))), plain(packet));
      }
    }),
    RUNS,
  );
});

test("refuses what the specification reserves, and text that is not UTF-8", () => {
  for (const hex of [
    "07 0c 03 0001 0001", // TopicIdType 0b11, §5.3.4
    "07 12 03 0001 0001",
    "02 03", // MsgType reserved, §5.2.2
    "07 0a 0000 0001 ff",
    "05 0a 0000 00",
    "03 18 00",
    "03 07 10", // flags without a topic
    "06 12 02 0001 61", // half a short name
    "",
    "00",
    "01",
    "01 00",
  ]) {
    assert.equal(decodeHex(hex).type, "malformed", hex);
  }
});

// encode.test: the bytes of every packet that a server sends, byte for byte or read back.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  encodeAck,
  encodeConnack,
  encodeDisconnect,
  encodePublish,
  encodeSuback,
  encodeUnsuback,
  PINGRESP,
} from "../../../../broker/mqtt/wire/encode.ts";
import { field, LEVELS, packet, raw } from "./packet-bytes.ts";

const PLAIN = { qos: 0, retain: false, dup: false, subscriptionIds: [] } as const;
const MESSAGE = { topic: "a/b", payload: raw("0102") };

/** Reads a packet's fixed header, and sees that its length is the packet's. */
function bodyOf(bytes: Buffer): { first: number; body: Buffer } {
  let length = 0;
  let at = 1;
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[at] ?? 0;
    at += 1;
    length += (byte % 128) * scale;
    if (byte < 128) break;
  }
  assert.equal(bytes.length, at + length);
  return { first: bytes[0] ?? 0, body: bytes.subarray(at) };
}

/** Takes a PUBLISH apart: as plain a reader as can be. */
function publishOf(level: number, bytes: Buffer) {
  const { first, body } = bodyOf(bytes);
  const topicEnd = 2 + body.readUInt16BE(0);
  const topic = body.toString("utf8", 2, topicEnd);
  const qos = (first >> 1) & 3;
  let at = topicEnd + (qos > 0 ? 2 : 0);
  let properties = raw();
  if (level === 5) {
    let length = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = body[at] ?? 0;
      at += 1;
      length += (byte % 128) * scale;
      if (byte < 128) break;
    }
    properties = body.subarray(at, at + length);
    at += length;
  }
  const idAt = bytes.length - body.length + topicEnd;
  return {
    type: first >> 4,
    flags: first & 15,
    topic,
    idAt,
    properties,
    payload: body.subarray(at),
  };
}

test("[MQTT-3.2.2-1…3] says in CONNACK whether there is a session, but not in 3.1", () => {
  const form = { sessionPresent: true, reasonCode: 0 };
  assert.deepEqual(encodeConnack(3, form), raw("20020000"));
  assert.deepEqual(encodeConnack(4, form), raw("20020100"));
  assert.deepEqual(encodeConnack(5, form), raw("2003010000"));
  assert.deepEqual(encodeConnack(4, { sessionPresent: false, reasonCode: 0 }), raw("20020000"));
});

test("[MQTT-3.2.2-4, MQTT 5: 3.2.2-6] says no session is present in a refusal", () => {
  const form = { sessionPresent: true, reasonCode: 0x87 };
  assert.deepEqual(encodeConnack(4, form), raw("20020005"));
  assert.deepEqual(encodeConnack(5, form), raw("2003008700"));
});

test("§3.2.2.3 answers 3.x with the return code that comes nearest to a reason", () => {
  for (const [reasonCode, returnCode] of [
    [0x84, 1],
    [0x85, 2],
    [0x88, 3],
    [0x97, 3],
    [0x86, 4],
    [0x87, 5],
  ] as const) {
    for (const level of [3, 4] as const) {
      const bytes = encodeConnack(level, { sessionPresent: false, reasonCode });
      assert.deepEqual(bytes, raw("200200", [returnCode]));
    }
  }
});

test("§3.2.2.3 writes every property of CONNACK that is given", () => {
  const properties = {
    sessionExpirySeconds: 0xffff_fffe,
    receiveMaximum: 0xfffe,
    maximumPacketBytes: 0x0102_0304,
    assignedClientId: "id",
    topicAliasMaximum: 10,
    reasonString: "warum",
    serverKeepAliveSeconds: 60,
    responseInformation: "r/",
    serverReference: "other:1883",
  };
  const block = raw(
    "11fffffffe 21fffe 2701020304 12",
    field("id"),
    "22000a 1f",
    field("warum"),
    "13003c 1a",
    field("r/"),
    "1c",
    field("other:1883"),
  );
  const bytes = encodeConnack(5, { sessionPresent: false, reasonCode: 0, properties });
  assert.deepEqual(bytes, packet(0x20, "0000", [block.length], block));
});

test("leaves the properties of CONNACK out in 3.x", () => {
  const properties = { reasonString: "why", receiveMaximum: 1 };
  assert.equal(encodeConnack(4, { sessionPresent: false, reasonCode: 0, properties }).length, 4);
});

test("writes acknowledgements of four bytes where there is nothing to explain", () => {
  for (const level of LEVELS) {
    assert.deepEqual(encodeAck(4, level, 0xabcd, 0), raw("4002abcd"));
    assert.deepEqual(encodeAck(5, level, 1, 0), raw("50020001"));
    // [MQTT-3.6.1-1]
    assert.deepEqual(encodeAck(6, level, 1, 0), raw("62020001"));
    assert.deepEqual(encodeAck(7, level, 0xffff, 0), raw("7002ffff"));
  }
});

test("§3.4.2.1 explains an acknowledgement in 5.0 alone", () => {
  assert.deepEqual(encodeAck(4, 5, 1, 0x97), raw("4003000197"));
  assert.deepEqual(encodeAck(6, 5, 1, 0x92), raw("6203000192"));
  assert.deepEqual(encodeAck(4, 5, 1, 0x97, "voll"), packet(0x40, "0001 97 07 1f", field("voll")));
  assert.deepEqual(encodeAck(4, 5, 1, 0, "ok"), packet(0x40, "0001 00 05 1f", field("ok")));
  for (const level of [3, 4] as const) {
    assert.deepEqual(encodeAck(4, level, 1, 0x97, "voll"), raw("40020001"));
  }
});

test("[MQTT-3.8.4-5, 3.9.3-1, 3.9.3-2] writes one code a filter in SUBACK, a failure of 3.x as 0x80", () => {
  const codes = [0, 1, 2, 0x87, 0x8f];
  assert.deepEqual(encodeSuback(5, 9, codes), raw("9008 0009 00 00010287 8f"));
  for (const level of [3, 4] as const) {
    assert.deepEqual(encodeSuback(level, 9, codes), raw("9007 0009 0001028080"));
  }
  const explained = encodeSuback(5, 9, [0x97], "voll");
  assert.deepEqual(explained, packet(0x90, "0009 07 1f", field("voll"), "97"));
  assert.equal(encodeSuback(4, 9, [0x97], "voll").length, 5);
});

test("writes a SUBACK and an UNSUBACK of very many filters", () => {
  const codes = new Array<number>(20_000).fill(1);
  assert.equal(bodyOf(encodeSuback(4, 1, codes)).body.length, 20_002);
  assert.equal(bodyOf(encodeUnsuback(5, 1, codes)).body.length, 20_003);
});

test("[MQTT-3.11.3-1] writes one code a filter in UNSUBACK in 5.0, and none in 3.x", () => {
  assert.deepEqual(encodeUnsuback(5, 9, [0, 0x11]), raw("b005 0009 00 0011"));
  for (const level of [3, 4] as const) {
    assert.deepEqual(encodeUnsuback(level, 9, [0, 0x11]), raw("b0020009"));
  }
});

test("writes PINGRESP and DISCONNECT", () => {
  assert.deepEqual(PINGRESP, raw("d000"));
  assert.deepEqual(encodeDisconnect(0x8e), raw("e0018e"));
  const form = { reasonString: "why", serverReference: "o" };
  const bytes = packet(0xe0, "9d 0a 1f", field("why"), "1c", field("o"));
  assert.deepEqual(encodeDisconnect(0x9d, form), bytes);
});

test("cuts a text that is longer than a string may be, between two characters", () => {
  const long = `x${"ü".repeat(40_000)}`;
  const { body } = bodyOf(encodeDisconnect(0x80, { reasonString: long }));
  const length = body.readUInt16BE(5);
  assert.equal(length, 65_535);
  assert.equal(body.length, 7 + length);
  assert.equal(body.toString("utf8", 7), `x${"ü".repeat(32_767)}`);
  const even = bodyOf(encodeDisconnect(0x80, { reasonString: "ü".repeat(40_000) })).body;
  assert.equal(even.readUInt16BE(5), 65_534);
  assert.equal(even.toString("utf8", 7), "ü".repeat(32_767));
});

test("[MQTT-1.5.4-1, 1.5.4-2] sends no U+0000 and no surrogate in a text", () => {
  const { body } = bodyOf(encodeDisconnect(0x80, { reasonString: "a\u0000b\ud800" }));
  assert.equal(body.toString("utf8", 5), "a\ufffdb\ufffd");
});

test("writes a PUBLISH of each version, and says where its packet id goes", () => {
  const qos0 = encodePublish(MESSAGE, { level: 4, ...PLAIN });
  assert.deepEqual(qos0, { bytes: raw("3007 0003612f62 0102"), packetIdAt: -1 });
  const qos1 = encodePublish(MESSAGE, { level: 4, ...PLAIN, qos: 1, retain: true });
  assert.deepEqual(qos1, { bytes: raw("3309 0003612f62 0000 0102"), packetIdAt: 7 });
  const qos2 = encodePublish(MESSAGE, { level: 5, ...PLAIN, qos: 2, dup: true });
  assert.deepEqual(qos2, { bytes: raw("3c0a 0003612f62 0000 00 0102"), packetIdAt: 7 });
});

test("[MQTT-3.3.2-17] writes the form's properties, and the message's own behind them as they came", () => {
  const own = raw("26", field("k"), field("v"), "0101");
  const form = {
    level: 5,
    ...PLAIN,
    subscriptionIds: [1, 268_435_455],
    expirySeconds: 0xffff_fffe,
    topicAlias: 0xfffe,
  } as const;
  const { bytes } = encodePublish({ ...MESSAGE, properties: own }, form);
  const block = raw("02fffffffe 23fffe 0b01 0bffffff7f", own);
  assert.deepEqual(bytes, packet(0x30, field("a/b"), [block.length], block, "0102"));
});

test("says nothing of properties in 3.x", () => {
  const form = {
    level: 4,
    ...PLAIN,
    subscriptionIds: [1],
    expirySeconds: 1,
    topicAlias: 1,
  } as const;
  const { bytes } = encodePublish({ ...MESSAGE, properties: raw("0101") }, form);
  assert.deepEqual(bytes, raw("3007 0003612f62 0102"));
});

test("§3.3.2.3.4 leaves out a topic that its alias stands for", () => {
  const form = { level: 5, ...PLAIN, qos: 1, topicAlias: 3, topicIsKnown: true } as const;
  const { bytes, packetIdAt } = encodePublish(MESSAGE, form);
  assert.deepEqual(bytes, raw("320a 0000 0000 03 230003 0102"));
  assert.equal(packetIdAt, 4);
});

test("writes a PUBLISH whose parts an independent reader finds again", () => {
  const topics = fc.string({ unit: "binary", minLength: 1, maxLength: 80 });
  const blocks = fc.option(fc.uint8Array({ minLength: 1, maxLength: 300 }), { nil: undefined });
  const payloads = fc.uint8Array({ maxLength: 20_000 });
  fc.assert(
    fc.property(
      topics,
      payloads,
      blocks,
      fc.constantFrom(...LEVELS),
      fc.constantFrom(0, 1, 2),
      fc.boolean(),
      (topic, payload, block, level, qos, retain) => {
        const message = { topic, payload, ...(block ? { properties: block } : {}) };
        const form = { level, qos, retain, dup: false, subscriptionIds: [] };
        const { bytes, packetIdAt } = encodePublish(message, form);
        const read = publishOf(level, bytes);
        assert.equal(read.type, 3);
        assert.equal(read.flags, (qos << 1) | Number(retain));
        assert.equal(read.topic, topic);
        assert.deepEqual(read.properties, Buffer.from(level === 5 ? (block ?? []) : []));
        assert.deepEqual(read.payload, Buffer.from(payload));
        assert.equal(packetIdAt, qos === 0 ? -1 : read.idAt);
        if (qos > 0) assert.equal(bytes.readUInt16BE(packetIdAt), 0);
      },
    ),
    { seed: 1, numRuns: 1_000 },
  );
});

test("writes the longest topic, and refuses one that is longer", () => {
  const form = { level: 4, ...PLAIN } as const;
  const { bytes } = encodePublish({ topic: "t".repeat(65_535), payload: raw() }, form);
  assert.equal(publishOf(4, bytes).topic.length, 65_535);
  for (const topic of ["t".repeat(65_536), "ü".repeat(32_768)]) {
    assert.throws(() => encodePublish({ topic, payload: raw() }, form), { code: "TOPIC_INVALID" });
  }
});

test("refuses a PUBLISH that is longer than a remaining length can say", () => {
  const payload = new Uint8Array(268_435_455 - 2);
  const form = { level: 4, ...PLAIN } as const;
  assert.throws(() => encodePublish({ topic: "t", payload }, form), { code: "PACKET_TOO_LARGE" });
});

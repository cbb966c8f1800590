// decode-publish.test: what is read from a client's PUBLISH, and what is refused.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  alone,
  assertRefused,
  CODE,
  field,
  LEVELS,
  packet,
  publish,
  raw,
  read,
} from "./packet-bytes.ts";

const USER = raw("26", field("k"), field("v"));

/** The properties of a PUBLISH that are passed on. */
function forwarded(properties: Buffer): Buffer | undefined {
  const one = read(5, publish(5, { properties }));
  assert.ok(one.type === 3);
  return one.properties === undefined ? undefined : Buffer.from(one.properties);
}

test("reads a PUBLISH of each version and QoS, with DUP and RETAIN", () => {
  for (const level of LEVELS) {
    for (const qos of [0, 1, 2]) {
      for (const flags of qos === 0 ? [0, 1] : [0, 1, 8, 9]) {
        assert.deepEqual(read(level, publish(level, { qos, flags, payload: "0001" })), {
          type: 3,
          topic: "a/b",
          payload: raw("0001"),
          qos,
          retain: (flags & 1) !== 0,
          dup: (flags & 8) !== 0,
          packetId: qos === 0 ? 0 : 7,
          topicAlias: undefined,
          expirySeconds: undefined,
          properties: undefined,
        });
      }
    }
  }
});

test("§3.3.3 takes a payload of no bytes", () => {
  for (const level of LEVELS) {
    const one = read(level, publish(level, { qos: 1, payload: "" }));
    assert.ok(one.type === 3 && one.payload.length === 0);
  }
});

test("reads topics in any script, U+FEFF kept, and the same one again and again", () => {
  for (const topic of ["a", "/", "tür/öffnen", "温度/\u{1f321}", "\ufeffa", "x".repeat(65_535)]) {
    for (const _ of [1, 2]) {
      const one = read(4, publish(4, { topic }));
      assert.ok(one.type === 3 && one.topic === topic);
    }
  }
});

test("tells topics apart that begin and end alike", () => {
  const topics = Array.from(
    { length: 3_000 },
    (_, index) => `${"p".repeat(40)}/${index}/${"s".repeat(40)}`,
  );
  for (const topic of [...topics, ...topics]) {
    const one = read(4, publish(4, { topic }));
    assert.ok(one.type === 3 && one.topic === topic);
  }
});

test("[MQTT-3.3.1-4] refuses QoS 3", () => {
  assertRefused(LEVELS, CODE.malformed, (level) => publish(level, { qos: 3 }));
});

test("[MQTT-3.3.1-2] refuses DUP with QoS 0", () => {
  assertRefused(LEVELS, CODE.malformed, (level) => publish(level, { flags: 8 }));
});

test("[MQTT-2.3.1-1, MQTT 5: 2.2.1-3] refuses packet id 0 with QoS 1 and 2", () => {
  for (const qos of [1, 2]) {
    assertRefused(LEVELS, CODE.protocolError, (level) => publish(level, { qos, id: "0000" }));
  }
});

test("[MQTT-2.3.1-5, MQTT 5: 2.2.1-2] reads no packet id with QoS 0", () => {
  const one = read(4, publish(4, { payload: "0007" }));
  assert.ok(one.type === 3 && one.packetId === 0 && one.payload.length === 2);
});

test("[MQTT-3.3.2-2] refuses wildcards in a topic name", () => {
  for (const topic of ["#", "+", "a/#", "a/+/b", "a#", "+a", "ü/+"]) {
    assertRefused(LEVELS, CODE.topicName, (level) => publish(level, { topic }));
  }
});

test("[MQTT-4.7.3-1] refuses an empty topic name without a topic alias", () => {
  assertRefused(LEVELS, CODE.protocolError, (level) => publish(level, { topic: "" }));
});

test("§3.3.2.3.4 takes an empty topic name with a topic alias, and a topic beside one", () => {
  const known = read(5, publish(5, { topic: "", properties: "23000a" }));
  assert.ok(known.type === 3 && known.topic === "" && known.topicAlias === 10);
  const told = read(5, publish(5, { properties: "23ffff" }));
  assert.ok(told.type === 3 && told.topic === "a/b" && told.topicAlias === 65_535);
});

test("[MQTT-3.3.2-8] refuses topic alias 0", () => {
  assertRefused([5], CODE.topicAlias, () => publish(5, { properties: "230000" }));
});

test("[MQTT-3.3.4-6] refuses a subscription identifier of a client", () => {
  assertRefused([5], CODE.protocolError, () => publish(5, { properties: "0b05" }));
});

test("[MQTT-3.3.2-14] refuses a response topic with a wildcard", () => {
  for (const topic of ["#", "a/+"]) {
    const properties = raw("08", field(topic));
    assertRefused([5], CODE.protocolError, () => publish(5, { properties }));
  }
});

test("[MQTT-4.7.3-1] refuses an empty response topic", () => {
  assertRefused([5], CODE.protocolError, () => publish(5, { properties: "080000" }));
});

test("[MQTT-3.3.2-4, 3.3.2-15, 3.3.2-16, 3.3.2-17, 3.3.2-20] keeps what is passed on, as it came", () => {
  const all = raw(
    "0101",
    USER,
    "03",
    field("text"),
    "08",
    field("r/t"),
    USER,
    "09",
    field(raw("00ff")),
  );
  assert.deepEqual(forwarded(all), all);
  assert.equal(forwarded(raw()), undefined);
});

test("[MQTT-3.3.2-17] cuts out what is not passed on, and leaves the rest in order", () => {
  const alias = raw("230001");
  const expiry = raw("020000000a");
  const type = raw("03", field("t"));
  assert.equal(forwarded(raw(alias, expiry)), undefined);
  assert.deepEqual(forwarded(raw(alias, USER, type, expiry)), raw(USER, type));
  assert.deepEqual(forwarded(raw(USER, alias, type, expiry, USER)), raw(USER, type, USER));
});

test("copies the properties only where they must be cut apart", () => {
  const isView = (properties: Buffer) => {
    const bytes = alone(publish(5, { properties }));
    const one = read(5, bytes);
    assert.ok(one.type === 3 && one.properties !== undefined);
    return one.properties.buffer === bytes.buffer;
  };
  assert.equal(isView(raw(USER, "0101")), true);
  assert.equal(isView(raw("230001", USER, "0101", "020000000a")), true);
  assert.equal(isView(raw(USER, "230001", "0101")), false);
});

test("§3.3.2.3.3 reads the message expiry interval, 0 and the longest too", () => {
  for (const [hex, seconds] of [
    ["00000000", 0],
    ["0000000a", 10],
    ["ffffffff", 0xffff_ffff],
  ] as const) {
    const one = read(5, publish(5, { properties: `02${hex}` }));
    assert.ok(one.type === 3);
    assert.equal(one.expirySeconds, seconds);
  }
});

test("§3.3.2.3.2 leaves a payload to the session that is not the UTF-8 it is said to be", () => {
  const one = read(5, publish(5, { properties: "0101", payload: "ff" }));
  assert.ok(one.type === 3 && one.payload[0] === 0xff);
});

test("refuses a PUBLISH that ends within a field", () => {
  assertRefused(LEVELS, CODE.malformed, () => packet(0x30));
  assertRefused(LEVELS, CODE.malformed, () => packet(0x30, "00"));
  assertRefused(LEVELS, CODE.malformed, () => packet(0x30, "000561"));
  assertRefused(LEVELS, CODE.malformed, () => packet(0x32, "000161"));
  assertRefused(LEVELS, CODE.malformed, () => packet(0x32, "00016100"));
  assertRefused([5], CODE.malformed, () => packet(0x32, "0001610001"));
});

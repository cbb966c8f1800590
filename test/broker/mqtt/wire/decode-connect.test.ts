// decode-connect.test: what is read from a CONNECT, what is refused, and in which version.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CODE,
  connect,
  connectFaultOf,
  field,
  LEVELS,
  packet,
  raw,
  readConnect,
} from "./packet-bytes.ts";

const WITH_WILL = 0x06;
const ALL_FLAGS = 0xee;

/** Will topic and message, with the will's properties in 5.0. */
function will(level: number, topic: string | Uint8Array = "w/t", properties = ""): Buffer {
  const block = raw(properties);
  return raw(level === 5 ? raw([block.length], block) : "", field(topic), field("gone"));
}

function refusal(bytes: Buffer): [number, number | undefined] {
  const fault = connectFaultOf(bytes);
  return [fault.reasonCode, fault.refusalLevel];
}

const DEFAULTS = {
  type: 1,
  clientId: "c1",
  clean: true,
  keepAliveSeconds: 60,
  username: undefined,
  password: undefined,
  will: undefined,
  sessionExpirySeconds: 0,
  receiveMaximum: 65_535,
  maximumPacketBytes: undefined,
  topicAliasMaximum: 0,
  requestResponseInformation: false,
  requestProblemInformation: true,
  authenticationMethod: undefined,
};

test("reads the least CONNECT of each version", () => {
  for (const level of LEVELS) assert.deepEqual(readConnect(connect(level)), { ...DEFAULTS, level });
});

test("reads a kept session of 3.x as one that never expires, of 5.0 as it says", () => {
  for (const level of [3, 4] as const) {
    const one = readConnect(connect(level, { flags: 0 }));
    assert.ok(one.type === 1 && !one.clean && one.sessionExpirySeconds === 0xffff_ffff);
  }
  const one = readConnect(connect(5, { flags: 0, properties: "1100000e10" }));
  assert.ok(one.type === 1 && !one.clean && one.sessionExpirySeconds === 3_600);
  const two = readConnect(connect(5, { flags: 0 }));
  assert.ok(two.type === 1 && two.sessionExpirySeconds === 0);
});

test("[MQTT-3.1.3-1] reads client id, will topic, will message, user name, password in order", () => {
  for (const level of LEVELS) {
    const rest = raw(will(level), field("user"), field(raw("00ff")));
    const one = readConnect(connect(level, { flags: ALL_FLAGS, rest }));
    const expected = {
      topic: "w/t",
      payload: Buffer.from("gone"),
      qos: 1,
      retain: true,
      delaySeconds: 0,
      expirySeconds: undefined,
      properties: undefined,
    };
    assert.deepEqual(one, {
      ...DEFAULTS,
      level,
      will: expected,
      username: "user",
      // Binary: no UTF-8 that it would have to be.
      password: raw("00ff"),
    });
  }
});

test("reads every property of a 5.0 CONNECT", () => {
  const properties = raw(
    "11ffffffff 210014 2700010000 22000a 1901 1700",
    raw("26", field("k"), field("v")),
    raw("15", field("SCRAM")),
    raw("16", field(raw("00ff"))),
  );
  assert.deepEqual(readConnect(connect(5, { properties })), {
    ...DEFAULTS,
    level: 5,
    sessionExpirySeconds: 0xffff_ffff,
    receiveMaximum: 20,
    maximumPacketBytes: 65_536,
    topicAliasMaximum: 10,
    requestResponseInformation: true,
    requestProblemInformation: false,
    authenticationMethod: "SCRAM",
  });
});

test("reads a will's properties, and keeps in their order those that are passed on", () => {
  const user = raw("26", field("k"), field("v")).toString("hex");
  const properties = `0101 1800000005 ${user} 0200000e10 03${field("t").toString("hex")} ${user}`;
  const rest = will(5, "w/t", properties);
  const one = readConnect(connect(5, { flags: WITH_WILL, rest }));
  assert.ok(one.type === 1 && one.will);
  assert.equal(one.will.delaySeconds, 5);
  assert.equal(one.will.expirySeconds, 3_600);
  assert.deepEqual(
    Buffer.from(one.will.properties ?? []),
    raw("0101", user, "03", field("t"), user),
  );
});

test("[MQTT-3.1.2-1] answers another protocol's name with no CONNACK at all", () => {
  for (const name of ["", "mqtt", "MQTt", "MQTTX", "AMQP"]) {
    assert.deepEqual(refusal(connect(4, { name })), [CODE.version, undefined], name);
  }
});

test("[MQTT-3.1.2-2] answers an unknown level in the words of 3.1.1, a newer one in those of 5.0", () => {
  for (const levelByte of [0, 1, 2, 3, 0x83, 0x84]) {
    assert.deepEqual(refusal(connect(4, { levelByte })), [CODE.version, 4], `${levelByte}`);
  }
  for (const levelByte of [6, 7, 0x7f]) {
    assert.deepEqual(refusal(connect(4, { levelByte })), [CODE.version, 5], `${levelByte}`);
  }
  for (const levelByte of [2, 4, 5, 6]) {
    assert.deepEqual(refusal(connect(3, { levelByte })), [CODE.version, 4], `${levelByte}`);
  }
});

test("[MQTT-3.1.2-2] judges the level before anything behind it", () => {
  const bytes = packet(0x10, field("MQTT"), [9, 0xff]);
  assert.deepEqual(refusal(bytes), [CODE.version, 5]);
});

test("[MQTT-3.1.2-3] refuses the reserved flag in 3.1.1 and 5.0; 3.1 leaves it unused", () => {
  assert.deepEqual(refusal(connect(4, { flags: 0x03 })), [CODE.malformed, undefined]);
  assert.deepEqual(refusal(connect(5, { flags: 0x03 })), [CODE.malformed, 5]);
  assert.equal(readConnect(connect(3, { flags: 0x03 })).type, 1);
});

test("[MQTT-3.1.2-14, MQTT 5: 3.1.2-12] refuses a will of QoS 3", () => {
  for (const level of LEVELS) {
    const bytes = connect(level, { flags: WITH_WILL | 0x18, rest: will(level) });
    assert.deepEqual(refusal(bytes), [CODE.malformed, level === 5 ? 5 : undefined]);
  }
});

test("[MQTT-3.1.2-13, MQTT 5: 3.1.2-11] refuses a will QoS without a will", () => {
  for (const flags of [0x0a, 0x12, 0x1a]) {
    assert.deepEqual(refusal(connect(4, { flags })), [CODE.malformed, undefined]);
    assert.deepEqual(refusal(connect(5, { flags })), [CODE.malformed, 5]);
    assert.equal(readConnect(connect(3, { flags })).type, 1);
  }
});

test("[MQTT-3.1.2-15, MQTT 5: 3.1.2-13] refuses will retain without a will", () => {
  assert.deepEqual(refusal(connect(4, { flags: 0x22 })), [CODE.malformed, undefined]);
  assert.deepEqual(refusal(connect(5, { flags: 0x22 })), [CODE.malformed, 5]);
});

test("[MQTT-3.1.2-11, 3.1.2-18, 3.1.2-20] refuses fields that no flag announces", () => {
  for (const level of LEVELS) {
    for (const rest of [will(level), field("user"), raw("00")]) {
      assert.equal(connectFaultOf(connect(level, { rest })).reasonCode, CODE.malformed);
    }
  }
});

test("[MQTT-3.1.2-9, 3.1.2-19, 3.1.2-21] refuses flags whose fields are missing", () => {
  for (const level of [4, 5] as const) {
    for (const flags of [WITH_WILL, 0x82, 0xc2]) {
      assert.equal(connectFaultOf(connect(level, { flags })).reasonCode, CODE.malformed);
    }
    const bytes = connect(level, { flags: 0xc2, rest: field("user") });
    assert.equal(connectFaultOf(bytes).reasonCode, CODE.malformed);
  }
});

test("MQTT 3.1 §3.1: lets the length of a packet take precedence over the flags of its last fields", () => {
  const neither = readConnect(connect(3, { flags: 0xc2 }));
  assert.ok(neither.type === 1 && neither.username === undefined);
  const one = readConnect(connect(3, { flags: 0xc2, rest: field("user") }));
  assert.ok(one.type === 1 && one.username === "user" && one.password === undefined);
  const cut = connect(3, { flags: 0xc2, rest: raw(field("user"), "00") });
  assert.equal(connectFaultOf(cut).reasonCode, CODE.malformed);
});

test("[MQTT-3.1.2-22] refuses a password without a user name in 3.x, not in 5.0", () => {
  const form = { flags: 0x42, rest: field("secret") };
  for (const level of [3, 4] as const) {
    assert.deepEqual(refusal(connect(level, form)), [CODE.malformed, undefined]);
  }
  const one = readConnect(connect(5, form));
  assert.ok(one.type === 1 && one.username === undefined);
  assert.deepEqual(Buffer.from(one.password ?? []), Buffer.from("secret"));
});

test("[MQTT-3.1.3-8] refuses an empty client id whose session would be kept", () => {
  assert.deepEqual(refusal(connect(4, { flags: 0, clientId: "" })), [CODE.clientId, 4]);
});

test("[MQTT-3.1.3-6, 3.1.3-7] takes an empty client id with a clean session, and always in 5.0", () => {
  assert.equal(readConnect(connect(4, { clientId: "" })).type, 1);
  assert.equal(readConnect(connect(5, { clientId: "" })).type, 1);
  assert.equal(readConnect(connect(5, { flags: 0, clientId: "" })).type, 1);
});

test("MQTT 3.1 §3.1: refuses an empty client id, and takes a long one", () => {
  assert.deepEqual(refusal(connect(3, { clientId: "" })), [CODE.clientId, 3]);
  assert.equal(readConnect(connect(3, { clientId: "c".repeat(24) })).type, 1);
});

test("[MQTT-4.7.3-1] refuses an empty will topic", () => {
  for (const level of LEVELS) {
    const bytes = connect(level, { flags: WITH_WILL, rest: will(level, "") });
    assert.deepEqual(refusal(bytes), [CODE.topicName, level === 5 ? 5 : undefined]);
  }
});

test("[MQTT-4.7.1-1, MQTT 5: 4.7.0-1] refuses wildcards in a will topic", () => {
  for (const level of LEVELS) {
    for (const topic of ["#", "a/#", "+", "a+b"]) {
      const bytes = connect(level, { flags: WITH_WILL, rest: will(level, topic) });
      assert.equal(connectFaultOf(bytes).reasonCode, CODE.topicName, topic);
    }
  }
});

test("[MQTT-2.2.2-2, MQTT 5: 2.1.3-1] refuses flags beside CONNECT's type", () => {
  for (const level of LEVELS) {
    for (let flags = 1; flags < 16; flags += 1) {
      const bytes = connect(level);
      bytes[0] = 0x10 | flags;
      assert.deepEqual(refusal(bytes), [CODE.malformed, undefined]);
    }
  }
});

test("[MQTT-3.1.4-1] refuses a CONNECT that ends too early, wherever it does", () => {
  for (const level of [4, 5] as const) {
    const rest = raw(will(level), field("user"), field("secret"));
    const whole = connect(level, { flags: ALL_FLAGS, rest });
    for (let length = 0; length < whole.length - 2; length += 1) {
      const bytes = packet(0x10, whole.subarray(2, 2 + length));
      const isKnown = level === 5 && length >= 7;
      assert.deepEqual(refusal(bytes), [CODE.malformed, isKnown ? 5 : undefined], `${length}`);
    }
  }
});

test("[MQTT-3.1.4-1] refuses a CONNECT that goes on behind its last field", () => {
  for (const level of LEVELS) {
    const rest = raw(will(level), field("user"), field("secret"), "00");
    const bytes = connect(level, { flags: ALL_FLAGS, rest });
    assert.deepEqual(refusal(bytes), [CODE.malformed, level === 5 ? 5 : undefined]);
  }
});

test("§3.1.2.11.10 refuses authentication data without a method", () => {
  const properties = raw("16", field("x"));
  assert.deepEqual(refusal(connect(5, { properties })), [CODE.protocolError, 5]);
});

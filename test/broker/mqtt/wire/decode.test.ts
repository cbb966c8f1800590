// decode.test: what is read from a client's packets but CONNECT and PUBLISH, and what is refused.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  assertRefused,
  CODE,
  faultOf,
  field,
  LEVELS,
  packet,
  properties,
  raw,
  read,
} from "./packet-bytes.ts";

const ACKS = [
  ["PUBACK", 0x40],
  ["PUBREC", 0x50],
  ["PUBREL", 0x62],
  ["PUBCOMP", 0x70],
] as const;

/** A packet of each kind that is well-formed at each level. */
const PLAIN: readonly (readonly [string, (level: 3 | 4 | 5) => Buffer])[] = [
  ...ACKS.map(([name, first]) => [name, () => packet(first, "0001")] as const),
  ["SUBSCRIBE", (level) => packet(0x82, "0001", properties(level), field("a"), "00")],
  ["UNSUBSCRIBE", (level) => packet(0xa2, "0001", properties(level), field("a"))],
  ["PINGREQ", () => packet(0xc0)],
  ["DISCONNECT", () => packet(0xe0)],
];

for (const [name, bytes] of PLAIN) {
  test(`[MQTT-2.2.2-2, MQTT 5: 2.1.3-1] refuses every other flag beside ${name}'s type`, () => {
    for (const level of LEVELS) {
      const good = bytes(level);
      assert.equal(read(level, good).type, (good[0] ?? 0) >> 4);
      const asked = (good[0] ?? 0) & 0x0f;
      for (let flags = 0; flags < 16; flags += 1) {
        if (flags === asked || (level === 3 && asked === 2 && flags === 0x0a)) continue;
        const bad = bytes(level);
        bad[0] = ((good[0] ?? 0) & 0xf0) | flags;
        assert.equal(faultOf(level, bad).reasonCode, CODE.malformed, `level ${level}, ${flags}`);
      }
    }
  });
}

test("MQTT 3.1 §2.1: takes DUP with PUBREL, SUBSCRIBE and UNSUBSCRIBE", () => {
  for (const [, bytes] of PLAIN.slice(2, 3).concat(PLAIN.slice(4, 6))) {
    const again = bytes(3);
    again[0] = (again[0] ?? 0) | 0x08;
    assert.equal(read(3, again).type, (again[0] ?? 0) >> 4);
  }
});

test("§2.1.2 refuses type 0, which is reserved", () => {
  assertRefused(LEVELS, CODE.malformed, () => packet(0x00));
});

test("§2.1.2 refuses packets that only a server sends", () => {
  for (const [first, body] of [
    [0x20, "0000"],
    [0x90, "000100"],
    [0xb0, "0001"],
    [0xd0, ""],
  ] as const) {
    assertRefused(LEVELS, CODE.protocolError, () => packet(first, body));
  }
});

test("§2.2.1 refuses type 15 in 3.x, where it is reserved", () => {
  assertRefused([3, 4], CODE.malformed, () => packet(0xf0));
});

for (const [name, first] of ACKS) {
  test(`reads a ${name} of each version`, () => {
    for (const level of LEVELS) {
      const expected = { type: first >> 4, packetId: 0xabcd, reasonCode: 0 };
      assert.deepEqual(read(level, packet(first, "abcd")), expected);
    }
  });

  test(`[MQTT-2.3.1-6, MQTT 5: 2.2.1-5] refuses packet id 0 in ${name}`, () => {
    assertRefused(LEVELS, CODE.protocolError, () => packet(first, "0000"));
  });

  test(`refuses a ${name} of no byte, of one, and in 3.x of three`, () => {
    assertRefused(LEVELS, CODE.malformed, () => packet(first));
    assertRefused(LEVELS, CODE.malformed, () => packet(first, "01"));
    assertRefused([3, 4], CODE.malformed, () => packet(first, "000100"));
  });

  test(`§3.4.2 reads ${name}'s reason code, with properties and without`, () => {
    const code = first >= 0x60 ? "92" : "97";
    const string = raw("1f", field("why"), "26", field("k"), field("v"));
    for (const rest of ["", "00", raw([string.length], string)]) {
      const one = read(5, packet(first, "0001", code, rest));
      assert.deepEqual(one, {
        type: first >> 4,
        packetId: 1,
        reasonCode: Number.parseInt(code, 16),
      });
    }
  });

  test(`refuses a ${name} whose properties are cut or followed by more`, () => {
    assertRefused([5], CODE.malformed, () => packet(first, "0001 00 05 1f"));
    assertRefused([5], CODE.malformed, () => packet(first, "0001 00 00 00"));
  });
}

test("[MQTT-3.4.2-1, 3.5.2-1] takes of PUBACK and PUBREC the reason codes of their tables alone", () => {
  const known = new Set([0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]);
  for (const first of [0x40, 0x50]) assertCodes((code) => packet(first, "0001", [code]), known);
});

test("[MQTT-3.6.2-1, 3.7.2-1] takes of PUBREL and PUBCOMP the reason codes of their tables alone", () => {
  const known = new Set([0x00, 0x92]);
  for (const first of [0x62, 0x70]) assertCodes((code) => packet(first, "0001", [code]), known);
});

test("[MQTT-3.14.2-1] takes of DISCONNECT the reason codes that a client may send alone", () => {
  const known = new Set([
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
  ]);
  assertCodes((code) => packet(0xe0, [code]), known);
});

test("[MQTT-3.15.2-1] takes of AUTH the reason codes that a client may send alone", () => {
  const method = raw("15", field("SCRAM"));
  assertCodes((code) => packet(0xf0, [code, method.length], method), new Set([0x18, 0x19]));
});

/** Every known code is read as it is; every other is a protocol error. */
function assertCodes(bytes: (code: number) => Buffer, known: ReadonlySet<number>): void {
  for (let code = 0; code < 256; code += 1) {
    if (known.has(code)) {
      const one = read(5, bytes(code));
      assert.ok("reasonCode" in one && one.reasonCode === code);
    } else {
      assert.equal(faultOf(5, bytes(code)).reasonCode, CODE.protocolError, `code ${code}`);
    }
  }
}

test("reads a SUBSCRIBE of 3.x, its filters in order and repeats too", () => {
  const body = raw("0102", field("a/#"), "00", field("+"), "01", field("a/#"), "02");
  const options = { noLocal: false, retainAsPublished: false, retainHandling: 0 };
  for (const level of [3, 4] as const) {
    assert.deepEqual(read(level, packet(0x82, body)), {
      type: 8,
      packetId: 0x0102,
      subscriptions: [
        { filter: "a/#", qos: 0, ...options },
        { filter: "+", qos: 1, ...options },
        { filter: "a/#", qos: 2, ...options },
      ],
    });
  }
});

test("§3.8.2.1, §3.8.3.1 reads a SUBSCRIBE of 5.0 with its options and its identifier", () => {
  const body = raw("0001", properties(5, "0bffffff7f"), field("a"), "2e", field("b"), "11");
  const id = 268_435_455;
  assert.deepEqual(read(5, packet(0x82, body)), {
    type: 8,
    packetId: 1,
    subscriptions: [
      { filter: "a", qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2, id },
      { filter: "b", qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 1, id },
    ],
  });
});

test("leaves filters that are no filters, and empty ones, to the session", () => {
  for (const level of LEVELS) {
    for (const filter of ["a#", "", "#/a", "+a"]) {
      const one = read(level, packet(0x82, "0001", properties(level), field(filter), "00"));
      assert.ok(one.type === 8 && one.subscriptions[0]?.filter === filter);
    }
  }
});

test("[MQTT-3.8.3-3, MQTT 5: 3.8.3-2] refuses a SUBSCRIBE without a filter", () => {
  assertRefused(LEVELS, CODE.protocolError, (level) => packet(0x82, "0001", properties(level)));
});

test("[MQTT-2.3.1-1, MQTT 5: 2.2.1-3] refuses packet id 0 in SUBSCRIBE and UNSUBSCRIBE", () => {
  assertRefused(LEVELS, CODE.protocolError, (level) =>
    packet(0x82, "0000", properties(level), field("a"), "00"),
  );
  assertRefused(LEVELS, CODE.protocolError, (level) =>
    packet(0xa2, "0000", properties(level), field("a")),
  );
});

test("[MQTT-3.8.3-4] refuses reserved bits and QoS 3 in 3.1.1; 3.1 leaves the bits unused", () => {
  for (const options of [0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80]) {
    assertRefused([4], CODE.malformed, () => packet(0x82, "0001", field("a"), [options]));
  }
  assertRefused([3], CODE.malformed, () => packet(0x82, "0001", field("a"), "ff"));
  const one = read(3, packet(0x82, "0001", field("a"), "fd"));
  assert.ok(one.type === 8 && one.subscriptions[0]?.qos === 1);
});

/** A 5.0 SUBSCRIBE to one filter with these options. */
const subscribeWith = (options: number, filter = "a") =>
  packet(0x82, "0001 00", field(filter), [options]);

test("[MQTT-3.8.3-5] refuses reserved bits of the subscription options", () => {
  for (const options of [0x40, 0x80, 0xc0]) {
    assertRefused([5], CODE.malformed, () => subscribeWith(options));
  }
});

test("§3.8.3.1 refuses QoS 3 and retain handling 3", () => {
  assertRefused([5], CODE.protocolError, () => subscribeWith(0x03));
  assertRefused([5], CODE.protocolError, () => subscribeWith(0x30));
});

test("[MQTT-3.8.3-4] refuses No Local on a shared subscription in 5.0", () => {
  assertRefused([5], CODE.protocolError, () => subscribeWith(0x05, "$share/g/a"));
  assert.equal(read(5, subscribeWith(0x01, "$share/g/a")).type, 8);
  assert.equal(read(5, subscribeWith(0x05, "$shared/g/a")).type, 8);
});

test("refuses a SUBSCRIBE that ends within a filter or before its options", () => {
  for (const rest of ["00", "000261", "000161"]) {
    assertRefused(LEVELS, CODE.malformed, (level) => packet(0x82, "0001", properties(level), rest));
  }
});

test("reads an UNSUBSCRIBE, its filters in order and repeats too", () => {
  for (const level of LEVELS) {
    const body = raw("0001", properties(level), field("a"), field("b/#"), field("a"));
    assert.deepEqual(read(level, packet(0xa2, body)), {
      type: 10,
      packetId: 1,
      filters: ["a", "b/#", "a"],
    });
  }
});

test("[MQTT-3.10.3-2] refuses an UNSUBSCRIBE without a filter", () => {
  assertRefused(LEVELS, CODE.protocolError, (level) => packet(0xa2, "0001", properties(level)));
});

test("refuses an UNSUBSCRIBE that ends within a filter", () => {
  for (const rest of ["00", "000261"]) {
    assertRefused(LEVELS, CODE.malformed, (level) => packet(0xa2, "0001", properties(level), rest));
  }
});

test("reads a PINGREQ, and refuses one that has a body", () => {
  for (const level of LEVELS) assert.deepEqual(read(level, packet(0xc0)), { type: 12 });
  assertRefused(LEVELS, CODE.malformed, () => packet(0xc0, "00"));
});

test("reads a DISCONNECT of 3.x, and refuses one that has a body", () => {
  for (const level of [3, 4] as const) {
    const expected = { type: 14, reasonCode: 0, sessionExpirySeconds: undefined };
    assert.deepEqual(read(level, packet(0xe0)), expected);
  }
  assertRefused([3, 4], CODE.malformed, () => packet(0xe0, "00"));
});

test("§3.14.2 reads a DISCONNECT of 5.0, with reason and properties or without", () => {
  const expected = (reasonCode: number, sessionExpirySeconds?: number) => ({
    type: 14,
    reasonCode,
    sessionExpirySeconds,
  });
  assert.deepEqual(read(5, packet(0xe0)), expected(0));
  assert.deepEqual(read(5, packet(0xe0, "04")), expected(4));
  assert.deepEqual(read(5, packet(0xe0, "0400")), expected(4));
  const string = raw("1f", field("why"));
  const body = raw("00", properties(5, string, "110000000a"));
  assert.deepEqual(read(5, packet(0xe0, body)), expected(0, 10));
  assertRefused([5], CODE.malformed, () => packet(0xe0, "000000"));
});

test("reads an AUTH with its method and data", () => {
  const block = properties(5, "15", field("SCRAM"), "16", field(raw("00ff")), "1f", field("why"));
  assert.deepEqual(read(5, packet(0xf0, "18", block)), { type: 15, reasonCode: 0x18 });
});

test("§3.15.2 refuses an AUTH that says Success by saying nothing, or names no method", () => {
  assertRefused([5], CODE.protocolError, () => packet(0xf0));
  assertRefused([5], CODE.protocolError, () => packet(0xf0, "1800"));
  assertRefused([5], CODE.protocolError, () => packet(0xf0, "18", properties(5, "160000")));
  assertRefused([5], CODE.malformed, () => packet(0xf0, "18"));
});

test("[MQTT-2.1.3-1] refuses flags beside AUTH's type", () => {
  for (let flags = 1; flags < 16; flags += 1) {
    const bytes = packet(0xf0 | flags, "18", properties(5, "15", field("SCRAM")));
    assert.equal(faultOf(5, bytes).reasonCode, CODE.malformed);
  }
});

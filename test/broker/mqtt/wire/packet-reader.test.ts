// packet-reader.test: what the reader makes of a stream, however it is cut, and what it refuses.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PacketReader } from "../../../../broker/mqtt/wire/packet-reader.ts";
import {
  alone,
  CODE,
  connect,
  connectFaultOf,
  faultIn,
  faultOf,
  field,
  GENEROUS,
  LEVELS,
  packet,
  packetsOf,
  publish,
  raw,
  read,
  readerOf,
} from "./packet-bytes.ts";

const PINGREQ = raw("c000");
const DISCONNECT = raw("e000");

const SESSION = raw(
  connect(4),
  publish(4, { qos: 1, payload: Buffer.alloc(300, 1) }),
  PINGREQ,
  packet(0x82, "0001", field("a/+"), "01"),
  publish(4, { payload: "" }),
  publish(4, { topic: "tür", payload: Buffer.alloc(20_000, 2) }),
  packet(0x40, "0001"),
  DISCONNECT,
);

/** The stream in chunks of these sizes, over and over. */
function cut(stream: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let at = 0;
  for (let turn = 0; at < stream.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    chunks.push(Buffer.from(stream.subarray(at, at + size)));
    at += size;
  }
  return chunks;
}

test("tells the level that CONNECT asked for, and none before it", () => {
  for (const level of LEVELS) {
    const reader = new PacketReader(GENEROUS);
    assert.equal(reader.level, undefined);
    packetsOf(reader, connect(level));
    assert.equal(reader.level, level);
  }
});

test("knows the level when the CONNECT is handed over", () => {
  const reader = new PacketReader(GENEROUS);
  const levels: unknown[] = [];
  reader.push(connect(5), () => levels.push(reader.level));
  assert.deepEqual(levels, [5]);
});

test("makes the same packets of every chunking", () => {
  const whole = packetsOf(new PacketReader(GENEROUS), SESSION);
  assert.equal(whole.length, 8);
  const sizes = fc.array(
    fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9_000 })),
    {
      minLength: 1,
      maxLength: 12,
    },
  );
  fc.assert(
    fc.property(sizes, (some) => {
      const packets = packetsOf(new PacketReader(GENEROUS), ...cut(SESSION, some));
      assert.deepEqual(packets, whole);
    }),
    { seed: 1, numRuns: 300 },
  );
});

test("takes an empty chunk for nothing", () => {
  const reader = readerOf(4);
  const packets = packetsOf(reader, raw(), PINGREQ.subarray(0, 1), raw(), PINGREQ.subarray(1));
  assert.equal(packets.length, 1);
});

test("hands over a payload of a whole packet as a view of the chunk", () => {
  const bytes = alone(publish(4, { payload: "010203" }));
  const one = read(4, bytes);
  assert.ok(one.type === 3);
  assert.equal(one.payload.buffer, bytes.buffer);
  assert.deepEqual([...one.payload], [1, 2, 3]);
});

test("does not overwrite a payload with the bytes of a later packet", () => {
  const reader = readerOf(4);
  const payloads: Uint8Array[] = [];
  for (let value = 0; value < 50; value += 1) {
    const bytes = publish(4, { payload: Buffer.alloc(40, value) });
    for (const chunk of cut(bytes, [7])) {
      reader.push(chunk, (one) => payloads.push(one.type === 3 ? one.payload : raw()));
    }
  }
  payloads.forEach((payload, value) => {
    assert.deepEqual(Buffer.from(payload), Buffer.alloc(40, value));
  });
  assert.equal(payloads.length, 50);
});

test("gathers 1 MB that comes byte by byte, or by the kilobyte, in linear time", () => {
  const bytes = publish(4, { payload: Buffer.alloc(1_000_000, 5) });
  for (const size of [1, 1_000]) {
    const chunks: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
    const startedAt = process.cpuUsage();
    const reader = readerOf(4);
    const lengths: number[] = [];
    for (const chunk of chunks) {
      reader.push(chunk, (one) => lengths.push(one.type === 3 ? one.payload.length : 0));
    }
    const { user } = process.cpuUsage(startedAt);
    assert.deepEqual(lengths, [1_000_000]);
    assert.ok(user < 1_500_000, `${user} µs of CPU in chunks of ${size}`);
  }
});

test("sets nothing aside for an announced length whose bytes do not come", () => {
  const announced = raw("30ffffff7f0003", Buffer.alloc(100, 0x61));
  const before = process.memoryUsage().arrayBuffers;
  const readers = Array.from({ length: 50 }, () => {
    const reader = readerOf(4);
    reader.push(announced, () => undefined);
    return reader;
  });
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.equal(readers.length, 50);
  assert.ok(grown < 5_000_000, `${grown} bytes`);
});

test("lets a packet of just the limit through, and refuses one byte more by its header alone", () => {
  const limits = { beforeConnectBytesMax: 1_000, bytesMax: 300 };
  const most = publish(4, { payload: Buffer.alloc(300 - 8) });
  assert.equal(most.length, 300);
  assert.equal(packetsOf(readerOf(4, limits), most).length, 1);
  const over = publish(4, { payload: Buffer.alloc(300 - 7) }).subarray(0, 3);
  const fault = faultIn(() => packetsOf(readerOf(4, limits), ...cut(over, [1])));
  assert.equal(fault.reasonCode, CODE.tooLarge);
  assert.equal(fault.message, "a packet of 301 bytes is over the 300 that a client may send");
});

test("measures by the lower limit until the client is connected", () => {
  const reader = new PacketReader({ beforeConnectBytesMax: 100, bytesMax: 1_000 });
  const long = publish(4, { payload: Buffer.alloc(500) });
  packetsOf(reader, connect(4));
  assert.equal(faultIn(() => packetsOf(reader, long)).reasonCode, CODE.tooLarge);
  const other = new PacketReader({ beforeConnectBytesMax: 100, bytesMax: 1_000 });
  packetsOf(other, connect(4));
  other.connected();
  assert.equal(packetsOf(other, long).length, 1);
  const first = new PacketReader({ beforeConnectBytesMax: 100, bytesMax: 1_000 });
  const wide = connect(4, { clientId: "c".repeat(100) });
  assert.equal(faultIn(() => packetsOf(first, wide)).reasonCode, CODE.tooLarge);
});

test("may be told in the midst of a chunk that the client is connected", () => {
  const reader = new PacketReader({ beforeConnectBytesMax: 100, bytesMax: 1_000 });
  const types: number[] = [];
  reader.push(raw(connect(4), publish(4, { payload: Buffer.alloc(500) })), (one) => {
    reader.connected();
    types.push(one.type);
  });
  assert.deepEqual(types, [1, 3]);
});

test("refuses a remaining length of more than four bytes, as soon as the fourth is there", () => {
  for (const level of LEVELS) {
    assert.equal(faultOf(level, raw("30ffffffff")).reasonCode, CODE.malformed);
    assert.equal(packetsOf(readerOf(level), raw("30ffffff7f")).length, 0);
  }
});

test("[MQTT-3.1.0-1] refuses a first packet that is no CONNECT, by its header alone", () => {
  for (const first of ["20", "30", "40", "62", "82", "c0", "e0", "f0", "00"]) {
    assert.equal(connectFaultOf(raw(first, "05")).reasonCode, CODE.protocolError, first);
    assert.equal(connectFaultOf(raw(first, "05")).refusalLevel, undefined);
  }
});

test("[MQTT-3.1.0-2] refuses a second CONNECT", () => {
  for (const level of LEVELS) {
    assert.equal(faultOf(level, connect(level)).reasonCode, CODE.protocolError);
  }
});

test("[MQTT-1.5.5-1] refuses a remaining length that is longer than it need be, in 5.0 alone", () => {
  const padded = raw("c08000");
  assert.equal(faultOf(5, padded).reasonCode, CODE.malformed);
  for (const level of [3, 4] as const) assert.equal(read(level, padded).type, 12);
  const connectBytes = raw("10", [connect(5).length - 2 + 0x80, 0], connect(5).subarray(2));
  const fault = connectFaultOf(connectBytes);
  assert.deepEqual([fault.reasonCode, fault.refusalLevel], [CODE.malformed, 5]);
});

test("[MQTT-3.14.4-2] looks at nothing behind a DISCONNECT, in its chunk or later", () => {
  const reader = readerOf(4);
  const types = packetsOf(reader, raw(DISCONNECT, "ffffffffff"), raw("ff")).map((one) => one.type);
  assert.deepEqual(types, [14]);
  const gathering = readerOf(4);
  assert.equal(packetsOf(gathering, raw("e0"), raw("00ffff"), raw("ff")).length, 1);
});

test("lets through what its handler throws, having handed over no later packet", () => {
  const reader = readerOf(4);
  const seen: number[] = [];
  const handler = (one: { type: number }) => {
    seen.push(one.type);
    throw new TypeError("the handler's own");
  };
  assert.throws(() => reader.push(raw(PINGREQ, publish(4)), handler), TypeError);
  assert.deepEqual(seen, [12]);
});

// hostile.test: whatever bytes come, they are packets or one WireError, in bounded time.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PacketReader } from "../../../../broker/mqtt/wire/packet-reader.ts";
import {
  type ClientPacket,
  PACKET,
  type ProtocolLevel,
} from "../../../../broker/mqtt/wire/packets.ts";
import { WireError } from "../../../../broker/mqtt/wire/wire-error.ts";
import { connect, field, LEVELS, packet, properties, publish, raw } from "./packet-bytes.ts";

const LIMITS = { beforeConnectBytesMax: 5_000, bytesMax: 50_000 };
const USER = raw("26", field("k"), field("v"));

/** One of each packet, with all that it can have. */
function everyPacket(level: ProtocolLevel): Buffer[] {
  const reason = level === 5 ? raw("00", properties(5, "1f", field("why"), USER)) : raw();
  const willBlock = properties(level, "0101 1800000005", USER, "0200000001 08", field("r"));
  const connectRest = raw(willBlock, field("w/t"), field("gone"), field("user"), field("secret"));
  const block = raw("11ffffffff 210014 2700010000 22000a 1901 1700", USER, "15", field("m"));
  const parts = raw("0101 23000a", USER, "03", field("t"), "020000000a 09", field("c"));
  const auth = packet(0xf0, "18", properties(5, "15", field("m"), "16", field("d")));
  return [
    connect(level, { flags: 0xee, properties: block, rest: connectRest }),
    publish(level, { qos: 0, topic: "tür/öffnen" }),
    publish(level, { qos: 1, properties: parts, payload: Buffer.alloc(200, 0x61) }),
    publish(level, { qos: 2, flags: 9, properties: parts }),
    ...[0x40, 0x50, 0x62, 0x70].map((first) => packet(first, "0007", reason)),
    packet(0x82, "0001", properties(level, "0b05", USER), field("a/#"), "01", field("+"), "02"),
    packet(0xa2, "0001", properties(level, USER), field("a/#"), field("+")),
    packet(0xc0),
    ...(level === 5 ? [auth] : []),
    packet(0xe0, level === 5 ? raw("04", properties(5, "1100000001", USER)) : ""),
  ];
}

/** What came of a stream: packets, and the fault that ended it. Any other failure is let through. */
function outcome(reader: PacketReader, chunks: readonly Buffer[]) {
  const packets: ClientPacket[] = [];
  try {
    for (const chunk of chunks) reader.push(chunk, (one) => packets.push(one));
  } catch (fault) {
    if (!(fault instanceof WireError)) throw fault;
    assertSound(fault);
    return { packets, fault: [fault.reasonCode, fault.refusalLevel, fault.message] };
  }
  return { packets, fault: undefined };
}

function assertSound(fault: WireError): void {
  assert.ok(fault.reasonCode >= 0x80 && fault.reasonCode <= 0xa2);
  assert.ok(fault.message.length > 0 && fault.message.length < 200);
}

/** Nothing that a session relies on is missing in what was read. */
function assertSane(one: ClientPacket, level: ProtocolLevel | undefined): void {
  if (one.type === PACKET.publish) {
    assert.ok(one.topic !== "" || (level === 5 && one.topicAlias !== undefined));
    const bad = ["+", "#", "\u0000"].filter((unit) => one.topic.includes(unit));
    assert.deepEqual(bad, []);
    assert.ok(one.topic.isWellFormed());
    assert.equal(one.packetId > 0, one.qos > 0);
  }
  if (one.type === PACKET.subscribe) {
    for (const { filter, qos } of one.subscriptions) assert.ok(filter.isWellFormed() && qos < 3);
    assert.ok(one.subscriptions.length > 0);
  }
  if (one.type === PACKET.connect) assert.ok(one.receiveMaximum > 0);
}

function cut(stream: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, turn = 0; at < stream.length; turn += 1) {
    const end = at + (sizes[turn % sizes.length] ?? 1);
    chunks.push(stream.subarray(at, end));
    at = end;
  }
  return chunks;
}

const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 });

/** The same outcome whole and in chunks, and every packet of it sound. */
function assertHandled(stream: Buffer, someSizes: readonly number[]): void {
  const reader = new PacketReader(LIMITS);
  const whole = outcome(reader, [stream]);
  for (const one of whole.packets) assertSane(one, reader.level);
  assert.deepEqual(outcome(new PacketReader(LIMITS), cut(stream, someSizes)), whole);
}

test("takes one of every packet with all that it can have", () => {
  for (const level of LEVELS) {
    const { packets, fault } = outcome(new PacketReader(LIMITS), [raw(...everyPacket(level))]);
    assert.equal(fault, undefined);
    assert.equal(packets.length, everyPacket(level).length);
  }
});

test("makes of random bytes packets or one WireError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), sizes, (bytes, someSizes) => {
      assertHandled(raw(bytes), someSizes);
    }),
    { seed: 1, numRuns: 2_000 },
  );
});

test("makes of random bytes behind a CONNECT packets or one WireError", () => {
  const bodies = fc.uint8Array({ maxLength: 40 });
  const tail = fc.array(fc.tuple(fc.nat(255), bodies), { maxLength: 5 });
  fc.assert(
    fc.property(fc.constantFrom(...LEVELS), tail, sizes, (level, packets, someSizes) => {
      const bytes = packets.map(([first, body]) => packet(first, body));
      assertHandled(raw(connect(level), ...bytes), someSizes);
    }),
    { seed: 2, numRuns: 2_000 },
  );
});

type Mutation = { readonly kind: "set" | "cut" | "insert" | "double"; at: number; byte: number };

function mutate(stream: Buffer, { kind, at, byte }: Mutation): Buffer {
  const place = at % stream.length;
  const [head, tail] = [stream.subarray(0, place), stream.subarray(place)];
  if (kind === "set") return raw(head, [byte], tail.subarray(1));
  if (kind === "cut") return raw(head, tail.subarray(1 + (byte % 8)));
  if (kind === "insert") return raw(head, [byte], tail);
  return raw(head, tail.subarray(0, 1 + (byte % 40)), tail);
}

const mutations = fc.array(
  fc.record({
    kind: fc.constantFrom("set", "set", "cut", "insert", "double"),
    at: fc.nat(1_000),
    byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
  }),
  { minLength: 1, maxLength: 4 },
);

test("makes of mutated sessions packets or one WireError", () => {
  fc.assert(
    fc.property(fc.constantFrom(...LEVELS), mutations, sizes, (level, some, someSizes) => {
      let stream = raw(...everyPacket(level));
      for (const one of some) if (stream.length > 0) stream = mutate(stream, one);
      assertHandled(stream, someSizes);
    }),
    { seed: 3, numRuns: 2_000 },
  );
});

test("makes of each packet with one byte changed a packet or one WireError", () => {
  for (const level of LEVELS) {
    for (const [index, bytes] of everyPacket(level).entries()) {
      for (let at = 0; at < bytes.length; at += 1) {
        for (const byte of [0x00, 0x01, 0x7f, 0x80, 0xff, (bytes[at] ?? 0) ^ 0x10]) {
          const changed = raw(bytes);
          changed[at] = byte;
          const reader = new PacketReader(LIMITS);
          const stream = index === 0 ? changed : raw(connect(level), changed);
          for (const one of outcome(reader, [stream]).packets) assertSane(one, reader.level);
        }
      }
    }
  }
});

test("reads a packet of very many small parts in linear time", () => {
  const parts = (count: number) => {
    const block = Buffer.concat(new Array<Buffer>(count).fill(USER));
    const filters = Buffer.concat(new Array<Buffer>(count).fill(raw("00016100")));
    return [publish(5, { properties: block }), packet(0x82, "0001 00", filters)];
  };
  const limits = { beforeConnectBytesMax: 1_000, bytesMax: 10_000_000 };
  const startedAt = process.cpuUsage();
  const reader = new PacketReader(limits);
  reader.push(connect(5), () => undefined);
  reader.connected();
  for (const bytes of parts(200_000)) reader.push(bytes, () => undefined);
  const { user } = process.cpuUsage(startedAt);
  assert.ok(user < 2_000_000, `${user} µs of CPU`);
});

// packet-framer.test: packets are followed however they are cut, and noise is told from them.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { generate, type IConnectPacket, type Packet } from "mqtt-packet";
import {
  PacketFramer,
  type Piece,
} from "../../../../firmware-bridge/drivers/mqtt/packet-framer.ts";
import { clientPackets, connectPackets } from "./packets.ts";

const CONNECT = generate({
  ...{ cmd: "connect", protocolId: "MQTT", protocolVersion: 4 },
  ...{ clientId: "box", clean: true, keepalive: 60 },
} as IConnectPacket);
const PING = generate({ cmd: "pingreq" });

function cutAt(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const sorted = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...sorted, bytes.length].map((end, index) => bytes.subarray(sorted[index - 1] ?? 0, end));
}

function frame(chunks: readonly Uint8Array[], packetBytesMax = 65_536): Piece[] {
  const framer = new PacketFramer(packetBytesMax);
  return chunks.flatMap((chunk) => framer.push(chunk));
}

/** Pieces without regard to where chunks ended: CONNECTs, and what lies between them. */
function joined(pieces: readonly Piece[]): string[] {
  const all: string[] = [];
  let last = "";
  for (const piece of pieces) {
    const hex = Buffer.from(piece.bytes).toString("hex");
    if (piece.kind === "bytes" && last === "bytes") all[all.length - 1] += hex;
    else all.push(piece.kind === "fault" ? "fault" : `${piece.kind} ${hex}`);
    last = piece.kind;
  }
  return all;
}

const sessions = fc.array(fc.tuple(connectPackets, fc.array(clientPackets, { maxLength: 8 })), {
  minLength: 1,
  maxLength: 4,
});
const cuts = fc.array(fc.nat(), { maxLength: 30 });

test("passes all packets on byte for byte and each CONNECT whole, however they are cut", () => {
  fc.assert(
    fc.property(sessions, cuts, (some, where) => {
      const expected: string[] = [];
      const said: Uint8Array[] = [];
      for (const [connect, packets] of some) {
        said.push(generate(connect));
        expected.push(`connect ${generate(connect).toString("hex")}`);
        const rest = Buffer.concat(packets.map((packet: Packet) => generate(packet)));
        said.push(rest);
        if (rest.length > 0) expected.push(`bytes ${rest.toString("hex")}`);
      }
      const pieces = frame(cutAt(Buffer.concat(said), where));
      assert.deepEqual(joined(pieces), expected);
      const counted = pieces.reduce((n, it) => n + (it.kind === "bytes" ? it.packets : 0), 0);
      assert.equal(
        counted,
        some.reduce((n, [, packets]) => n + packets.length, 0),
      );
    }),
    { seed: 5 },
  );
});

test("skips what a boot loader says, and tells it once, however it is cut", () => {
  const banner = Buffer.from(
    "\x10\x00rst:0x1 (POWERON)\x10\x10\x0c\x00\x04MQTX\r\n\0\xff",
    "latin1",
  );
  fc.assert(
    fc.property(cuts, (where) => {
      const pieces = frame(cutAt(Buffer.concat([banner, CONNECT, PING]), where));
      const expected = ["fault", `connect ${CONNECT.toString("hex")}`, "bytes c000"];
      assert.deepEqual(joined(pieces), expected);
    }),
    { seed: 5 },
  );
});

test("takes nothing for a packet before there was a CONNECT", () => {
  assert.deepEqual(joined(frame([PING, CONNECT])), ["fault", `connect ${CONNECT.toString("hex")}`]);
});

test("loses the thread at what no client sends, and finds it at the next CONNECT", () => {
  const cases = {
    "a reserved type": [0x00, 0],
    "a packet of brokers": [0x20, 2, 0, 0],
    "wrong flags": [0x80, 2, 0, 1],
    "QoS 3": [0x36, 2, 0, 0],
    "a length of five bytes": [0x30, 0xff, 0xff, 0xff, 0xff, 0x01],
    "a longer packet than the limit": [0x30, 0x80, 0x80, 0x04],
    "a CONNECT without the name": [0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x58],
    "a CONNECT too short": [0x10, 2, 0, 4],
  };
  for (const [what, bytes] of Object.entries(cases)) {
    const said = Buffer.concat([CONNECT, PING, Buffer.from(bytes), Buffer.from("hm"), CONNECT]);
    for (const chunks of [[said], [...said].map((byte) => Uint8Array.of(byte))]) {
      const connect = `connect ${CONNECT.toString("hex")}`;
      assert.deepEqual(joined(frame(chunks)), [connect, "bytes c000", "fault", connect], what);
    }
  }
});

test("follows what MQTT 3.1 alone says again with DUP: PUBREL, SUBSCRIBE and UNSUBSCRIBE", () => {
  const old = generate({
    ...{ cmd: "connect", protocolId: "MQIsdp", protocolVersion: 3 },
    ...{ clientId: "box", clean: true, keepalive: 60 },
  } as IConnectPacket);
  for (const first of [0x6a, 0x8a, 0xaa]) {
    const again = Uint8Array.of(first, 2, 0, 9);
    const followed = (connect: Uint8Array) =>
      frame([Buffer.concat([connect, again, PING])]).map(({ kind }) => kind);
    assert.deepEqual(followed(old), ["connect", "bytes"]);
    assert.deepEqual(followed(CONNECT), ["connect", "fault"]);
    assert.deepEqual(followed(Buffer.concat([old, CONNECT])), ["connect", "connect", "fault"]);
  }
});

test("holds a packet of the very limit, and not one of a byte more", () => {
  const publish = (bytes: number) =>
    Buffer.concat([Uint8Array.of(0x30, bytes), Buffer.alloc(bytes)]);
  assert.equal(frame([CONNECT, publish(98)], 100).at(-1)?.kind, "bytes");
  assert.equal(frame([CONNECT, publish(99)], 100).at(-1)?.kind, "fault");
});

test("after a packet that broke off, begins with the next CONNECT", () => {
  const framer = new PacketFramer(1_000);
  for (const begun of [CONNECT.subarray(0, 1), CONNECT.subarray(0, 9), CONNECT.subarray(0, 12)]) {
    framer.push(begun);
    assert.ok(framer.isWithinPacket);
    framer.breakOff();
    assert.ok(!framer.isWithinPacket);
  }
  framer.push(CONNECT);
  assert.ok(!framer.isWithinPacket);
  framer.push(Uint8Array.of(0x30, 50, 0, 1));
  assert.ok(framer.isWithinPacket);
  framer.breakOff();
  assert.deepEqual(joined(framer.push(CONNECT)), [`connect ${CONNECT.toString("hex")}`]);
});

test("makes of any bytes pieces that are theirs, in order, and holds less than a header", () => {
  const some = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.constantFrom(CONNECT, PING, CONNECT.subarray(0, 9), Uint8Array.of(0x10, 0x0c, 0, 4)),
  );
  fc.assert(
    fc.property(fc.array(some, { maxLength: 12 }), cuts, (parts, where) => {
      const said = Buffer.concat(parts);
      const pieces = frame(cutAt(said, where), 200);
      let from = 0;
      for (const { kind, bytes } of pieces) {
        if (kind === "fault") continue;
        assert.ok(bytes.length > 0);
        const at = said.indexOf(bytes, from);
        assert.ok(at >= from, `${Buffer.from(bytes).toString("hex")} is there`);
        from = at + bytes.length;
      }
      // What is told does not hang on where the chunks were cut.
      assert.deepEqual(joined(pieces), joined(frame([said], 200)));
    }),
    { seed: 5, numRuns: 1_000 },
  );
});

// packet-gate.test: what the gate lets through, however the bytes are cut.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SluiceError } from "#contract/errors";
import { PacketGate } from "../../../broker/mqtt/packet-gate.ts";

const LIMITS = { beforeConnectBytesMax: 200, bytesMax: 40_000 };
const SEED = 20_261;
const TOO_LARGE = { name: "SluiceError", code: "PACKET_TOO_LARGE" };

/** A packet with `length` bytes behind its fixed header. */
function packet(length: number): Buffer {
  const header = [0x30];
  let rest = length;
  do {
    header.push((rest % 0x80) | (rest >= 0x80 ? 0x80 : 0));
    rest = Math.floor(rest / 0x80);
  } while (rest > 0);
  // A body of bytes that, taken for headers, would be refused.
  return Buffer.concat([Buffer.from(header), Buffer.alloc(length, 0xff)]);
}

function connectedGate(limits = LIMITS): PacketGate {
  const gate = new PacketGate(limits);
  gate.connected();
  return gate;
}

/** How many bytes of `stream` the gate looked at before it refused; -1 when it did not. */
function refusedAt(gate: PacketGate, stream: Uint8Array): number {
  for (const [index, byte] of stream.entries()) {
    try {
      gate.push(Uint8Array.of(byte));
    } catch (fault) {
      assert.ok(fault instanceof SluiceError && fault.code === "PACKET_TOO_LARGE");
      return index + 1;
    }
  }
  return -1;
}

test("lets a packet of just the limit through, and refuses one byte more", () => {
  const gate = connectedGate({ beforeConnectBytesMax: 200, bytesMax: 300 });
  gate.push(packet(297));
  assert.throws(() => gate.push(packet(298)), {
    ...TOO_LARGE,
    message: "an MQTT packet of 301 bytes is over the 300 that a client may send",
  });
});

test("refuses by the declared length, before a byte of the packet is there", () => {
  const header = packet(50_000).subarray(0, 4);
  assert.equal(refusedAt(connectedGate(), header), 4);
});

test("measures by the lower limit until the client is connected", () => {
  const gate = new PacketGate(LIMITS);
  gate.push(packet(150));
  assert.throws(() => gate.push(packet(250)), TOO_LARGE);
});

test("measures by the higher limit from the packet after connected() on", () => {
  const gate = new PacketGate(LIMITS);
  const connect = packet(150);
  gate.push(connect.subarray(0, 20));
  gate.connected();
  gate.push(connect.subarray(20));
  gate.push(packet(30_000));
  assert.throws(() => gate.push(packet(40_000)), TOO_LARGE);
});

test("refuses a remaining length of more than four bytes [MQTT 3.1.1 §2.2.3]", () => {
  const generous = { beforeConnectBytesMax: 1, bytesMax: 268_435_460 };
  assert.equal(refusedAt(connectedGate(generous), Buffer.from("30ffffffff7f", "hex")), 5);
  assert.equal(refusedAt(connectedGate(generous), Buffer.from("30ffffff7f", "hex")), -1);
});

test("lets packets without a body follow one another", () => {
  connectedGate().push(Buffer.from("c000c000c000e000", "hex"));
});

test("takes the bytes of a body for what they are, not for headers", () => {
  const gate = connectedGate();
  gate.push(packet(1));
  gate.push(packet(127));
  gate.push(packet(128));
  gate.push(packet(16_384));
  gate.push(packet(0));
});

test("judges arbitrary bytes alike, whole or in any chunks, and never by another error", () => {
  const hostile = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      fc.integer({ min: 0, max: 1_000 }).map(packet),
    ),
    { maxLength: 8 },
  );
  const cuts = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(hostile, cuts, fc.boolean(), (pieces, sizes, isConnected) => {
      const stream = Buffer.concat(pieces);
      const limits = { beforeConnectBytesMax: 150, bytesMax: 900 };
      const make = () => (isConnected ? connectedGate(limits) : new PacketGate(limits));
      const place = refusedAt(make(), stream);
      const gate = make();
      let at = 0;
      for (let turn = 0; at < stream.length; turn += 1) {
        const chunk = stream.subarray(at, at + (sizes[turn % sizes.length] ?? 1));
        at += chunk.length;
        if (place >= 0 && place <= at) return assert.throws(() => gate.push(chunk), TOO_LARGE);
        gate.push(chunk);
      }
      return undefined;
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test("counts through well-formed packets of every size, and refuses the first that is over", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(39_996), { maxLength: 6 }), (lengths) => {
      const fits = Buffer.concat(lengths.map(packet));
      const gate = connectedGate();
      gate.push(fits);
      assert.throws(() => gate.push(packet(39_997)), TOO_LARGE);
    }),
    { seed: SEED, numRuns: 100 },
  );
});

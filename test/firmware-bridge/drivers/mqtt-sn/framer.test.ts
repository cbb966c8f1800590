// framer.test: what cutting a serial line into MQTT-SN messages promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Framed, Framer } from "../../../../firmware-bridge/drivers/mqtt-sn/framer.ts";
import { unwrap, wrap } from "../../../../firmware-bridge/drivers/mqtt-sn/frames.ts";
import { encodePacket } from "../../../../firmware-bridge/drivers/mqtt-sn/packets.ts";
import { bytes, packets, RUNS } from "./arbitraries.ts";

const MESSAGE_BYTES_MAX = 2_048;
const PING = encodePacket({ type: "pingreq", clientId: "box" });

function frames(framed: readonly Framed[]): string[] {
  return framed
    .filter((it) => it.kind === "frame")
    .map((it) => Buffer.from(it.bytes).toString("hex"));
}

/** The frames, and how many bytes were none. */
function cut(chunks: readonly Uint8Array[], silent = true) {
  const framer = new Framer(MESSAGE_BYTES_MAX);
  const framed = chunks.flatMap((chunk) => framer.push(chunk));
  if (silent) framed.push(...framer.silence());
  const skipped = framed.reduce((sum, it) => {
    return sum + (it.kind === "fault" ? Number.parseInt(it.reason, 10) : 0);
  }, 0);
  return { frames: frames(framed), skipped, framer };
}

/** A message, or one that a forwarder sent. */
const frame = fc
  .tuple(packets, fc.option(fc.uint8Array({ maxLength: 8 })))
  .map(([packet, nodeId]) => {
    const message = encodePacket(packet);
    return nodeId ? wrap(message, { control: 1, nodeId }) : message;
  });

test("§5.2.1, §5.5: gives the same frames wherever the bytes are cut", () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 6 }), fc.array(fc.nat(2_000)), (all, cuts) => {
      const stream = Buffer.concat(all);
      const expected = all.map((it) => it.toString("hex"));
      const places = [0, ...cuts.filter((it) => it < stream.length), stream.length].sort(
        (a, b) => a - b,
      );
      const chunks = places.map((it, index) => stream.subarray(places[index - 1] ?? 0, it));
      const single = [...stream].map((byte) => Buffer.of(byte));
      for (const some of [chunks, single, [stream]]) {
        const { frames, skipped } = cut(some, false);
        assert.deepEqual(frames, expected);
        assert.equal(skipped, 0);
      }
    }),
    { ...RUNS, numRuns: 300 },
  );
});

test("loses no byte unseen, whatever comes, and holds no more than one frame", () => {
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 8 }), (chunks) => {
      const { frames, skipped, framer } = cut(chunks);
      const all = Buffer.concat(chunks).length;
      assert.equal(
        frames.reduce((sum, it) => sum + it.length / 2, skipped),
        all,
      );
      assert.equal(framer.isWaiting, false);
    }),
    RUNS,
  );
});

test("takes a message that came right behind bytes that are none, when the line is silent", () => {
  for (const noise of ["30 0c", "00", "ff", "40 0c 00 00 01 00 00", "01 07", "03 fe"]) {
    const before = Buffer.from(noise.replaceAll(" ", ""), "hex");
    const { frames, skipped } = cut([before, PING]);
    assert.deepEqual(frames, [PING.toString("hex")], noise);
    assert.equal(skipped, before.length);
  }
});

test("understands again after a byte was lost anywhere, at the latest with the next silence", () => {
  fc.assert(
    fc.property(frame, fc.nat(1_000), (damaged, place) => {
      const lost = place % damaged.length;
      const rest = Buffer.concat([damaged.subarray(0, lost), damaged.subarray(lost + 1)]);
      const framer = new Framer(MESSAGE_BYTES_MAX);
      framer.push(rest);
      framer.silence();
      assert.deepEqual(frames(framer.push(PING)), [PING.toString("hex")]);
    }),
    RUNS,
  );
});

test("§5.5: takes the encapsulation off, and puts it on again", () => {
  fc.assert(
    fc.property(packets, fc.uint8Array({ maxLength: 200 }), (packet, nodeId) => {
      const message = encodePacket(packet);
      const { message: inner, encapsulation } = unwrap(wrap(message, { control: 2, nodeId }));
      assert.deepEqual(Buffer.from(inner), message);
      assert.deepEqual([...(encapsulation?.nodeId ?? [])], [...nodeId]);
      assert.equal(encapsulation?.control, 2);
      assert.equal(unwrap(message).encapsulation, undefined);
    }),
    RUNS,
  );
  const wrapped = wrap(Buffer.of(0x02, 0x16), { control: 0, nodeId: Buffer.of(0xaa, 0xbb) });
  assert.equal(wrapped.toString("hex"), "05fe00aabb0216");
});

test("goes through 64 KiB of bad luck in well under a second", () => {
  const framer = new Framer(65_535);
  const startMs = performance.now();
  for (let chunk = 0; chunk < 16; chunk += 1) framer.push(Buffer.alloc(4_096, 0x03));
  framer.push(Buffer.from("01ffff0c", "hex"));
  for (let chunk = 0; chunk < 15; chunk += 1) framer.push(Buffer.alloc(4_096, 0x02));
  framer.silence();
  assert.ok(performance.now() - startMs < 1_000);
});

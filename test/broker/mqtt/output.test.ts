// output.test: what is written to a connection comes out whole and in order, however it is read.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { FlushTurn, Output, type PacketBytes } from "../../../broker/mqtt/output.ts";

/** A stream whose reader takes what was written only when it is told to. */
class SlowStream extends Duplex {
  readonly taken: Buffer[] = [];
  #take: (() => void) | undefined;

  constructor() {
    super({ allowHalfOpen: true });
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#take = () => {
      // As it is now: what is changed after it was written would be seen.
      this.taken.push(Buffer.from(chunk));
      done();
    };
  }

  /** One chunk, if there is any. */
  takeOne(): boolean {
    const take = this.#take;
    this.#take = undefined;
    take?.();
    return take !== undefined;
  }
}

interface Sent {
  readonly packet: PacketBytes;
  readonly packetId: number;
  readonly dup: boolean;
}

function open() {
  const stream = new SlowStream();
  const output = new Output(stream, new FlushTurn());
  stream.on("drain", () => output.flush());
  return { stream, output };
}

/** Until nothing is left in it, however slowly. */
async function takeAll(stream: SlowStream): Promise<void> {
  do await turn();
  while (stream.takeOne() || stream.writableLength > 0);
}

function packetOf(length: number, packetIdAt: number, fill: number): PacketBytes {
  const bytes = Buffer.alloc(length, fill);
  bytes[0] = 0x32;
  return { bytes, packetIdAt };
}

/** The packet as the client must see it. */
function expected({ packet, packetId, dup }: Sent): Buffer {
  const bytes = Buffer.from(packet.bytes);
  if (packet.packetIdAt < 0) return bytes;
  bytes.writeUInt16BE(packetId, packet.packetIdAt);
  if (dup) bytes[0] = (bytes[0] ?? 0) | 0x08;
  return bytes;
}

const length = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 8, max: 200 }) },
  { weight: 2, arbitrary: fc.constantFrom(16_383, 16_384, 16_385, 40_000) },
  { weight: 1, arbitrary: fc.constantFrom(131_072, 262_143, 262_145, 600_000) },
);
/** Few packets, that many are written of: as those that several subscribers get. */
const shared = fc.array(fc.record({ length, packetIdAt: fc.constantFrom(-1, 2, 6) }), {
  minLength: 1,
  maxLength: 4,
});
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      which: fc.nat(3),
      count: fc.constantFrom(1, 1, 3, 30),
      packetId: fc.integer({ min: 1, max: 65_535 }),
      dup: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("turn" as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("take" as const) }) },
);

test("all comes out whole, in order, with its own packet id and DUP, from bytes that are shared", async () => {
  const steps = fc.array(step, { maxLength: 25 });
  const property = fc.asyncProperty(shared, steps, async (wanted, all) => {
    const { stream, output } = open();
    const packets = wanted.map((it, index) => packetOf(it.length, it.packetIdAt, index + 1));
    const originals = packets.map(({ bytes }) => Buffer.from(bytes));
    const sent: Sent[] = [];
    const longest = Math.max(...wanted.map((it) => it.length));
    for (const one of all) {
      if (one.kind === "turn") await turn();
      else if (one.kind === "take") stream.takeOne();
      else {
        const packet = packets[one.which % packets.length] as PacketBytes;
        for (let index = 0; index < one.count; index += 1) {
          const it = { packet, packetId: ((one.packetId + index) % 65_535) + 1, dup: one.dup };
          output.write(it.packet, it.packetId, it.dup);
          sent.push(it);
        }
      }
      const bytes = sent.reduce((sum, { packet }) => sum + packet.bytes.length, 0);
      const inFlight = bytes - stream.taken.reduce((sum, chunk) => sum + chunk.length, 0);
      assert.equal(output.unsentBytes, inFlight);
      assert.ok(stream.writableLength <= 131_072 + Math.max(262_144, longest), "bounded");
    }
    await takeAll(stream);
    const received = Buffer.concat(stream.taken);
    assert.ok(received.equals(Buffer.concat(sent.map(expected))));
    assert.ok(packets.every(({ bytes }, index) => bytes.equals(originals[index] ?? bytes)));
    assert.deepEqual([output.unsentBytes, output.waitingPackets, output.isBlocked], [0, 0, false]);
  });
  await fc.assert(property, { seed: 1, numRuns: 200 });
});

test("what is written in one turn of the event loop goes out in one write", async () => {
  const { stream, output } = open();
  for (let index = 0; index < 100; index += 1) output.write(packetOf(10, 2, 0), index + 1);
  assert.equal(stream.writableLength, 0, "not before the turn is over");
  await takeAll(stream);
  assert.deepEqual(
    stream.taken.map((chunk) => chunk.length),
    [1_000],
  );
});

test("many packets wait for a reader who is slow, and are let go as they are written", async () => {
  const { stream, output } = open();
  const packet = packetOf(1_000, 2, 7);
  const sent = Array.from({ length: 5_000 }, (_, index) => ({
    packet,
    packetId: index + 1,
    dup: index % 3 === 0,
  }));
  for (const { packetId, dup } of sent) output.write(packet, packetId, dup);
  await turn();
  assert.equal(output.isBlocked, true);
  assert.ok(output.waitingPackets > 4_000 && output.waitingPackets < 5_000);
  await takeAll(stream);
  assert.ok(Buffer.concat(stream.taken).equals(Buffer.concat(sent.map(expected))));
  assert.equal(output.waitingPackets, 0);
});

test("nothing is written or kept when the stream is over", async () => {
  for (const end of [
    (stream: SlowStream) => stream.destroy(),
    (stream: SlowStream) => stream.end(),
  ]) {
    const { stream, output } = open();
    stream.on("error", (fault) => assert.fail(fault));
    output.write(packetOf(10, -1, 1));
    end(stream);
    await turn();
    await turn();
    assert.deepEqual([output.waitingPackets, stream.taken.length], [0, 0]);
  }
});

test("all outputs that share a turn are flushed in it, and those written to meanwhile in the next", async () => {
  const turns = new FlushTurn();
  const streams = [new SlowStream(), new SlowStream()];
  const outputs = streams.map((stream) => new Output(stream, turns));
  for (const output of outputs) output.write(packetOf(10, -1, 1));
  await turn();
  for (const stream of streams) assert.equal(stream.writableLength, 10);
  outputs[0]?.write(packetOf(5, -1, 1));
  await turn();
  assert.deepEqual(
    streams.map((stream) => stream.writableLength),
    [15, 10],
  );
});

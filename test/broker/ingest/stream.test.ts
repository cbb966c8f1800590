import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeFrame } from "#contract/frame";
import { encodeGap, encodeMessage } from "#contract/message";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import type { Checkpoint } from "../../../broker/ingest/checkpoints.ts";
import { isOlderId, type LandingEntry } from "../../../broker/ingest/landing.ts";
import { Stream, streamCounters } from "../../../broker/ingest/stream.ts";

const GATEWAY = "gw-001";
const EPOCH = 7;
// What is refused on purpose must not fill the test's output.
const log = createLog({ level: "error", process: "test" });
log.level = "silent";

function record(text: string, topic = "t"): Uint8Array {
  const payload = new TextEncoder().encode(text);
  return encodeMessage({ topic, payload, qos: 1, retain: false, takenAtMs: 1 });
}

function entry(id: string, first: number, records: Uint8Array[], epoch = EPOCH): LandingEntry {
  return { gateway: GATEWAY, id, lane: "default", epoch, frame: encodeFrame(first, records) };
}

function openStream(checkpoint: Partial<Checkpoint> = {}, isOurs = () => true) {
  const delivered: string[] = [];
  const saved: string[] = [];
  const buried: string[] = [];
  const metrics = new Metrics();
  const stream = new Stream({
    gateway: GATEWAY,
    checkpoint: { cursor: "0-0", lanes: new Map(), ...checkpoint },
    deliver: async ({ topic, payload }) => {
      delivered.push(`${topic} ${new TextDecoder().decode(payload)}`);
    },
    save: async (cursor, lane, { epoch, seq }) => {
      saved.push(`${cursor} ${lane} ${epoch}:${seq}`);
      return isOurs();
    },
    bury: async (_entry, reason) => void buried.push(reason),
    log,
    count: streamCounters(metrics),
  });
  return { stream, delivered, saved, buried, metrics };
}

const at = (seq: number, epoch = EPOCH) => new Map([["default", { epoch, seq }]]);

test("delivers under the gateway's prefix and then saves how far it came", async () => {
  const { stream, delivered, saved } = openStream();
  assert.equal(await stream.take(entry("5-0", 1, [record("a"), record("b")])), "taken");
  assert.deepEqual(delivered, ["from/gw-001/t a", "from/gw-001/t b"]);
  assert.deepEqual(saved, ["5-0 default 7:2"]);
  assert.equal(stream.cursor, "5-0");
});

test("delivers only what is new of a frame that was delivered in part", async () => {
  const { stream, delivered, metrics } = openStream({ lanes: at(2) });
  await stream.take(entry("5-0", 1, [record("a"), record("b"), record("c")]));
  assert.deepEqual(delivered, ["from/gw-001/t c"]);
  assert.equal(metrics.total("sluice_ingest_repeats_total"), 2);
});

test("says that the gateway is another node's when the save is fenced", async () => {
  const { stream } = openStream({}, () => false);
  assert.equal(await stream.take(entry("5-0", 1, [record("a")])), "gone");
});

test("reads the stream from its beginning once more before it calls a hole a loss", async () => {
  const { stream, delivered, metrics } = openStream({ cursor: "9-0", lanes: at(2) });
  assert.equal(await stream.take(entry("10-0", 5, [record("e")])), "again");
  assert.deepEqual([delivered, stream.cursor], [[], "0-0"]);
  await stream.take(entry("1-0", 1, [record("a"), record("b"), record("c"), record("d")]));
  await stream.take(entry("10-0", 5, [record("e")]));
  assert.deepEqual(delivered, ["from/gw-001/t c", "from/gw-001/t d", "from/gw-001/t e"]);
  assert.equal(metrics.total("sluice_ingest_lost_total"), 0);
});

test("counts a loss, and goes on behind it, when the hole is there the second time too", async () => {
  const { stream, delivered, metrics } = openStream({ lanes: at(2) });
  await stream.take(entry("10-0", 5, [record("e")]));
  await stream.take(entry("10-0", 5, [record("e")]));
  assert.deepEqual(delivered, ["from/gw-001/t e"]);
  assert.equal(metrics.total("sluice_ingest_lost_total"), 2);
});

test("begins a new epoch at 1 and ignores what an older one says afterwards", async () => {
  const { stream, delivered, saved } = openStream({ lanes: at(40) });
  await stream.take(entry("5-0", 1, [record("new")], EPOCH + 1));
  await stream.take(entry("6-0", 41, [record("old")], EPOCH));
  assert.deepEqual(delivered, ["from/gw-001/t new"]);
  assert.deepEqual(saved, ["5-0 default 8:1"]);
});

test("counts what a gap record stands for, but not what had come before", async () => {
  const { stream, metrics, saved } = openStream({ lanes: at(60) });
  const gap = encodeGap({ from: 1, to: 100, count: 100, reason: "forgotten" });
  await stream.take(entry("5-0", 1, [gap, record("a")]));
  assert.equal(metrics.total("sluice_ingest_gaps_total"), 40);
  assert.deepEqual(saved, ["5-0 default 7:101"]);
});

test("buries what is no frame or has no topic, and goes on", async () => {
  const { stream, buried, delivered } = openStream();
  await stream.take({ ...entry("5-0", 1, []), frame: Buffer.from("nonsense") });
  await stream.take(entry("6-0", 1, [record("a", "w/#"), record("b")]));
  assert.equal(buried.length, 2);
  assert.deepEqual(delivered, ["from/gw-001/t b"]);
});

test("goes back to the stream's beginning when the landing's newest id is behind the cursor", () => {
  const { stream } = openStream({ cursor: "10-5" });
  stream.rewindBehind("10-5");
  assert.equal(stream.cursor, "10-5");
  stream.rewindBehind("10-4");
  assert.equal(stream.cursor, "0-0");
});

test("orders stream ids by time, then by number", () => {
  assert.ok(isOlderId("9-99", "10-0") && isOlderId("10-2", "10-10"));
  assert.ok(!isOlderId("10-0", "10-0"));
});

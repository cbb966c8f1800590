import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeFrame } from "#contract/frame";
import { encodeGap, encodeMessage, type Message } from "#contract/message";
import { userProperty } from "#contract/properties";
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

/** The cluster's clock. */
const NOW_MS = 10_000;

function record(text: string, topic = "t", extras: Partial<Message> = {}): Uint8Array {
  const payload = new TextEncoder().encode(text);
  return encodeMessage({ topic, payload, qos: 1, retain: false, takenAtMs: 1, ...extras });
}

function entry(id: string, first: number, records: Uint8Array[], epoch = EPOCH): LandingEntry {
  const frame = encodeFrame(first, records);
  return { gateway: GATEWAY, id, lane: "default", epoch, sentMs: undefined, frame };
}

function openStream(checkpoint: Partial<Checkpoint> = {}, isOurs = () => true, to = log) {
  const delivered: string[] = [];
  const messages: Message[] = [];
  const saved: string[] = [];
  const buried: string[] = [];
  const metrics = new Metrics();
  const stream = new Stream({
    gateway: GATEWAY,
    checkpoint: { cursor: "0-0", lanes: new Map(), ...checkpoint },
    deliver: async (message) => {
      const { topic, payload } = message;
      messages.push(message);
      delivered.push(`${topic} ${new TextDecoder().decode(payload)}`);
    },
    save: async (cursor, lane, { epoch, seq }) => {
      saved.push(`${cursor} ${lane} ${epoch}:${seq}`);
      return isOurs();
    },
    bury: async (_entry, reason) => void buried.push(reason),
    clock: () => NOW_MS,
    log: to,
    count: streamCounters(metrics),
  });
  return { stream, delivered, messages, saved, buried, metrics };
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

test("counts what expired on the gateway apart from what is missing", async () => {
  const { stream, delivered, metrics, saved } = openStream();
  const gap = encodeGap({ from: 1, to: 1, count: 1, reason: "expired" });
  await stream.take(entry("5-0", 1, [gap, record("b")]));
  assert.equal(metrics.total("sluice_ingest_expired_total"), 1);
  assert.equal(metrics.total("sluice_ingest_gaps_total"), 0);
  assert.deepEqual(delivered, ["from/gw-001/t b"]);
  assert.deepEqual(saved, ["5-0 default 7:2"]);
});

test("says expired quietly, and every other gap loudly", async () => {
  const said: string[] = [];
  const spy = Object.assign(Object.create(log), {
    debug: (_about: object, text: string) => said.push(`debug ${text}`),
    warn: (_about: object, text: string) => said.push(`warn ${text}`),
  });
  const { stream } = openStream({}, () => true, spy);
  const gap = (seq: number, reason: string) => encodeGap({ from: seq, to: seq, count: 1, reason });
  await stream.take(entry("5-0", 1, [gap(1, "expired"), gap(2, "limit")]));
  assert.deepEqual(said, ["debug expired on the gateway", "warn gap record"]);
});

test("tells a message's expiry by the cluster's clock", async () => {
  const { stream, messages } = openStream();
  const records = [record("a", "t", { expiresAtMs: 150 }), record("b")];
  await stream.take({ ...entry("10000-0", 1, records), sentMs: 100 });
  assert.equal(messages[0]?.expiresAtMs, 10_050);
  assert.ok(messages[1] && !("expiresAtMs" in messages[1]));
});

test("takes an expiry as it is from a gateway that does not tell its clock", async () => {
  const { stream, messages } = openStream();
  await stream.take(entry("5-0", 1, [record("a", "t", { expiresAtMs: NOW_MS + 1 })]));
  assert.equal(messages[0]?.expiresAtMs, NOW_MS + 1);
});

test("skips what has expired on its way, and saves that it came so far", async () => {
  const { stream, delivered, saved, metrics } = openStream();
  const records = [record("a", "t", { expiresAtMs: 600 }), record("b", "t", { expiresAtMs: 601 })];
  await stream.take({ ...entry("9500-0", 1, records), sentMs: 100 });
  await stream.take({ ...entry("9500-1", 3, [record("c", "t", { expiresAtMs: 0 })]), sentMs: 100 });
  assert.deepEqual(delivered, ["from/gw-001/t b"]);
  assert.deepEqual(saved, ["9500-0 default 7:2", "9500-1 default 7:3"]);
  assert.equal(metrics.total("sluice_ingest_expired_total"), 2);
  assert.equal(metrics.total("sluice_ingest_messages_total"), 1);
});

test("names gateway, lane, epoch and sequence in user properties behind the publisher's own", async () => {
  const { stream, messages } = openStream();
  const own = Buffer.concat([Uint8Array.of(1, 1), userProperty("room", "7")]);
  await stream.take(entry("5-0", 41, [record("a"), record("b", "t", { properties: own })]));
  const origin = (sequence: string) => [
    ...[userProperty("sluice-gateway", GATEWAY), userProperty("sluice-lane", "default")],
    ...[userProperty("sluice-epoch", String(EPOCH)), userProperty("sluice-sequence", sequence)],
  ];
  assert.deepEqual(
    messages.map(({ properties = new Uint8Array() }) => Buffer.from(properties)),
    [Buffer.concat(origin("41")), Buffer.concat([own, ...origin("42")])],
  );
});

test("leaves out what a device says in the bridge's name", async () => {
  const { stream, messages } = openStream();
  const names = ["sluice-gateway", "sluice-lane", "sluice-epoch", "sluice-sequence"];
  const properties = Buffer.concat(names.map((name) => userProperty(name, "forged")));
  await stream.take(entry("5-0", 1, [record("a", "t", { properties }), record("b")]));
  const [forged, plain] = messages.map(({ properties: it }) => Buffer.from(it ?? []).toString());
  assert.equal(forged?.replace(/1$/, "2"), plain);
});

test("does not name the publisher to the cluster, whose clients may have the same name", async () => {
  const { stream, messages } = openStream();
  await stream.take(entry("5-0", 1, [record("a", "t", { publisher: "sensor" })]));
  assert.ok(messages[0] && !("publisher" in messages[0]));
});

test("buries a message with malformed properties, and goes on", async () => {
  const { stream, buried, delivered, saved } = openStream();
  const properties = Uint8Array.of(0x26, 0, 9);
  await stream.take(entry("5-0", 1, [record("a", "t", { properties }), record("b")]));
  assert.deepEqual(buried, ["wants 9 bytes, has 0"]);
  assert.deepEqual(delivered, ["from/gw-001/t b"]);
  assert.deepEqual(saved, ["5-0 default 7:2"]);
});

test("buries an entry whose lane cannot be named", async () => {
  const { stream, buried, delivered } = openStream();
  await stream.take({ ...entry("5-0", 1, [record("a")]), lane: "a\u0000" });
  assert.deepEqual(buried, ["a property's text holds U+0000"]);
  assert.deepEqual(delivered, []);
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

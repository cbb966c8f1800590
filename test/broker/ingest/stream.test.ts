import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { SluiceError } from "#contract/errors";
import { encodeFrame } from "#contract/frame";
import { encodeGap, encodeMessage, type Message } from "#contract/message";
import { userProperty } from "#contract/properties";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import type { Checkpoint } from "../../../broker/ingest/checkpoints.ts";
import { GatewayCounts, ingestMetrics } from "../../../broker/ingest/counts.ts";
import type { DeadLetter } from "../../../broker/ingest/dead-letters.ts";
import { isOlderId, type LandingEntry } from "../../../broker/ingest/landing.ts";
import { Stream } from "../../../broker/ingest/stream.ts";

const GATEWAY = "gw-001";
const EPOCH = 7;
// What is refused on purpose must not fill the test's output.
const log = createLog({ level: "error", process: "test" });
log.level = "silent";

/** The cluster's clock. */
const NOW_MS = 10_000;
/** The longest wait between two tries. */
const RETRY_MS_MOST = 1_000;

function record(text: string, topic = "t", extras: Partial<Message> = {}): Uint8Array {
  const payload = new TextEncoder().encode(text);
  return encodeMessage({ topic, payload, qos: 1, retain: false, takenAtMs: 1, ...extras });
}

function entry(id: string, first: number, records: Uint8Array[], epoch = EPOCH): LandingEntry {
  const frame = encodeFrame(first, records);
  return { gateway: GATEWAY, id, lane: "default", epoch, sentMs: undefined, frame };
}

function openStream(checkpoint: Partial<Checkpoint> = {}, isSaved = () => true, to = log) {
  const delivered: string[] = [];
  const messages: Message[] = [];
  const saved: string[] = [];
  const letters: DeadLetter[] = [];
  const metrics = new Metrics();
  const now = { ms: NOW_MS };
  /** A test may have a message refused, and the lease lost. */
  const fails = { of: (_text: string): unknown => undefined };
  const lease = { isOurs: true };
  const held: { promise: Promise<void> | undefined } = { promise: undefined };
  const publish = async (message: Message) => {
    const text = new TextDecoder().decode(message.payload);
    const fault = fails.of(text);
    if (fault) throw fault;
    messages.push(message);
    delivered.push(`${message.topic} ${text}`);
  };
  const stream = new Stream({
    gateway: GATEWAY,
    checkpoint: { cursor: "0-0", lanes: new Map(), ...checkpoint },
    publisher: () => {
      // As routing's order that ends at a fault.
      let before = Promise.resolve();
      return (message) => {
        before = before.then(() => publish(message));
        return before;
      };
    },
    hold: () => held.promise,
    isOurs: () => lease.isOurs,
    save: async ({ cursor, lanes }) => {
      const positions = [...lanes].map(([lane, { epoch, seq }]) => ` ${lane} ${epoch}:${seq}`);
      saved.push(`${cursor}${positions.join("")}`);
      return isSaved();
    },
    bury: async (letter) => void letters.push(letter),
    clock: () => now.ms,
    log: to,
    counts: new GatewayCounts(GATEWAY, ingestMetrics(metrics)),
  });
  const take = (...entries: LandingEntry[]) => stream.take(entries);
  /** As ingest does: reads them again behind the cursor, when it is time, until they are through. */
  const takeAgain = async (...entries: LandingEntry[]) => {
    for (let round = 0; round < 20; round += 1) {
      const behind = entries.filter(({ id }) => isOlderId(stream.cursor, id));
      if ((await stream.take(behind)) !== "again") return;
      now.ms += RETRY_MS_MOST;
    }
    assert.fail("it never comes through");
  };
  const reasons = () => letters.map(({ reason }) => reason);
  const parts = { stream, take, takeAgain, delivered, messages, saved, letters, reasons };
  return { ...parts, metrics, now, fails, lease, held };
}

const at = (seq: number, epoch = EPOCH) => new Map([["default", { epoch, seq }]]);

test("delivers under the gateway's prefix and then saves how far it came", async () => {
  const { stream, take, delivered, saved } = openStream();
  assert.equal(await take(entry("5-0", 1, [record("a"), record("b")])), "taken");
  assert.deepEqual(delivered, ["from/gw-001/t a", "from/gw-001/t b"]);
  assert.deepEqual(saved, ["5-0 default 7:2"]);
  assert.equal(stream.cursor, "5-0");
});

test("delivers only what is new of a frame that was delivered in part", async () => {
  const { take, delivered, metrics } = openStream({ lanes: at(2) });
  await take(entry("5-0", 1, [record("a"), record("b"), record("c")]));
  assert.deepEqual(delivered, ["from/gw-001/t c"]);
  assert.equal(metrics.total("sluice_ingest_repeats_total"), 2);
});

test("says that the gateway is another node's when the save is fenced", async () => {
  const { take } = openStream({}, () => false);
  assert.equal(await take(entry("5-0", 1, [record("a")])), "gone");
});

test("reads the stream from its beginning once more before it calls a hole a loss", async () => {
  const { stream, take, delivered, metrics } = openStream({ cursor: "9-0", lanes: at(2) });
  assert.equal(await take(entry("10-0", 5, [record("e")])), "again");
  assert.deepEqual([delivered, stream.cursor], [[], "0-0"]);
  await take(entry("1-0", 1, [record("a"), record("b"), record("c"), record("d")]));
  await take(entry("10-0", 5, [record("e")]));
  assert.deepEqual(delivered, ["from/gw-001/t c", "from/gw-001/t d", "from/gw-001/t e"]);
  assert.equal(metrics.total("sluice_ingest_lost_total"), 0);
});

test("counts a loss, and goes on behind it, when the hole is there the second time too", async () => {
  const { take, delivered, metrics } = openStream({ lanes: at(2) });
  await take(entry("10-0", 5, [record("e")]));
  await take(entry("10-0", 5, [record("e")]));
  assert.deepEqual(delivered, ["from/gw-001/t e"]);
  assert.equal(metrics.total("sluice_ingest_lost_total"), 2);
});

test("begins a new epoch at 1 and ignores what an older one says afterwards", async () => {
  const { take, delivered, saved } = openStream({ lanes: at(40) });
  await take(entry("5-0", 1, [record("new")], EPOCH + 1));
  await take(entry("6-0", 41, [record("old")], EPOCH));
  assert.deepEqual(delivered, ["from/gw-001/t new"]);
  assert.deepEqual(saved, ["5-0 default 8:1", "6-0"]);
});

test("counts what a gap record stands for, but not what had come before", async () => {
  const { take, metrics, saved } = openStream({ lanes: at(60) });
  const gap = encodeGap({ from: 1, to: 100, count: 100, reason: "forgotten" });
  await take(entry("5-0", 1, [gap, record("a")]));
  assert.equal(metrics.total("sluice_ingest_gaps_total"), 40);
  assert.deepEqual(saved, ["5-0 default 7:101"]);
});

test("buries what is no frame or has no topic, and goes on", async () => {
  const { takeAgain, reasons, delivered, stream } = openStream();
  const nonsense = { ...entry("5-0", 1, []), frame: Buffer.from("nonsense") };
  await takeAgain(nonsense, entry("6-0", 1, [record("a", "w/#"), record("b")]));
  assert.deepEqual(reasons(), ["frame version 110, knows 1", 'topic "w/#" holds a wildcard']);
  assert.deepEqual(delivered, ["from/gw-001/t b"]);
  assert.equal(stream.cursor, "6-0");
});

test("hands a whole batch on before any of it is through, and saves once it all is", async () => {
  const { take, saved, delivered } = openStream();
  await take(
    entry("5-0", 1, [record("a"), record("b")]),
    { ...entry("5-1", 1, [record("alarm")]), lane: "alarms" },
    entry("6-0", 3, [record("c")]),
  );
  const texts = ["a", "b", "alarm", "c"];
  assert.deepEqual(
    delivered,
    texts.map((text) => `from/gw-001/t ${text}`),
  );
  assert.deepEqual(saved, ["6-0 default 7:3 alarms 7:1"]);
});

test("tries what fails three times, later each time, and then buries that record alone", async () => {
  const { stream, take, fails, letters, delivered, saved, now, metrics } = openStream();
  fails.of = (text) => (text === "b" ? new TypeError("cannot be queued") : undefined);
  const entries = [entry("5-0", 1, [record("a"), record("b"), record("c")])];
  let waitedMs = 0;
  for (const _ of ["first", "second"]) {
    assert.equal(await take(...entries), "again");
    assert.deepEqual([stream.isDue, letters.length, stream.cursor], [false, 0, "0-0"]);
    while (!stream.isDue) {
      now.ms += 10;
      waitedMs += 10;
    }
  }
  assert.ok(waitedMs >= 100 && waitedMs <= 2 * RETRY_MS_MOST, `waited ${waitedMs} ms`);
  assert.equal(await take(...entries), "again");
  assert.ok(stream.isDue, "nothing to wait for any more");
  assert.equal(await take(...entries), "taken");
  assert.deepEqual(delivered, ["from/gw-001/t a", "from/gw-001/t c"], "once each, and in order");
  assert.deepEqual(saved, ["0-0 default 7:1", "5-0 default 7:3"]);
  const [{ bytes, ...letter } = { bytes: undefined }, ...more] = letters;
  assert.deepEqual(letter, {
    ...{ gateway: GATEWAY, lane: "default", epoch: EPOCH, id: "5-0", sequence: 2 },
    reason: "cannot be queued",
  });
  assert.deepEqual(bytes, record("b"));
  assert.deepEqual(more, []);
  assert.equal(metrics.total("sluice_ingest_failures_total"), 3);
  assert.equal(metrics.total("sluice_ingest_dead_letters_total"), 1);
  assert.equal(metrics.total("sluice_ingest_repeats_total"), 0, "its own are no repeats");
});

test("counts no fault of a Redis as a try, and lets it end the round", async () => {
  const { take, fails, letters, delivered, saved, metrics } = openStream();
  const one = entry("5-0", 1, [record("a"), record("b")]);
  for (const code of ["CLOUD_UNREACHABLE", "ACCESS_DENIED"] as const) {
    fails.of = (text) => (text === "b" ? new SluiceError(code, "away") : undefined);
    for (let round = 0; round < 4; round += 1) await assert.rejects(take(one), { code });
  }
  assert.deepEqual([letters, saved], [[], []]);
  assert.equal(metrics.total("sluice_ingest_failures_total"), 0);
  fails.of = () => undefined;
  assert.equal(await take(one), "taken");
  assert.equal(delivered.at(-1), "from/gw-001/t b");
});

test("buries a frame that cannot be read once, though its hole has the stream read again", async () => {
  const { takeAgain, letters, delivered, metrics } = openStream();
  const broken = { ...entry("6-0", 2, []), frame: Uint8Array.of(1, 2, 200, 1) };
  await takeAgain(entry("5-0", 1, [record("a")]), broken, entry("7-0", 4, [record("d")]));
  assert.equal(letters.length, 1);
  assert.deepEqual([letters[0]?.sequence, letters[0]?.bytes], [undefined, broken.frame]);
  assert.deepEqual(delivered, ["from/gw-001/t a", "from/gw-001/t d"]);
  assert.equal(metrics.total("sluice_ingest_lost_total"), 2);
});

test("hands nothing on once its lease may be over", async () => {
  const { take, lease, delivered, saved } = openStream();
  assert.equal(await take(entry("5-0", 1, [record("a")])), "taken");
  lease.isOurs = false;
  assert.equal(await take(entry("6-0", 2, [record("b")])), "gone");
  assert.deepEqual(delivered, ["from/gw-001/t a"]);
  assert.deepEqual(saved, ["5-0 default 7:1"]);
});

test("asks for its lease before each batch of many entries", async () => {
  const { take, lease, fails, delivered } = openStream();
  const records = Array.from({ length: 256 }, () => record("m"));
  const entries = Array.from({ length: 32 }, (_, index) =>
    entry(`${index + 1}-0`, index * 256 + 1, records),
  );
  fails.of = () => {
    lease.isOurs = false;
    return undefined;
  };
  assert.equal(await take(...entries), "gone");
  assert.equal(delivered.length, 1_024, "the first batch was on its way");
});

test("waits for clients that cannot keep up before it hands on a batch", async () => {
  const { take, held, delivered } = openStream();
  const moment = Promise.withResolvers<void>();
  held.promise = moment.promise;
  const taking = take(entry("5-0", 1, [record("a")]));
  await turn();
  assert.deepEqual(delivered, []);
  moment.resolve();
  assert.equal(await taking, "taken");
  assert.deepEqual(delivered, ["from/gw-001/t a"]);
});

test("refuses more lanes than a checkpoint shall hold", async () => {
  const { takeAgain, letters, delivered } = openStream();
  const lanes = Array.from({ length: 65 }, (_, lane) => ({
    ...entry(`${lane + 1}-0`, 1, [record(`${lane}`)]),
    lane: `lane-${lane}`,
  }));
  await takeAgain(...lanes, entry("99-0", 1, [record("refused, too")]));
  assert.deepEqual(
    letters.map(({ lane }) => lane),
    ["lane-64", "default"],
  );
  assert.equal(delivered.length, 64);
});

test("keeps what the landing may forget behind what is saved, and behind what is read again", async () => {
  let isSaved = true;
  const { stream, take } = openStream({ cursor: "4-0", lanes: at(2) }, () => isSaved);
  assert.equal(stream.doneUpTo, "4-0");
  await take(entry("5-0", 3, [record("c")]));
  assert.equal(stream.doneUpTo, "5-0");
  isSaved = false;
  await take(entry("6-0", 4, [record("d")]));
  assert.equal(stream.doneUpTo, "5-0", "the newest checkpoint is not the cluster's");
  await take(entry("9-0", 7, [record("g")]));
  assert.equal(stream.doneUpTo, "0-0", "all of it is read once more");
});

test("keeps a gateway's reasons from taking more and more memory", async () => {
  const { take, metrics } = openStream();
  const gaps = Array.from({ length: 20 }, (_, index) =>
    encodeGap({ from: index + 1, to: index + 1, count: 1, reason: `reason ${index}` }),
  );
  await take(entry("5-0", 1, gaps));
  const lines = metrics.text().match(/^sluice_ingest_gaps_total\{.*$/gm) ?? [];
  assert.equal(lines.length, 9);
  assert.match(lines.at(-1) ?? "", /reason="other"\} 12$/);
});

test("counts what expired on the gateway apart from what is missing", async () => {
  const { take, delivered, metrics, saved } = openStream();
  const gap = encodeGap({ from: 1, to: 1, count: 1, reason: "expired" });
  await take(entry("5-0", 1, [gap, record("b")]));
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
  const { take } = openStream({}, () => true, spy);
  const gap = (seq: number, reason: string) => encodeGap({ from: seq, to: seq, count: 1, reason });
  await take(entry("5-0", 1, [gap(1, "expired"), gap(2, "limit")]));
  assert.deepEqual(said, ["debug expired on the gateway", "warn gap record"]);
});

test("tells a message's expiry by the cluster's clock", async () => {
  const { take, messages } = openStream();
  const records = [record("a", "t", { expiresAtMs: 150 }), record("b")];
  await take({ ...entry("10000-0", 1, records), sentMs: 100 });
  assert.equal(messages[0]?.expiresAtMs, 10_050);
  assert.ok(messages[1] && !("expiresAtMs" in messages[1]));
});

test("takes an expiry as it is from a gateway that does not tell its clock", async () => {
  const { take, messages } = openStream();
  await take(entry("5-0", 1, [record("a", "t", { expiresAtMs: NOW_MS + 1 })]));
  assert.equal(messages[0]?.expiresAtMs, NOW_MS + 1);
});

test("skips what has expired on its way, and saves that it came so far", async () => {
  const { take, delivered, saved, metrics } = openStream();
  const records = [record("a", "t", { expiresAtMs: 600 }), record("b", "t", { expiresAtMs: 601 })];
  await take({ ...entry("9500-0", 1, records), sentMs: 100 });
  await take({ ...entry("9500-1", 3, [record("c", "t", { expiresAtMs: 0 })]), sentMs: 100 });
  assert.deepEqual(delivered, ["from/gw-001/t b"]);
  assert.deepEqual(saved, ["9500-0 default 7:2", "9500-1 default 7:3"]);
  assert.equal(metrics.total("sluice_ingest_expired_total"), 2);
  assert.equal(metrics.total("sluice_ingest_messages_total"), 1);
});

test("names gateway, lane, epoch and sequence in user properties behind the publisher's own", async () => {
  const { take, messages } = openStream();
  const own = Buffer.concat([Uint8Array.of(1, 1), userProperty("room", "7")]);
  await take(entry("5-0", 41, [record("a"), record("b", "t", { properties: own })]));
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
  const { take, messages } = openStream();
  const own = ["sluice-gateway", "sluice-lane", "sluice-epoch", "sluice-sequence"];
  const names = [...own, "sluice-command"];
  const properties = Buffer.concat(names.map((name) => userProperty(name, "forged")));
  await take(entry("5-0", 1, [record("a", "t", { properties }), record("b")]));
  const [forged, plain] = messages.map(({ properties: it }) => Buffer.from(it ?? []).toString());
  assert.equal(forged?.replace(/1$/, "2"), plain);
});

test("does not name the publisher to the cluster, whose clients may have the same name", async () => {
  const { take, messages } = openStream();
  await take(entry("5-0", 1, [record("a", "t", { publisher: "sensor" })]));
  assert.ok(messages[0] && !("publisher" in messages[0]));
});

test("buries a message with malformed properties, and goes on", async () => {
  const { takeAgain, reasons, delivered, saved } = openStream();
  const properties = Uint8Array.of(0x26, 0, 9);
  await takeAgain(entry("5-0", 1, [record("a", "t", { properties }), record("b")]));
  assert.deepEqual(reasons(), ["wants 9 bytes, has 0"]);
  assert.deepEqual(delivered, ["from/gw-001/t b"]);
  assert.deepEqual(saved, ["5-0 default 7:2"]);
});

test("buries an entry whose lane cannot be named", async () => {
  const { takeAgain, reasons, delivered } = openStream();
  await takeAgain({ ...entry("5-0", 1, [record("a")]), lane: "a\u0000" });
  assert.deepEqual(reasons(), ['entry with lane "a\\u0000", which is no name']);
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

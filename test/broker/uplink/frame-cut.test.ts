// frame-cut.test: what a frame holds of a run.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeFrame, type Run } from "#contract/frame";
import { encodeGap, encodeMessage } from "#contract/message";
import { cutFrame } from "../../../broker/uplink/frame-cut.ts";

const message = (expiresAtMs?: number) =>
  encodeMessage({
    ...{ topic: "t", payload: new Uint8Array(50), qos: 1, retain: false, takenAtMs: 1 },
    ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
  });

/** From 11 on: a message, a gap of ten, one that expires at 100, a message. */
function mixedRun(): Run {
  const gap = encodeGap({ from: 12, to: 21, count: 10, reason: "over bytes_max" });
  const records = [
    { first: 11, last: 11, record: message() },
    { first: 12, last: 21, record: gap },
    { first: 22, last: 22, record: message(100) },
    { first: 23, last: 23, record: message() },
  ];
  const bytes = records.reduce((sum, { record }) => sum + record.length, 0);
  return { firstSeq: 11, lastSeq: 23, bytes, records };
}

const placesIn = (bytes: Uint8Array) =>
  decodeFrame(bytes).map(({ first, last, record }) =>
    record.kind === "gap" ? `${first}..${last} ${record.gap.reason}` : `${first}`,
  );

test("holds the whole run, gaps and all, and counts messages alone", () => {
  const run = mixedRun();
  const frame = cutFrame(run, 99, Number.POSITIVE_INFINITY);
  assert.equal(frame.run, run);
  assert.deepEqual(placesIn(frame.bytes), ["11", "12..21 over bytes_max", "22", "23"]);
  assert.deepEqual([frame.messages, frame.expired], [3, 0]);
});

test("puts a gap record in place of what has expired", () => {
  const frame = cutFrame(mixedRun(), 100, Number.POSITIVE_INFINITY);
  assert.deepEqual(placesIn(frame.bytes), ["11", "12..21 over bytes_max", "22..22 expired", "23"]);
  assert.deepEqual([frame.messages, frame.expired], [2, 1]);
});

test("takes the first records that fit, one at least, and says which", () => {
  const run = mixedRun();
  const [first, gap] = run.records;
  const two = (first?.record.length ?? 0) + (gap?.record.length ?? 0);
  for (const [bytesMax, lastSeq] of [
    [1, 11] as const,
    [two, 21] as const,
    [two + 1, 21] as const,
  ]) {
    const frame = cutFrame(run, 0, bytesMax);
    assert.equal(frame.run.lastSeq, lastSeq);
    assert.equal(frame.run.firstSeq, 11);
    assert.equal(frame.run.records.at(-1)?.last, lastSeq);
    const bytes = frame.run.records.reduce((sum, { record }) => sum + record.length, 0);
    assert.equal(frame.run.bytes, bytes);
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { NEWEST_LIMITS, NewestRecords } from "../../../broker/outbox/newest-records.ts";
import type { StoredRecord } from "../../../broker/outbox/stored-record.ts";

const RECORD_BYTES = 100;

function message(number: number, bytes = RECORD_BYTES): StoredRecord {
  const record = new Uint8Array(bytes);
  return { first: number, last: number, offset: number * bytes, record, gap: undefined };
}

function gap(first: number, last: number): StoredRecord {
  const about = { from: first, to: last, count: last - first + 1, reason: "x" };
  return { first, last, offset: 0, record: new Uint8Array(RECORD_BYTES), gap: about };
}

function filled(from: number, to: number): NewestRecords {
  const newest = new NewestRecords();
  for (let number = from; number <= to; number += 1) newest.add(message(number));
  return newest;
}

function places(records: readonly StoredRecord[] | undefined): string[] | undefined {
  return records?.map(({ first, last }) => `${first}-${last}`);
}

test("gives what it holds as a reader of the disk would get it", () => {
  const newest = filled(5, 9);
  assert.deepEqual(places(newest.from(7, 10, 1_000)), ["7-7", "8-8", "9-9"]);
  assert.deepEqual(places(newest.from(5, 2, 1_000)), ["5-5", "6-6"]);
  assert.deepEqual(places(newest.from(5, 10, 2 * RECORD_BYTES)), ["5-5", "6-6"]);
  assert.deepEqual(places(newest.from(5, 10, 1)), ["5-5"], "one at the least");
  assert.deepEqual(places(newest.from(10, 10, 1_000)), [], "nothing is behind the end");
});

test("says nothing of what it does not hold from there on", () => {
  assert.equal(new NewestRecords().from(1, 10, 1_000), undefined);
  assert.equal(filled(5, 9).from(4, 10, 1_000), undefined);
});

test("a gap that grew takes the place of what it was", () => {
  const newest = filled(1, 3);
  newest.add(gap(4, 4));
  newest.add(gap(4, 5));
  assert.deepEqual(places(newest.from(3, 10, 1_000)), ["3-3", "4-5"]);
  assert.deepEqual(places(newest.from(5, 10, 1_000)), ["4-5"], "the record that covers it");
  newest.add(message(6));
  assert.deepEqual(places(newest.from(4, 10, 1_000)), ["4-5", "6-6"]);
});

test("holds no more than its limits, and always the newest", () => {
  const { recordsMax, bytesMax } = NEWEST_LIMITS;
  const many = filled(1, 10 * recordsMax);
  assert.equal(many.from(8 * recordsMax - 1, 1, 1), undefined);
  assert.equal(many.from(10 * recordsMax, 1, 1)?.length, 1);
  const large = new NewestRecords();
  for (let number = 1; number <= 8; number += 1) large.add(message(number, bytesMax));
  assert.equal(large.from(6, 1, 1), undefined);
  assert.deepEqual(places(large.from(8, 10, bytesMax)), ["8-8"]);
});

test("holds nothing of what was replaced", () => {
  const newest = filled(1, 5);
  newest.forgetAll();
  assert.equal(newest.from(5, 10, 1_000), undefined);
  newest.add(message(6));
  assert.deepEqual(places(newest.from(6, 10, 1_000)), ["6-6"]);
});

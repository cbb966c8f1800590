// policy.test: which messages policies tell, over any run of messages and times.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Policies } from "../../../firmware-bridge/devices/policy.ts";
import type { Message, Policy } from "../../../firmware-bridge/driver.ts";

const SEED = { seed: 5, numRuns: 500 } as const;

interface Told {
  readonly atMs: number;
  readonly text: string;
  readonly receivedAtMs: number | undefined;
}

interface Come {
  readonly afterMs: number;
  readonly text: string;
}

/** Plays a run of messages of one channel, and asks for what is due when it is. */
function play(policy: Policy, run: readonly Come[], endMs = 0) {
  const policies = new Policies({ policyOf: () => policy, channelsMax: 10 });
  const told: Told[] = [];
  const tell = (atMs: number, messages: readonly Message[]) => {
    for (const { payload, receivedAtMs } of messages) {
      told.push({ atMs, text: Buffer.from(payload).toString(), receivedAtMs });
    }
  };
  const passUntil = (ms: number) => {
    for (let next = policies.nextMs(true); next !== undefined && next <= ms; ) {
      tell(next, policies.due(next, true));
      next = policies.nextMs(true);
    }
  };
  let nowMs = 0;
  for (const { afterMs, text } of run) {
    nowMs += afterMs;
    passUntil(nowMs - 1);
    const message = { channel: "t", payload: Buffer.from(text), receivedAtMs: nowMs };
    tell(nowMs, policies.take(message, nowMs));
  }
  passUntil(nowMs + endMs);
  const flushed = policies.flush(nowMs + endMs);
  tell(nowMs + endMs, flushed);
  return { told, dropped: policies.dropped };
}

const texts = (told: readonly Told[]) => told.map(({ text }) => text);
const runs = fc.array(
  fc.record({ afterMs: fc.integer({ min: 0, max: 60 }), text: fc.integer({ max: 9 }).map(String) }),
  { minLength: 1, maxLength: 60 },
);

test("tells everything where there is no policy", () => {
  fc.assert(
    fc.property(runs, (run) => {
      assert.deepEqual(
        texts(play({}, run).told),
        run.map(({ text }) => text),
      );
    }),
    SEED,
  );
});

test("a throttle tells the first at once, at most one in its time, and at last the newest", () => {
  fc.assert(
    fc.property(runs, fc.integer({ min: 1, max: 200 }), (run, throttleMs) => {
      const { told, dropped } = play({ throttleMs }, run);
      assert.equal(told[0]?.atMs, run[0]?.afterMs);
      told.slice(1, -1).forEach(({ atMs }, index) => {
        assert.ok(atMs - (told[index]?.atMs ?? 0) >= throttleMs);
      });
      assert.equal(told.at(-1)?.text, run.at(-1)?.text);
      assert.equal(told.length + dropped, run.length);
      const times = told.map(({ receivedAtMs = 0 }) => receivedAtMs);
      assert.deepEqual(
        times,
        times.toSorted((a, b) => a - b),
      );
      assert.equal(new Set(told).size, told.length);
    }),
    SEED,
  );
});

test("a throttled message is told at the end of the time, with its own reception time", () => {
  const run = [0, 10, 10, 10].map((afterMs, index) => ({ afterMs, text: String(index) }));
  assert.deepEqual(play({ throttleMs: 100 }, run, 200).told, [
    { atMs: 0, text: "0", receivedAtMs: 0 },
    { atMs: 100, text: "3", receivedAtMs: 30 },
  ]);
});

test("a dead band tells a number only when it is further away than that from the last one told", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -50, max: 50 })), fc.nat(20), (numbers, deadBand) => {
      const run = numbers.map((it) => ({ afterMs: 1, text: `${it}.0` }));
      const expected: number[] = [];
      for (const number of numbers) {
        const last = expected.at(-1);
        if (last === undefined || Math.abs(number - last) > deadBand) expected.push(number);
      }
      assert.deepEqual(texts(play({ deadBand }, run).told).map(Number), expected);
    }),
    SEED,
  );
});

test("a dead band of 0 tells each change, byte for byte: also of numbers with many digits", () => {
  const said = ["1", "1", "1.0", "1.5", "on", "on", "ON", "", "", "9007199254740992"];
  const changes = ["1", "1.0", "1.5", "on", "ON", "", "9007199254740992", "9007199254740993"];
  const run = [...said, "9007199254740993"].map((text) => ({ afterMs: 1, text }));
  assert.deepEqual(texts(play({ deadBand: 0 }, run).told), changes);
});

test("a dead band tells what is no number when its bytes differ", () => {
  const said = ["1", "1.0", "on", "on", "ON", "", "", "NaN", "NaN", "1e400", "2"];
  const run = said.map((text) => ({ afterMs: 1, text }));
  const expected = ["1", "on", "ON", "", "NaN", "1e400", "2"];
  assert.deepEqual(texts(play({ deadBand: 0.5 }, run).told), expected);
});

test("a heartbeat tells the last value again after its time, and only after that", () => {
  const run = [{ afterMs: 0, text: "5" }];
  const { told } = play({ deadBand: 0, heartbeatMs: 100 }, run, 250);
  assert.deepEqual(
    told.map(({ atMs, text }) => [atMs, text]),
    [
      [0, "5"],
      [100, "5"],
      [200, "5"],
    ],
  );
});

test("remembers no more channels than it may, and loses nothing that it held of one it forgets", () => {
  const policies = new Policies({ policyOf: () => ({ throttleMs: 1_000 }), channelsMax: 2 });
  const take = (channel: string, text: string, nowMs: number) =>
    policies
      .take({ channel, payload: Buffer.from(text), receivedAtMs: nowMs }, nowMs)
      .map(({ payload }) => Buffer.from(payload).toString());
  assert.deepEqual([take("a", "1", 0), take("a", "2", 1), take("b", "3", 2)], [["1"], [], ["3"]]);
  assert.deepEqual(take("c", "4", 3), ["2", "4"]);
});

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { decodeRecord, encodeMessage } from "#contract/message";
import { Lane, type LaneOptions } from "../../../broker/outbox/lane.ts";
import { DROP_REASONS, type LaneLimits } from "../../../broker/outbox/lane-room.ts";
import { Store } from "../../../broker/store/store.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { Disk } from "../store/disk.ts";
import { append } from "./append.ts";

const LIMITS: LaneLimits = {
  bytesMax: 100_000,
  tailBytesMax: 1_000_000,
  tailSecondsMax: 600,
  diskFreeBytesMin: 0,
  whenFull: "reject",
};

/** Every record has the same size, so that a limit can be told in messages. */
function record(number: number, takenAtMs = 1_000): Uint8Array {
  const payload = new TextEncoder().encode(String(number).padStart(60, "0"));
  return encodeMessage({ topic: "t", payload, qos: 1, retain: false, takenAtMs });
}

const NOW_MS = Date.UTC(2026, 10, 25);
const RECORD_BYTES = record(1).length;

/** What the lane holds behind `seq`: numbers of messages, and gaps as text. */
async function contents(lane: Lane, seq = lane.position): Promise<(number | string)[]> {
  const found: (number | string)[] = [];
  for (let at = seq; ; ) {
    const run = await lane.readAfter(at);
    if (!run) return found;
    for (const { first, last, record: bytes } of run.records) {
      assert.equal(first, at + 1, "each record follows the one before");
      at = last;
      const it = decodeRecord(bytes);
      if (it.kind === "message") found.push(Number(new TextDecoder().decode(it.message.payload)));
      else {
        assert.deepEqual([it.gap.from, it.gap.to], [first, last], "a gap names its own place");
        found.push(`${it.gap.from}..${it.gap.to}: ${it.gap.count} ${it.gap.reason}`);
      }
    }
  }
}

async function openLane(
  t: TestContext,
  limits: Partial<LaneLimits>,
  options: Partial<LaneOptions> = {},
) {
  const folder = temporaryFolder(t);
  let store = await Store.open(folder);
  t.after(() => store.close());
  const open = () => Lane.open("default", { store, limits: { ...LIMITS, ...limits }, ...options });
  let lane = await open();
  return {
    get lane() {
      return lane;
    },
    add: (number: number, takenAtMs?: number) => append(store, lane, record(number, takenAtMs)),
    async restart() {
      await lane.close();
      await store.close();
      store = await Store.open(folder);
      lane = await open();
    },
  };
}

async function addAll(add: (number: number) => Promise<void>, from: number, to: number) {
  const numbers = Array.from({ length: to - from + 1 }, (_, index) => from + index);
  await Promise.all(numbers.map((number) => add(number)));
}

test("a full lane that drops its newest keeps the oldest, and one gap record counts the rest", async (t) => {
  const held = await openLane(t, { bytesMax: 3 * RECORD_BYTES, whenFull: "drop_newest" });
  await addAll(held.add, 1, 50);
  const gap = `4..50: 47 ${DROP_REASONS.bytes}`;
  assert.deepEqual(await contents(held.lane), [1, 2, 3, gap]);
  await held.restart();
  assert.deepEqual(await contents(held.lane), [1, 2, 3, gap]);
  assert.deepEqual(held.lane.status().dropped, { [DROP_REASONS.bytes]: 47 });
  await held.add(51);
  assert.deepEqual(await contents(held.lane), [1, 2, 3, `4..51: 48 ${DROP_REASONS.bytes}`]);
  await held.lane.moveTo(2);
  await held.add(52);
  assert.deepEqual(await contents(held.lane), [3, `4..51: 48 ${DROP_REASONS.bytes}`, 52]);
  assert.match(held.lane.status().trouble ?? "", /lane default drops its newest messages/);
});

test("a full lane that drops its oldest keeps the newest, however many come at once", async (t) => {
  const held = await openLane(t, { bytesMax: 20 * RECORD_BYTES, whenFull: "drop_oldest" });
  await addAll(held.add, 1, 500);
  const found = await contents(held.lane);
  const [gap, ...rest] = found;
  const first = Number(rest[0]);
  assert.equal(gap, `1..${first - 1}: ${first - 1} ${DROP_REASONS.bytes}`);
  assert.deepEqual(
    rest,
    Array.from({ length: 501 - first }, (_, index) => first + index),
  );
  assert.ok(rest.length >= 18 && rest.length <= 20, `${rest.length} fit`);
  const { waitingBytes, dropped } = held.lane.status();
  assert.ok(waitingBytes <= 20 * RECORD_BYTES, `${waitingBytes} bytes wait`);
  assert.deepEqual(dropped, { [DROP_REASONS.bytes]: first - 1 });
  await held.restart();
  assert.deepEqual(await contents(held.lane), found);
  assert.equal(held.lane.status().waitingBytes, waitingBytes);
});

test("a message that is longer than its lane costs no other message its place", async (t) => {
  const held = await openLane(t, { bytesMax: 2 * RECORD_BYTES - 1, whenFull: "drop_oldest" });
  await held.add(1);
  const store = new Disk();
  const lane = await Lane.open("default", {
    store,
    limits: { ...LIMITS, bytesMax: RECORD_BYTES - 1, whenFull: "drop_oldest" },
  });
  await append(store, lane, record(1));
  assert.deepEqual(await contents(lane), [`1..1: 1 ${DROP_REASONS.large}`]);
  assert.deepEqual(await contents(held.lane), [1]);
});

test("what waited longer than its age is dropped, and counted apart", async (t) => {
  let nowMs = NOW_MS;
  const held = await openLane(t, { ageSecondsMax: 60 }, { clock: () => nowMs });
  await held.add(1, nowMs - 59_000);
  await held.add(2, nowMs - 30_000);
  await held.add(3, nowMs);
  await held.lane.tidy();
  assert.deepEqual(await contents(held.lane), [1, 2, 3]);
  nowMs += 31_000;
  await held.lane.tidy();
  assert.deepEqual(await contents(held.lane), [`1..2: 2 ${DROP_REASONS.age}`, 3]);
  assert.deepEqual(held.lane.status().dropped, { [DROP_REASONS.age]: 2 });
  assert.equal(held.lane.status().oldestWaitingAtMs, NOW_MS);
  nowMs += 60_000;
  await held.lane.tidy();
  assert.deepEqual(await contents(held.lane), [`1..3: 3 ${DROP_REASONS.age}`]);
});

test("what was taken before the board learnt the date is not too old", async (t) => {
  const held = await openLane(t, { ageSecondsMax: 60 }, { clock: () => NOW_MS });
  await held.add(1, 10_000);
  await held.add(2, NOW_MS - 61_000);
  await held.lane.tidy();
  assert.deepEqual(await contents(held.lane), [1, 2]);
});

test("a disk with less than its reserve counts as a full lane, until there is space again", async (t) => {
  let freeBytes = 1_000;
  const diskFreeBytes = () => freeBytes;
  const held = await openLane(t, { diskFreeBytesMin: 1_000 }, { diskFreeBytes });
  await held.add(1);
  freeBytes = 999;
  const fault = { code: "OUTBOX_FULL", message: /the disk has 999 bytes free, 1000 are to stay/ };
  await assert.rejects(held.add(2), fault);
  assert.match(held.lane.status().trouble ?? "", /999 bytes free/);
  freeBytes = 1_000;
  await held.add(2);
  assert.deepEqual(await contents(held.lane), [1, 2]);
});

test("a drop under the feet of the sender costs nothing of what the cloud takes meanwhile", async (t) => {
  const held = await openLane(t, { bytesMax: 10 * RECORD_BYTES, whenFull: "drop_oldest" });
  await addAll(held.add, 1, 8);
  const sent = await held.lane.readAfter(0);
  assert.equal(sent?.lastSeq, 8);
  await addAll(held.add, 9, 20);
  assert.ok(held.lane.firstSeq === 1 && sent);
  await held.lane.cloudHolds(sent);
  const found = await contents(held.lane);
  const [gap] = found;
  const [, to] = /^9\.\.(1\d): /.exec(String(gap)) ?? [];
  assert.ok(to, "what is left of the gap begins behind the position");
  const lost = { [DROP_REASONS.bytes]: Number(to) - 8 };
  assert.deepEqual(held.lane.status().dropped, lost, "what the cloud took is not lost");
  assert.equal(found.at(-1), 20);
  const before = held.lane.status();
  await held.restart();
  assert.deepEqual(await contents(held.lane), found);
  assert.equal(held.lane.status().waitingBytes, before.waitingBytes);
});

/** What a lane is asked to do. */
type Step =
  | { readonly kind: "add"; readonly count: number; readonly isOld: boolean }
  | { readonly kind: "send" | "back" | "tidy" | "restart" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("add" as const),
      count: fc.integer({ min: 1, max: 12 }),
      isOld: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("send" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom("back" as const, "tidy" as const, "restart" as const),
    }),
  },
);

/** Each sequence is there once: as its own message, or in a gap record; and the counts are true. */
async function assertWhole(lane: Lane): Promise<void> {
  const status = lane.status();
  let [at, bytes] = [lane.position, 0];
  for (let run = await lane.readAfter(at); run; run = await lane.readAfter(at)) {
    for (const { first, last, record: found } of run.records) {
      assert.equal(first, at + 1);
      const it = decodeRecord(found);
      if (it.kind === "message") {
        assert.equal(Number(new TextDecoder().decode(it.message.payload)), first);
      } else assert.equal(it.gap.count, last - first + 1);
      at = last;
    }
    bytes += run.bytes;
  }
  assert.equal(at, lane.lastSeq);
  // A gap that is cut at the position may be told with fewer digits than it is stored with.
  assert.ok(Math.abs(status.waitingBytes - bytes) <= 8, `${status.waitingBytes} of ${bytes}`);
}

for (const whenFull of ["drop_oldest", "drop_newest"] as const) {
  test(`any way that a lane is used, each sequence is there once: ${whenFull}`, async () => {
    const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const nowMs = NOW_MS;
      const store = new Disk();
      const limits = { ...LIMITS, bytesMax: 12 * RECORD_BYTES, tailBytesMax: 30 * RECORD_BYTES };
      const options = { store, clock: () => nowMs };
      const open = () =>
        Lane.open("default", { ...options, limits: { ...limits, whenFull, ageSecondsMax: 60 } });
      let lane = await open();
      let number = 0;
      for (const it of steps) {
        if (it.kind === "add") {
          const takenAtMs = it.isOld ? nowMs - 61_000 : nowMs;
          const added = Array.from({ length: it.count }, () =>
            append(store, lane, record(++number, takenAtMs)),
          );
          await Promise.all(added);
        } else if (it.kind === "send") {
          const run = await lane.readAfter(lane.position);
          if (run) await lane.cloudHolds(run);
        } else if (it.kind === "back") {
          await lane.moveTo(Math.max(lane.firstSeq - 1, lane.position - 5));
        } else if (it.kind === "tidy") {
          await lane.tidy();
        } else {
          await lane.close();
          await store.idle();
          lane = await open();
        }
        await assertWhole(lane);
      }
    });
    await fc.assert(property, { seed: 4, numRuns: 300 });
  });
}

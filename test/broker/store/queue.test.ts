import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeMessage, type Message } from "#contract/message";
import type { QueuedMessage } from "#contract/session";
import { Queue } from "../../../broker/store/queue.ts";
import { RELEASED_ENTRY } from "../../../broker/store/queue-entry.ts";
import { QueueMemory } from "../../../broker/store/queue-memory.ts";
import { WINDOW_LIMITS } from "../../../broker/store/queue-window.ts";
import { Disk } from "./disk.ts";

const BOUNDS = { countMax: 1_000_000, bytesMax: 1_000_000_000 };

function messageOf(text: string): Message {
  const payload = new TextEncoder().encode(text);
  return { topic: "t", payload, qos: 2, retain: false, takenAtMs: 1_000 };
}

const textOf = ({ message }: QueuedMessage) =>
  message ? new TextDecoder().decode(message.payload) : "released";

function open(memoryBytes = 16 * 1024 * 1024) {
  const disk = new Disk();
  const memory = new QueueMemory(memoryBytes);
  const queue = new Queue(disk, memory, 1, 0);
  const take = (text: string, to = queue, bounds = BOUNDS, full = () => {}) => {
    const message = messageOf(text);
    const target = { clientId: "a", qos: 2, retain: false, subscriptionIds: [] } as const;
    const part = to.add(target, encodeMessage(message), message, bounds, full);
    return disk.commit({ ...part, sync: true });
  };
  const takeAll = async (from: number, to: number) => {
    const numbers = Array.from({ length: to - from + 1 }, (_, index) => from + index);
    await Promise.all(numbers.map((number) => take(String(number))));
  };
  const read = async (after = 0, countMax = 1_000) =>
    (await queue.read(after, countMax, 10_000_000)).map(textOf);
  return { disk, memory, queue, take, takeAll, read };
}

test("who keeps up with a queue reads nothing from the disk", async () => {
  const { disk, queue, take, read } = open();
  for (let number = 1; number <= 1_000; number += 1) {
    await take(String(number));
    assert.deepEqual(await read(number - 1), [String(number)]);
    if (number > 10) await queue.remove(number - 10, false);
  }
  await queue.release(1_000);
  assert.deepEqual(await read(999), ["released"]);
  assert.deepEqual(disk.reads, []);
  await queue.remove(1_000, true);
  assert.deepEqual(await queue.read(1_000, 10, 1_000), []);
  assert.deepEqual(disk.reads, []);
});

test("a queue longer than its window is read from the disk and goes on in memory", async () => {
  const { disk, takeAll, read } = open();
  await takeAll(1, 300);
  assert.equal((await read()).length, 300);
  assert.equal(disk.reads.length, 1);
  const lowest = 300 - WINDOW_LIMITS.entriesMax + 1;
  assert.match(disk.reads[0]?.lt ?? "", new RegExp(`!0*${lowest}$`), "no more than it must");
  assert.deepEqual(await read(299), ["300"]);
  assert.equal(disk.reads.length, 1);
});

test("a window holds no more bytes than its limit", async () => {
  const { memory, take, read } = open();
  const text = "x".repeat(10_000);
  for (let number = 1; number <= 100; number += 1) await take(text);
  assert.ok(memory.bytes <= WINDOW_LIMITS.bytesMax && memory.bytes > WINDOW_LIMITS.bytesMax / 2);
  assert.equal((await read()).length, 100);
});

test("over the limit of all queues together those forget that were not read for longest", async () => {
  const { disk, memory, queue, take } = open(10_000);
  const [asleep, awake] = [new Queue(disk, memory, 2, 0), queue];
  for (let number = 1; number <= 10; number += 1) {
    await take("x".repeat(100), awake);
    await take("x".repeat(100), asleep);
    await awake.read(number - 1, 1, 1_000);
  }
  for (let number = 11; number <= 20; number += 1) await take("x".repeat(100), awake);
  assert.ok(memory.bytes <= 10_000);
  await awake.read(0, 20, 10_000);
  assert.deepEqual(disk.reads, [], "who was read last has it in memory");
  assert.equal((await asleep.read(0, 100, 100_000)).length, 10);
  assert.equal(disk.reads.length, 1);
});

test("a window gives back its memory with what is removed, and when its session ends", async () => {
  const { memory, queue, takeAll } = open();
  await takeAll(1, 3);
  const threeBytes = memory.bytes;
  await queue.release(1);
  assert.ok(memory.bytes < threeBytes);
  await queue.remove(1, false);
  await queue.remove(2, false);
  assert.equal(memory.bytes, threeBytes / 3);
  queue.close();
  assert.equal(memory.bytes, 0);
});

test("a read begins at what is kept, not among what was deleted before it", async () => {
  const { disk, queue, takeAll, read } = open(0);
  await takeAll(1, 100);
  for (let number = 1; number <= 90; number += 1) await queue.remove(number, false);
  await queue.remove(92, true);
  await queue.remove(91, true);
  assert.equal((await read())[0], "93");
  assert.match(disk.reads[0]?.gte ?? "", /!0*92$/);
  await read();
  assert.match(disk.reads[1]?.gte ?? "", /!0*93$/, "it learns where the kept begin");
});

test("a read learns that all but the window is gone", async () => {
  const { disk, queue, takeAll, read } = open();
  await takeAll(1, 300);
  for (let number = 44; number >= 1; number -= 1) await queue.remove(number, false);
  await disk.idle();
  for (const _ of [1, 2]) assert.equal((await read())[0], "45");
  assert.equal(disk.reads.length, 1);
});

test("numbers follow what was sent, even where less is kept", async () => {
  const { disk, memory, take } = open();
  const queue = new Queue(disk, memory, 1, 10);
  queue.found(3, 5);
  assert.equal(await queue.newest(), 10);
  await take("next", queue);
  assert.deepEqual(
    (await queue.read(3, 10, 1_000)).map(({ number }) => number),
    [11],
  );
});

test("the sizes of what was read last are remembered, not of all that ever was", async () => {
  const { disk, queue, takeAll, read } = open(0);
  await takeAll(1, 3_000);
  await read(0, 3_000);
  await queue.remove(3_000, false);
  assert.equal(disk.gets, 0);
  await queue.remove(1, false);
  assert.equal(disk.gets, 1);
  assert.equal((await queue.size()).count, 2_998);
});

test("numbers are taken back when the disk refuses the batch, and given again", async () => {
  const { disk, queue, takeAll, read } = open();
  await takeAll(1, 2);
  const before = await queue.size();
  disk.fault = new Error("disk full");
  await assert.rejects(takeAll(3, 5), /disk full/);
  assert.deepEqual([await queue.size(), await queue.newest()], [before, 2]);
  disk.fault = undefined;
  await takeAll(6, 7);
  assert.deepEqual(await read(), ["1", "2", "6", "7"]);
  assert.equal(await queue.newest(), 4);
});

test("what is not stored yet cannot be read", async () => {
  const { take, read } = open();
  const taken = take("1");
  await Promise.resolve();
  assert.deepEqual(await read(), []);
  await taken;
  assert.deepEqual(await read(), ["1"]);
});

test("acknowledgements that nobody waits for share one write, which is not synced", async () => {
  const { disk, queue, takeAll } = open();
  await takeAll(1, 50);
  const before = disk.batches.length;
  for (let number = 1; number <= 50; number += 1) await queue.remove(number, false);
  assert.equal(disk.batches.length, before, "it waits for company");
  await disk.idle();
  await takeAll(51, 52);
  await queue.remove(51, false);
  await queue.remove(52, false);
  await disk.idle();
  const written = disk.batches.slice(before).map(({ keys, sync }) => [keys.length, sync]);
  const [first, , last] = written;
  assert.deepEqual([first, last, written.length], [[50, false], [2, false], 3]);
  assert.equal(disk.kept.size, 0);
});

test("an acknowledgement that the disk refuses is forgotten all the same, and deleted later", async () => {
  const { disk, queue, takeAll, read } = open();
  await takeAll(1, 2);
  disk.fault = new Error("disk full");
  await assert.rejects(queue.remove(1, true), /disk full/);
  assert.deepEqual(await read(), ["2"]);
  disk.fault = undefined;
  await queue.remove(2, true);
  assert.equal(disk.kept.size, 0);
});

test("a release that is asked for twice is done once, and both wait for it", async () => {
  const { disk, queue, takeAll } = open();
  await takeAll(1, 1);
  const before = disk.batches.length;
  const first = queue.release(1);
  await queue.release(1);
  assert.deepEqual([...disk.kept.values()], [RELEASED_ENTRY], "before anybody is told");
  await first;
  await queue.release(1);
  assert.equal(disk.batches.length, before + 1);
  assert.equal(disk.batches.at(-1)?.sync, true);
});

test("a removal ends the release that is under way, and is counted once", async () => {
  for (const memoryBytes of [0, 1_000_000]) {
    const { disk, queue, takeAll } = open(memoryBytes);
    await takeAll(1, 1);
    const released = queue.release(1);
    await Promise.all([queue.remove(1, true), queue.remove(1, true), released]);
    assert.deepEqual(await queue.size(), { count: 0, bytes: 0 });
    assert.equal(disk.kept.size, 0);
  }
});

test("a release is counted, in memory and on the disk alone", async () => {
  for (const memoryBytes of [0, 1_000_000]) {
    const { queue, takeAll, read } = open(memoryBytes);
    await takeAll(1, 1);
    await read();
    await queue.release(1);
    assert.deepEqual(await queue.size(), { count: 1, bytes: RELEASED_ENTRY.length });
    await queue.remove(1, false);
    assert.deepEqual(await queue.size(), { count: 0, bytes: 0 });
  }
});

test("what is removed while the disk is read is not read", async () => {
  const { disk, queue, takeAll } = open(0);
  await takeAll(1, 3);
  const { promise, resolve } = Promise.withResolvers<void>();
  disk.gate = promise;
  const reading = queue.read(0, 10, 1_000);
  await Promise.all([queue.remove(1, true), queue.remove(2, true)]);
  resolve();
  assert.deepEqual((await reading).map(textOf), ["3"]);
  for (const number of [1, 2, 3]) await queue.remove(number, true);
  assert.deepEqual(await queue.size(), { count: 0, bytes: 0 }, "nothing is counted twice");
});

test("over its limits a queue takes no more, keeps its order, and says so", async () => {
  const { queue, take, read } = open();
  let dropped = 0;
  const full = () => {
    dropped += 1;
  };
  const bounds = { countMax: 3, bytesMax: 1_000 };
  await Promise.all(["1", "2", "3", "4", "5"].map((text) => take(text, queue, bounds, full)));
  assert.deepEqual([await read(), dropped], [["1", "2", "3"], 2]);
  await queue.remove(1, false);
  await take("6", queue, bounds, full);
  await queue.remove(2, false);
  await take("x".repeat(1_000), queue, bounds, full);
  assert.deepEqual([await read(), dropped], [["3", "6"], 3]);
  assert.equal(await queue.newest(), 4, "what was dropped has no number");
});

test("a queue that is closed keeps nothing any more", async () => {
  const { disk, queue, take, takeAll } = open();
  await takeAll(1, 2);
  const late = [take("late"), disk.commit({ ...queue.addIncoming(1), sync: true })];
  queue.close();
  await Promise.all(late);
  assert.equal(disk.kept.size, 2);
  assert.deepEqual(await queue.read(0, 10, 1_000), []);
  await queue.clear();
  assert.equal(disk.kept.size, 0);
});

/** What may happen to a queue; numbers are shares of what there is. */
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("take"), bytes: fc.nat(3_000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("takeMany"), count: fc.nat(200) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("remove"), at: fc.nat(1_000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("release"), at: fc.nat(1_000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("fail"), count: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("read"), at: fc.nat(1_000) }) },
);

test("with and without memory a queue reads the same, which is what was done to it", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 40 }),
      fc.array(fc.record({ after: fc.nat(1_000), countMax: fc.integer({ min: 1, max: 400 }) })),
      async (steps, reads) => {
        const [cached, uncached, small] = [open(), open(0), open(5_000)];
        const model: { number: number; text: string }[] = [];
        let given = 0;
        for (const it of steps) {
          for (const { disk, queue, take } of [cached, uncached, small]) {
            await apply(it, disk, queue, take, model);
          }
          given = applyToModel(it, model, given);
        }
        for (const { after, countMax } of [{ after: 0, countMax: 1_000_000 }, ...reads]) {
          const expected = model.filter(({ number }) => number > after).slice(0, countMax);
          for (const { queue } of [cached, uncached, small]) {
            const read = await queue.read(after, countMax, 1_000_000_000);
            const found = read.map((entry) => ({ number: entry.number, text: textOf(entry) }));
            assert.deepEqual(found, expected);
            assert.equal((await queue.size()).count, model.length);
          }
        }
        const sizes = [cached, uncached, small].map(({ queue }) => queue.size());
        const [first, ...others] = await Promise.all(sizes);
        for (const other of others) assert.deepEqual(other, first);
      },
    ),
    { seed: 1, numRuns: 60 },
  );
});

type Step = { do: string; bytes?: number; count?: number; at?: number };

async function apply(
  it: Step,
  disk: Disk,
  queue: Queue,
  take: (text: string) => Promise<void>,
  model: readonly { number: number }[],
): Promise<void> {
  const number = model[(it.at ?? 0) % Math.max(1, model.length)]?.number ?? 0;
  if (it.do === "remove") await queue.remove(number, number % 2 === 0);
  if (it.do === "release") await queue.release(number);
  if (it.do === "read") await queue.read(number, 100, 100_000);
  if (it.do === "fail") {
    disk.fault = new Error("disk full");
    await Promise.allSettled(
      textsOf({ do: "takeMany", count: it.count ?? 0 }).map((text) => take(text)),
    );
    disk.fault = undefined;
  } else {
    await Promise.all(textsOf(it).map((text) => take(text)));
  }
}

function applyToModel(it: Step, model: { number: number; text: string }[], given: number): number {
  const index = (it.at ?? 0) % Math.max(1, model.length);
  if (it.do === "remove") model.splice(index, 1);
  const entry = model[index];
  if (it.do === "release" && entry) entry.text = "released";
  let last = given;
  for (const text of it.do === "fail" ? [] : textsOf(it)) {
    last += 1;
    model.push({ number: last, text });
  }
  return last;
}

function textsOf(it: Step): string[] {
  if (it.do === "take") return ["x".repeat(it.bytes ?? 0)];
  if (it.do !== "takeMany") return [];
  return Array.from({ length: it.count ?? 0 }, (_, index) => `m${index}`);
}

// sources.test: what waits for a client is handed over in order, and none of it is overlooked.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Publication } from "../../../broker/mqtt/publication.ts";
import { MemorySource, type Source, StoredSource } from "../../../broker/mqtt/sources.ts";
import { waitFor } from "../../support/wait-for.ts";
import { messageOf, textOf } from "./arbitraries.ts";
import { FakeQueue } from "./fake-queue.ts";

const FORM = { qos: 1, retain: false, subscriptionIds: [] } as const;

function next(source: Source): string | undefined {
  const entry = source.peek();
  if (!entry) return undefined;
  source.shift();
  return entry.publication ? textOf(entry.publication.message) : "released";
}

test("memory hands over what came, in order, and counts what waits", () => {
  const counts = fc.array(fc.tuple(fc.nat(1_500), fc.nat(1_500)), { maxLength: 6 });
  const property = fc.property(counts, (all) => {
    const source = new MemorySource();
    let [came, went] = [0, 0];
    for (const [pushed, shifted] of all) {
      for (let index = 0; index < pushed; index += 1) {
        source.push(new Publication(messageOf("t", String(came++).padStart(9))), FORM);
      }
      for (let index = 0; index < shifted && went < came; index += 1) {
        assert.equal(next(source)?.trim(), String(went++));
      }
      assert.equal(source.count, came - went);
      assert.equal(source.bytes, (came - went) * 10);
      assert.equal(source.isWaiting, came > went);
      assert.equal(source.rest().length, came - went);
      assert.equal(source.rest()[0], source.peek());
    }
  });
  fc.assert(property, { seed: 1, numRuns: 50 });
});

test("memory lets go of what was sent, but for what another member may have to be sent", () => {
  const source = new MemorySource();
  source.push(new Publication(messageOf("t", "own")), FORM);
  source.push(new Publication(messageOf("t", "shared")), FORM, "$share/g/t");
  const [own, shared] = source.rest();
  assert(own && shared);
  for (const entry of [own, shared]) source.sent(entry);
  assert.deepEqual([own.publication, shared.publication?.message.topic], [undefined, "t"]);
});

/** Takes all that there is whenever it is told that there is some. */
function follow(queue: FakeQueue) {
  const taken: string[] = [];
  const faults: string[] = [];
  const source = new StoredSource(queue, { ready: take, failed: (why) => faults.push(why) });
  function take() {
    for (let text = next(source); text !== undefined; text = next(source)) taken.push(text);
  }
  const poke = () => {
    source.poke();
    take();
  };
  return { taken, faults, source, poke };
}

test("a stored queue is read to its end, whatever its length, and only once", async () => {
  const queue = new FakeQueue();
  const texts = Array.from({ length: 1_000 }, (_, index) => String(index));
  for (const text of texts) queue.add(messageOf("t", text), 1);
  const { taken, poke } = follow(queue);
  poke();
  await waitFor("all", () => taken.length >= texts.length);
  assert.deepEqual(taken, texts);
});

test("a stored queue in which large messages wait is read piece by piece", async () => {
  const queue = new FakeQueue();
  for (let index = 0; index < 10; index += 1) queue.add(messageOf("t", "x".repeat(100_000)), 1);
  const { taken, poke } = follow(queue);
  poke();
  await waitFor("all", () => taken.length === 10);
  const reads = queue.asked.filter((it) => it.startsWith("read"));
  assert.ok(reads.length >= 4, `${reads.length} reads of at most 256 KiB and one message`);
});

test("what is queued while the queue is read is not overlooked", async () => {
  const property = fc.asyncProperty(fc.array(fc.nat(4), { maxLength: 30 }), async (pauses) => {
    const queue = new FakeQueue();
    const { taken, poke } = follow(queue);
    for (const [index, pause] of pauses.entries()) {
      for (let turns = 0; turns < pause; turns += 1) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      queue.add(messageOf("t", String(index)), 1);
      poke();
    }
    await waitFor("all", () => taken.length === pauses.length, 1_000);
    assert.deepEqual(
      taken,
      pauses.map((_, index) => String(index)),
    );
  });
  await fc.assert(property, { seed: 1, numRuns: 50 });
});

test("a queue that is empty is not asked again until there is reason to", async () => {
  const queue = new FakeQueue();
  const { poke, source } = follow(queue);
  poke();
  await waitFor("the read", () => queue.asked.length === 1);
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
  source.peek();
  assert.deepEqual(queue.asked, ["read behind 0"]);
});

test("a queue that cannot be read says why, and may be read when it can be", async () => {
  const queue = new FakeQueue();
  queue.add(messageOf("t", "1"), 1);
  const { pace } = queue;
  queue.pace = () => Promise.reject(new Error("the disk is away"));
  const { taken, faults, poke } = follow(queue);
  poke();
  await waitFor("the failure", () => faults.length > 0);
  assert.match(faults.join(), /the disk is away/);
  queue.pace = pace;
  poke();
  await waitFor("the message", () => taken.join() === "1");
});

test("a release is durable when it resolves, and one that fails says so", async () => {
  const queue = new FakeQueue();
  queue.add(messageOf("t", "1"), 2);
  const source = new StoredSource(queue, { ready: () => {}, failed: () => {} });
  const entry = await waitFor("the entry", () => source.peek());
  await source.release(entry);
  assert.equal(queue.entries.get(1)?.message, undefined);
  queue.pace = () => Promise.reject(new Error("the disk is away"));
  await assert.rejects(source.release(entry), /the disk is away/);
  // Comes again at the next connection: nothing is lost by it.
  source.remove(entry);
  await new Promise((resolve) => setImmediate(resolve));
});

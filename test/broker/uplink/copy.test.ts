// copy.test: of two boxes with copies of one disk exactly one goes on, and the other one says so.
// Path: test. Touches: the clock.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { Sender } from "../../../broker/uplink/sender.ts";
import { waitFor } from "../../support/wait-for.ts";
import { FakeLanding } from "./fake-landing.ts";
import { MemoryLane } from "./memory-lane.ts";

const log = createLog({ level: "error", process: "test" });
log.level = "silent";

/** A process with that lane, until it is killed. */
function start(t: TestContext | undefined, landing: FakeLanding, lane: MemoryLane) {
  let isAlive = true;
  const sender = new Sender({
    lanes: [lane],
    urls: ["redis://landing"],
    connect: async (_, lost) => landing.connect(lost),
    probeMs: 10,
    windowFramesMax: 4,
    bytesPerSecondMax: undefined,
    downCursor: () => "0-0",
    holdsLanes: () => {},
    clock: () => 1,
    log,
    metrics: new Metrics(),
  });
  const running = sender.run();
  const kill = async () => {
    if (!isAlive) return;
    isAlive = false;
    sender.stop();
    await running;
  };
  t?.after(kill);
  const state = () => sender.status().state;
  return { lane, sender, state, kill };
}

const isDone = ({ lane }: { lane: MemoryLane }) => lane.position === lane.lastSeq;

/** A box that has sent 5 messages, and a copy of its disk from then with messages of its own. */
async function boxAndCopy(t: TestContext) {
  const landing = new FakeLanding();
  const disk = new MemoryLane("default", { writers: ["first"] });
  disk.append(5);
  const before = start(t, landing, disk);
  await waitFor("the first to arrive", () => isDone(before));
  await before.kill();
  const [box, copy] = [disk.copy(["box", "first"]), disk.copy(["copy", "first"])];
  box.append(2);
  copy.append(4);
  return { landing, box, copy };
}

for (const order of ["box", "copy"] as const) {
  test(`the one that starts later goes on, the other is fenced off: the ${order} first`, async (t) => {
    const both = await boxAndCopy(t);
    const one = start(t, both.landing, order === "box" ? both.box : both.copy);
    await waitFor("the first to be there", () => one.state() === "online" && isDone(one));
    assert.equal(one.lane.epoch, 5, "it is the box itself, as far as anybody can tell");
    const other = start(t, both.landing, order === "box" ? both.copy : both.box);
    await waitFor("the second to arrive", () => other.state() === "online" && isDone(other));
    await waitFor("the fence", () => one.state() === "fenced");
    assert.equal(other.lane.epoch, 6);
    const own = both.landing.stream.filter(({ writer }) => writer === other.lane.writers[0]);
    assert.equal(own.length, order === "box" ? 4 : 2, "nothing of it was taken for a repeat");
    assert.match(one.sender.status().why, /another box has this name, or a copy of this disk/);
  });
}

test("a fenced box stays fenced when it is started again", async (t) => {
  const { landing, box, copy } = await boxAndCopy(t);
  const one = start(t, landing, box);
  await waitFor("the box", () => isDone(one));
  const other = start(t, landing, copy);
  await waitFor("the fence", () => one.state() === "fenced");
  await one.kill();
  box.append(1);
  const again = start(t, landing, box.copy(["again", ...box.writers]));
  await waitFor("the fence", () => again.state() === "fenced");
  assert.equal(other.state(), "online");
});

test("a process that follows another one on the same disk goes on in its epoch", async (t) => {
  const { landing, box } = await boxAndCopy(t);
  const one = start(t, landing, box);
  await waitFor("it", () => isDone(one));
  await one.kill();
  // It was killed between its probe and its first frame.
  landing.positions.set("default", { epoch: 5, seq: 7, writer: "killed" });
  const next = box.copy(["next", "killed", ...box.writers]);
  next.append(1);
  const two = start(t, landing, next);
  await waitFor("the rest", () => isDone(two));
  assert.equal(two.lane.epoch, 5);
});

test("goes on when the landing goes back to an earlier process of this box", async (t) => {
  const { landing, box } = await boxAndCopy(t);
  const one = start(t, landing, box);
  await waitFor("it", () => isDone(one));
  landing.stream.splice(5);
  landing.positions.set("default", { epoch: 5, seq: 5, writer: "first" });
  box.append(1);
  await waitFor("the rest", () => landing.stream.length === 8);
  assert.equal(one.lane.epoch, 5);
  assert.equal(one.state(), "online");
});

test("goes on when the landing was emptied", async (t) => {
  const { landing, box } = await boxAndCopy(t);
  const one = start(t, landing, box);
  await waitFor("it", () => isDone(one));
  landing.stream.splice(0);
  landing.positions.clear();
  box.append(1);
  await waitFor("all of it again", () => landing.stream.length === 8);
  assert.equal(one.state(), "online");
});

test("is fenced off, and says what to do, when another one writes the epoch that it had", async (t) => {
  const { landing, box } = await boxAndCopy(t);
  const one = start(t, landing, box);
  await waitFor("it", () => isDone(one));
  landing.positions.set("default", { epoch: 5, seq: 9, writer: "copy" });
  box.append(1);
  await waitFor("the fence", () => one.state() === "fenced");
  const { why } = one.sender.status();
  assert.match(why, /another box with a copy of this disk writes to the cloud \(epoch 5\)/);
  assert.match(why, /another name and an empty data folder; to let this one go on, restart it$/);
  assert.equal(one.lane.position, 7, "nothing of the other's was taken for its own");
});

test("begins a new epoch when its disk was restored, and takes nothing for a repeat", async (t) => {
  const { landing, box } = await boxAndCopy(t);
  const one = start(t, landing, box);
  await waitFor("it", () => isDone(one));
  const backup = box.copy(["restored", "first"]);
  await one.kill();
  backup.append(3);
  const two = start(t, landing, backup);
  await waitFor("the rest", () => isDone(two));
  assert.equal(two.lane.epoch, 6);
  assert.equal(landing.stream.filter(({ writer }) => writer === "restored").length, 3);
});

const STEPS = ["box appends", "copy appends", "box restarts", "copy restarts", "emptied"] as const;

test("whatever both do, no message of the one that goes on is lost, and never do both go on", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom(...STEPS), fc.nat(20)), { maxLength: 12 }),
      async (steps) => {
        const landing = new FakeLanding();
        const disk = new MemoryLane("default", { writers: ["first"] });
        disk.append(3);
        const boxes = [
          start(undefined, landing, disk.copy(["box", "first"])),
          start(undefined, landing, disk.copy(["copy", "first"])),
        ];
        for (const [number, [step, ms]] of steps.entries()) {
          const at = step.startsWith("copy") ? 1 : 0;
          const box = boxes[at];
          if (!box) continue;
          if (step === "emptied") {
            landing.stream.splice(0);
            landing.positions.clear();
          } else if (step.endsWith("appends")) box.lane.append(number + 1);
          else {
            await box.kill();
            const writers = [`${at}-${number}`, ...box.lane.writers];
            boxes[at] = start(undefined, landing, box.lane.copy(writers));
          }
          await new Promise((resolve) => setTimeout(resolve, ms));
        }
        for (const { lane } of boxes) lane.append(1);
        const going = () => boxes.filter(({ state }) => state() !== "fenced");
        await waitFor("all but one to be fenced off", () => going().length === 1);
        const [one] = going();
        await waitFor("the rest", () => one && isDone(one));
        const at = landing.positions.get("default");
        assert.deepEqual([at?.epoch, at?.seq], [one?.lane.epoch, one?.lane.lastSeq]);
        const own = landing.stream.filter(({ epoch }) => epoch === one?.lane.epoch);
        assert.deepEqual(
          own.map(({ first }) => first),
          Array.from({ length: one?.lane.lastSeq ?? 0 }, (_, index) => index + 1),
        );
        for (const box of boxes) await box.kill();
      },
    ),
    { seed: 20_261_126, numRuns: 40 },
  );
});

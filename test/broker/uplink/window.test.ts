// window.test: frames go ahead of their answers, and none is lost, doubled or out of its order by it.
// Path: test. Touches: the clock.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { SluiceError } from "#contract/errors";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { Sender, type SenderOptions } from "../../../broker/uplink/sender.ts";
import { waitFor } from "../../support/wait-for.ts";
import { FakeLanding } from "./fake-landing.ts";
import { MemoryLane } from "./memory-lane.ts";

const log = createLog({ level: "error", process: "test" });
log.level = "silent";

const FRAME = 256;

function start(
  t: TestContext | undefined,
  landing: FakeLanding,
  lanes: readonly MemoryLane[],
  options: Partial<SenderOptions> = {},
) {
  const metrics = new Metrics();
  const sender = new Sender({
    lanes,
    urls: ["redis://landing"],
    connect: async (_, lost) => landing.connect(lost),
    probeMs: 60_000,
    windowFramesMax: 4,
    bytesPerSecondMax: undefined,
    downCursor: () => "0-0",
    holdsLanes: () => {},
    clock: () => 1,
    log,
    metrics,
    ...options,
  });
  const running = sender.run();
  const stop = async () => {
    sender.stop();
    landing.holds = false;
    while (landing.held.length > 0) landing.release();
    await running;
  };
  t?.after(stop);
  return { sender, metrics, stop, running };
}

/** Each sequence of each lane and epoch once, in order. */
function assertLandedOnce({ stream }: FakeLanding): void {
  const next = new Map<string, number>();
  for (const { lane, epoch, first, seq } of stream) {
    const key = `${lane}:${epoch}`;
    assert.equal(first, next.get(key) ?? 1, `${key} without a hole or a repeat`);
    next.set(key, seq + 1);
  }
}

test("sends as many frames ahead of the answers as the window has, each behind the last", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  landing.holds = true;
  lane.append(6 * FRAME);
  start(t, landing, [lane]);
  await waitFor("the window to fill", () => landing.held.length === 4);
  const sent = ["1..256", "257..512", "513..768", "769..1024"].map((it) => `default ${it}`);
  assert.deepEqual(landing.asked, sent);
  assert.equal(lane.position, 0, "no answer, no position");
  landing.release();
  await waitFor("the next frame", () => landing.asked.length === 5);
  assert.equal(lane.position, FRAME);
  assert.equal(landing.held.length, 4);
});

test("with a window of one a frame waits for the answer to the one before it", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  landing.holds = true;
  lane.append(3 * FRAME);
  start(t, landing, [lane], { windowFramesMax: 1 });
  for (let sent = 1; sent <= 3; sent += 1) {
    await waitFor("a frame", () => landing.held.length === 1);
    assert.equal(landing.asked.length, sent);
    landing.release();
  }
  await waitFor("all to be taken", () => lane.position === 3 * FRAME);
});

test("what comes while a frame is under way shares the next one", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  landing.holds = true;
  const { sender } = start(t, landing, [lane]);
  await waitFor("it to be online", () => sender.status().state === "online");
  lane.append(1);
  await waitFor("the first frame", () => landing.held.length === 1);
  for (let count = 0; count < 5; count += 1) {
    lane.append(1);
    await new Promise(setImmediate);
  }
  assert.deepEqual(landing.asked, ["default 1..1"]);
  lane.append(0, 0);
  landing.release();
  await waitFor("the second", () => landing.held.length === 1);
  assert.deepEqual(landing.asked, ["default 1..1", "default 2..6"]);
});

test("what comes in quick succession shares frames, and what comes alone goes at once", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  const { sender } = start(t, landing, [lane]);
  await waitFor("the sender to be online", () => sender.status().state === "online");
  const fromMs = performance.now();
  lane.append(1);
  await waitFor("the first, alone", () => lane.position === 1);
  const alone = landing.asked.length;
  let appended = 1;
  for (; performance.now() - fromMs < 100; appended += 1) {
    lane.append(1);
    await new Promise(setImmediate);
  }
  await waitFor("all of them", () => lane.position === appended);
  const tookMs = performance.now() - fromMs;
  assert.equal(alone, 1);
  const most = tookMs / 10 + appended / FRAME + 2;
  assert.ok(landing.asked.length <= most, `${landing.asked.length} frames in ${tookMs} ms`);
});

test("few large messages that fill a frame by their bytes go ahead too", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  landing.holds = true;
  lane.append(8, 100_000);
  start(t, landing, [lane]);
  await waitFor("frames ahead", () => landing.held.length >= 3);
  assert.deepEqual(landing.asked.slice(0, 3), ["default 1..2", "default 3..4", "default 5..6"]);
});

test("a higher lane's message goes next, behind nothing but the frames under way", async (t) => {
  const landing = new FakeLanding();
  const [alarms, backlog] = [new MemoryLane("alarms"), new MemoryLane("default")];
  landing.holds = true;
  backlog.append(20 * FRAME);
  start(t, landing, [alarms, backlog]);
  await waitFor("the window to fill", () => landing.held.length === 4);
  alarms.append(1);
  landing.release();
  await waitFor("the next frame", () => landing.asked.length === 5);
  assert.equal(landing.asked[4], "alarms 1..1");
});

test("when one is refused, the others' answers come first, then each goes once from where the cloud is", async (t) => {
  const landing = new FakeLanding();
  const [alarms, backlog] = [new MemoryLane("alarms"), new MemoryLane("default")];
  landing.holds = true;
  backlog.append(6 * FRAME);
  const { metrics } = start(t, landing, [alarms, backlog]);
  await waitFor("the window to fill", () => landing.held.length === 4);
  landing.release();
  await waitFor("the next", () => landing.held.length === 4 && backlog.position === FRAME);
  alarms.append(1);
  landing.release();
  await waitFor("the alarm", () => landing.asked.at(-1) === "alarms 1..1");
  forget(landing, Number.POSITIVE_INFINITY);
  const before = landing.asked.length;
  for (let answers = 0; answers < 4; answers += 1) landing.release();
  await waitFor("the window to fill", () => landing.held.length === 4);
  const again = ["1..256", "257..512", "513..768", "769..1024"].map((it) => `default ${it}`);
  assert.deepEqual(landing.asked.slice(before), again);
  assert.equal(metrics.total("sluice_uplink_rewinds_total"), 1);
  assert.equal(metrics.total("sluice_uplink_messages_total"), 2 * FRAME + 1, "the alarm too");
  assert.equal(alarms.position, 1);
});

test("takes the next address when one fails, tells which one it is, and slows down when all have", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  const tried: string[] = [];
  let isUp = false;
  const { sender } = start(t, landing, [lane], {
    urls: ["redis://one", "redis://two:7000", "redis://three"],
    connect: async (url, lost) => {
      tried.push(new URL(url).host);
      if (!isUp || url !== "redis://two:7000") throw lostOf();
      return landing.connect(lost);
    },
  });
  await waitFor("two rounds", () => tried.length >= 6);
  assert.deepEqual(tried.slice(0, 4), ["one", "two:7000", "three", "one"]);
  assert.equal(sender.status().state, "waiting");
  isUp = true;
  await waitFor("it to be online", () => sender.status().state === "online");
  assert.equal(sender.status().cloud, "two:7000");
});

test("waits while the landing is full, says why, asks with one frame, and loses nothing", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  landing.faults = ["full", "full", "full"];
  lane.append(6 * FRAME);
  const { sender, metrics } = start(t, landing, [lane]);
  await waitFor("it to wait", () => sender.status().state === "waiting");
  assert.equal(sender.status().why, "no room");
  await waitFor("all to be taken", () => lane.position === 6 * FRAME);
  assertLandedOnce(landing);
  assert.equal(sender.status().state, "online");
  assert.equal(landing.connections, 1, "on one connection");
  assert.ok(metrics.total("sluice_uplink_full_total") >= 1);
});

test("says that it is full for as long as it is, not online in between", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  landing.faults = Array(8).fill("full");
  lane.append(1);
  const { sender } = start(t, landing, [lane]);
  await waitFor("it to wait", () => sender.status().state === "waiting");
  const { sinceMs } = sender.status();
  await waitFor("it to try again", () => landing.asked.length >= 4);
  assert.equal(sender.status().sinceMs, sinceMs, "one mode all the time");
  assert.equal(sender.status().state, "waiting");
});

test("is online again when nothing is left to send, though no frame said that there is room", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  landing.faults = ["full", "lost after"];
  lane.append(1);
  const { sender } = start(t, landing, [lane]);
  await waitFor("it to arrive", () => lane.position === 1);
  await waitFor("it to say so", () => sender.status().state === "online");
});

test("drains no faster than its limit, in frames that take no longer than a second", async (t) => {
  const [landing, lane] = [new FakeLanding(), new MemoryLane("default")];
  lane.append(1_000, 94);
  const startMs = performance.now();
  start(t, landing, [lane], { bytesPerSecondMax: 20_000 });
  await waitFor("half a second's worth", () => lane.position >= 400, 10_000);
  const [seconds, bytes] = [(performance.now() - startMs) / 1_000, lane.position * 100];
  assert.ok(bytes <= 20_000 * (seconds + 1.2), `${bytes} bytes in ${seconds} s`);
  assert.ok(
    landing.asked.every((it) => widthOf(it) <= 210),
    landing.asked.join(),
  );
});

const FAULTS = ["lost before", "lost after", "full"] as const;
const STEPS = [...FAULTS, "forget", "append", "append to the other", "pass", "pass"] as const;

test("through whatever faults, the landing holds each sequence once and in order", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...STEPS), { maxLength: 30 }), async (steps) => {
      const landing = new FakeLanding();
      const lanes = [new MemoryLane("alarms"), new MemoryLane("default")] as const;
      const { stop, running } = start(undefined, landing, lanes, { probeMs: 5 });
      for (const step of steps) {
        if (step === "forget") forget(landing, 300);
        else if (step === "append") lanes[0].append(3);
        else if (step === "append to the other") lanes[1].append(700);
        else if (step !== "pass") landing.faults.push(step);
        await new Promise(setImmediate);
      }
      landing.faults = [];
      await Promise.race([
        waitFor("all to arrive", () => lanes.every((lane) => holdsAll(landing, lane)), 20_000),
        running,
      ]);
      await stop();
      assertLandedOnce(landing);
    }),
    { seed: 20_261_125, numRuns: 40 },
  );
});

/** The landing goes back to an earlier moment, as after a fail-over to a replica that lags. */
function forget(landing: FakeLanding, most: number): void {
  landing.stream.splice(Math.max(0, landing.stream.length - most));
  const { positions } = landing;
  for (const [lane, at] of positions) positions.set(lane, { ...at, seq: 0 });
  for (const { lane, ...at } of landing.stream) positions.set(lane, at);
}

function holdsAll(landing: FakeLanding, lane: MemoryLane): boolean {
  const at = landing.positions.get(lane.name);
  return at !== undefined && at.epoch === lane.epoch && at.seq === lane.lastSeq;
}

function widthOf(asked: string): number {
  const [first = 0, last = 0] = asked.split(" ")[1]?.split("..").map(Number) ?? [];
  return last - first + 1;
}

function lostOf(): Error {
  return new SluiceError("CLOUD_UNREACHABLE", "nobody there");
}

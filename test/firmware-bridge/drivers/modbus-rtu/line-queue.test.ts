// line-queue.test: commands go before polls, and never two at once.
// Path: test. Touches: the clock.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LineQueue } from "../../../../firmware-bridge/drivers/modbus-rtu/line-queue.ts";
import { waitFor } from "../../../support/wait-for.ts";

function running(t: TestContext, heldUntilMs: (unit: number) => number = () => 0) {
  const done: string[] = [];
  let inside = 0;
  const act =
    (name: string, ms = 1) =>
    async () => {
      inside += 1;
      assert.equal(inside, 1, `${name} while something else is done`);
      await sleep(ms);
      inside -= 1;
      done.push(name);
      return name;
    };
  const queue = new LineQueue(heldUntilMs);
  let idle: Parameters<LineQueue["run"]>[0] = () => ({ atMs: Number.POSITIVE_INFINITY });
  const run = queue.run(() => idle());
  t.after(async () => {
    queue.end();
    await run;
  });
  const polling = () => {
    idle = () => ({ run: async () => void (await act("poll")()) });
    queue.wake();
  };
  return { queue, done, act, polling, run };
}

test("a command goes before all polls, and one after the other", async (t) => {
  const { queue, done, act, polling } = running(t);
  polling();
  await waitFor("polls", () => done.length > 3);
  const before = done.length;
  const commands = ["a", "b", "c"].map((name) => queue.command(1, act(name, 5)));
  assert.deepEqual(await Promise.all(commands), ["a", "b", "c"]);
  const rest = done.slice(before);
  const first = rest.indexOf("a");
  assert.ok(first <= 1, `${rest}`);
  assert.deepEqual(rest.slice(first, first + 3), ["a", "b", "c"]);
});

test("wakes for a command when there is nothing to poll", async (t) => {
  const { queue, act } = running(t);
  assert.equal(await queue.command(1, act("a")), "a");
});

test("a command to a slave that may not be asked yet lets others pass, and has its turn", async (t) => {
  const freeAtMs = performance.now() + 60;
  const { queue, act, done } = running(t, (unit) => (unit === 1 ? freeAtMs : 0));
  const held = queue.command(1, act("held"));
  await queue.command(2, act("other"));
  await held;
  assert.deepEqual(done, ["other", "held"]);
  assert.ok(performance.now() >= freeAtMs);
});

test("a command that fails fails alone", async (t) => {
  const { queue, act } = running(t);
  await assert.rejects(
    queue.command(1, async () => {
      throw new Error("no");
    }),
    /no/,
  );
  assert.equal(await queue.command(1, act("a")), "a");
});

test("ends with whatever a poll rejects with", async () => {
  const queue = new LineQueue(() => 0);
  const poll = async () => {
    throw new Error("gone");
  };
  await assert.rejects(
    queue.run(() => ({ run: poll })),
    /gone/,
  );
});

test("refuses commands beyond its bound, and all of them at its end", async () => {
  const queue = new LineQueue(() => 0);
  const waiting = Array.from({ length: 1_000 }, () => queue.command(1, async () => {}));
  await assert.rejects(
    queue.command(1, async () => {}),
    /1000 commands wait/,
  );
  queue.end();
  const ended = await Promise.allSettled(waiting);
  assert.ok(ended.every((it) => it.status === "rejected" && it.reason.code === "LINK_FAILED"));
  await assert.rejects(
    queue.command(1, async () => {}),
    { code: "LINK_FAILED" },
  );
});

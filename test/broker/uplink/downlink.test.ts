import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SluiceError } from "#contract/errors";
import { encodeMessage, type Message } from "#contract/message";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { Downlink } from "../../../broker/uplink/downlink.ts";
import { waitFor } from "../../support/wait-for.ts";

const log = createLog({ level: "error", process: "test" });
log.level = "silent";

/** The gateway's clock and the landing's, which is the cloud's: 400 ms ahead. */
const [NOW_MS, LANDING_NOW_MS] = [1_000, 1_400];

/** A landing whose stream is an array: cursor n is its nth entry. */
function landingOf(entries: Uint8Array[], faults: number[] = []) {
  let reads = 0;
  return {
    timesAsked: 0,
    async nowMs() {
      this.timesAsked += 1;
      return LANDING_NOW_MS;
    },
    async readCommands(cursor: string) {
      reads += 1;
      if (faults.includes(reads)) throw new SluiceError("CLOUD_UNREACHABLE", "cut off");
      await new Promise(setImmediate);
      const from = Number(cursor.split("-")[0]);
      return entries
        .slice(from, from + 2)
        .map((record, index) => ({ cursor: `${from + index + 1}-0`, record }));
    },
    close() {},
  };
}

const command = (text: string, extras: Partial<Message> = {}) =>
  encodeMessage({
    ...{ topic: "serial/x/set", payload: new TextEncoder().encode(text) },
    ...{ qos: 1, retain: false, takenAtMs: 1, ...extras },
  });

function run(
  t: TestContext,
  entries: Uint8Array[],
  stored: string | undefined,
  faults: number[] = [],
) {
  const delivered: string[] = [];
  const messages: Message[] = [];
  const written: string[] = [];
  const metrics = new Metrics();
  const landing = landingOf(entries, faults);
  const downlink = new Downlink({
    urls: ["redis://landing"],
    connect: async () => landing,
    cursor: { read: async () => stored, write: async (cursor) => void written.push(cursor) },
    deliver: async (message) => {
      messages.push(message);
      delivered.push(new TextDecoder().decode(message.payload));
    },
    clock: () => NOW_MS,
    log,
    metrics,
  });
  const running = downlink.run();
  const stop = async () => {
    downlink.stop();
    await running;
  };
  // One that is left running would keep the process from its end.
  t.after(stop);
  return { delivered, messages, written, metrics, landing, downlink, stop };
}

test("carries commands out in order from the stored cursor on, each before its cursor is kept", async (t) => {
  const entries = ["a", "b", "c", "d"].map((text) => command(text));
  const { delivered, written, downlink, stop } = run(t, entries, "1-0");
  await waitFor("the last command", () => written.length === 3);
  await stop();
  assert.deepEqual(delivered, ["b", "c", "d"]);
  assert.deepEqual(written, ["2-0", "3-0", "4-0"]);
  assert.equal(downlink.cursor, "4-0");
});

test("goes on behind what it has carried out when the connection breaks", async (t) => {
  const entries = ["a", "b", "c", "d"].map((text) => command(text));
  const { delivered, written, stop } = run(t, entries, undefined, [2]);
  await waitFor("the last command", () => written.length === 4);
  await stop();
  assert.deepEqual(delivered, ["a", "b", "c", "d"]);
});

test("skips, and counts, a command that cannot be read", async (t) => {
  const { delivered, written, metrics, stop } = run(
    t,
    [Buffer.from([9, 9]), command("b")],
    undefined,
  );
  await waitFor("the last command", () => written.length === 2);
  await stop();
  assert.deepEqual(delivered, ["b"]);
  assert.match(metrics.text(), /sluice_downlink_commands_total\{result="invalid"\} 1/);
});

test("tells a command's expiry by the gateway's clock, and passes its properties on", async (t) => {
  const properties = Uint8Array.of(1, 1);
  const { messages, written, stop } = run(
    t,
    [command("a", { expiresAtMs: LANDING_NOW_MS + 1, properties })],
    undefined,
  );
  await waitFor("the command", () => written.length === 1);
  await stop();
  assert.equal(messages[0]?.expiresAtMs, NOW_MS + 1);
  assert.deepEqual(messages[0]?.properties, new Uint8Array(properties));
});

test("skips, and counts, commands that have expired, and goes on", async (t) => {
  const { delivered, written, metrics, downlink, stop } = run(
    t,
    [command("a", { expiresAtMs: LANDING_NOW_MS }), command("b"), command("c", { expiresAtMs: 1 })],
    undefined,
  );
  await waitFor("the last command", () => written.length === 3);
  await stop();
  assert.deepEqual(delivered, ["b"]);
  assert.equal(downlink.cursor, "3-0");
  assert.match(metrics.text(), /sluice_downlink_commands_total\{result="expired"\} 2/);
  assert.match(metrics.text(), /sluice_downlink_commands_total\{result="done"\} 1/);
});

test("asks for the landing's time once for what it read, and only if that can expire", async (t) => {
  const expiring = command("x", { expiresAtMs: LANDING_NOW_MS + 60_000 });
  for (const [entry, timesAsked] of [[command("a"), 0] as const, [expiring, 1] as const]) {
    const { written, landing } = run(t, [entry, entry], undefined);
    await waitFor("the last command", () => written.length === 2);
    assert.equal(landing.timesAsked, timesAsked);
  }
});

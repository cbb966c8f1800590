import assert from "node:assert/strict";
import { test } from "node:test";
import { SluiceError } from "#contract/errors";
import { encodeMessage } from "#contract/message";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { Downlink } from "../../../broker/uplink/downlink.ts";
import { waitFor } from "../../support/wait-for.ts";

const log = createLog({ level: "error", process: "test" });
log.level = "silent";

/** A landing whose stream is an array: cursor n is its nth entry. */
function landingOf(entries: Uint8Array[], faults: number[] = []) {
  let reads = 0;
  return {
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

const command = (text: string) =>
  encodeMessage({
    ...{ topic: "serial/x/set", payload: new TextEncoder().encode(text) },
    ...{ qos: 1, retain: false, takenAtMs: 1 },
  });

function run(entries: Uint8Array[], stored: string | undefined, faults: number[] = []) {
  const delivered: string[] = [];
  const written: string[] = [];
  const metrics = new Metrics();
  const landing = landingOf(entries, faults);
  const downlink = new Downlink({
    connect: async () => landing,
    cursor: { read: async () => stored, write: async (cursor) => void written.push(cursor) },
    deliver: async ({ payload }) => void delivered.push(new TextDecoder().decode(payload)),
    log,
    metrics,
  });
  const running = downlink.run();
  const stop = async () => {
    downlink.stop();
    await running;
  };
  return { delivered, written, metrics, downlink, stop };
}

test("carries commands out in order from the stored cursor on, each before its cursor is kept", async () => {
  const entries = ["a", "b", "c", "d"].map(command);
  const { delivered, written, downlink, stop } = run(entries, "1-0");
  await waitFor("the last command", () => written.length === 3);
  await stop();
  assert.deepEqual(delivered, ["b", "c", "d"]);
  assert.deepEqual(written, ["2-0", "3-0", "4-0"]);
  assert.equal(downlink.cursor, "4-0");
});

test("goes on behind what it has carried out when the connection breaks", async () => {
  const entries = ["a", "b", "c", "d"].map(command);
  const { delivered, written, stop } = run(entries, undefined, [2]);
  await waitFor("the last command", () => written.length === 4);
  await stop();
  assert.deepEqual(delivered, ["a", "b", "c", "d"]);
});

test("skips, and counts, a command that cannot be read", async () => {
  const { delivered, written, metrics, stop } = run([Buffer.from([9, 9]), command("b")], undefined);
  await waitFor("the last command", () => written.length === 2);
  await stop();
  assert.deepEqual(delivered, ["b"]);
  assert.match(metrics.text(), /sluice_downlink_commands_total\{result="invalid"\} 1/);
});

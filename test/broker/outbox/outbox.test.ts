import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "#contract/message";
import { Outbox } from "../../../broker/outbox/outbox.ts";
import { Store } from "../../../broker/store/store.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const FORWARDS = [
  { filter: "alarm/#", lane: "alarms", qos0: true },
  { filter: "noise/#", lane: "default", qos0: false },
  { filter: "meter/+", lane: "default", qos0: true },
];
const SETTINGS = {
  tail_seconds_max: 600,
  tail_bytes_max: 1_000,
  lanes: ["alarms", "default"].map((name) => ({
    name,
    bytes_max: 100_000,
    age_seconds_max: 0xffff_ffff,
    disk_free_bytes_min: 0,
    when_full: "reject" as const,
  })),
};

function messageOn(topic: string, qos: Message["qos"]): Message {
  return { topic, qos, payload: new Uint8Array(3), retain: false, takenAtMs: 1 };
}

test("the first rule that matches decides the lane, and whether QoS 0 goes up", async (t) => {
  const folder = temporaryFolder(t);
  const store = await Store.open(folder);
  const outbox = await Outbox.open({ store, settings: SETTINGS, forwards: FORWARDS, folder });
  t.after(async () => {
    await outbox.close();
    await store.close();
  });
  const take = (topic: string, qos: Message["qos"]) =>
    store.take(outbox.write(messageOn(topic, qos)), undefined);
  const held = () => outbox.status().map(({ lane, lastSeq }) => `${lane} ${lastSeq}`);

  await take("alarm/fire", 1);
  await take("alarm/fire", 0);
  assert.deepEqual(held(), ["alarms 2", "default 0"]);
  await take("noise/x", 0);
  assert.deepEqual(held(), ["alarms 2", "default 0"], "this rule leaves QoS 0 behind");
  await take("noise/x", 1);
  await take("meter/1", 0);
  assert.deepEqual(held(), ["alarms 2", "default 2"]);
  await take("meter/1/deep", 1);
  assert.deepEqual(held(), ["alarms 2", "default 2"], "no rule: it stays on the gateway");
});

test("a message that no rule forwards has nothing to write, at once", async (t) => {
  const folder = temporaryFolder(t);
  const store = await Store.open(folder);
  const outbox = await Outbox.open({ store, settings: SETTINGS, forwards: FORWARDS, folder });
  t.after(async () => {
    await outbox.close();
    await store.close();
  });
  assert.equal(outbox.write(messageOn("other", 2)), undefined);
  assert.equal(outbox.write(messageOn("noise/x", 0)), undefined);
  assert.equal(outbox.write(messageOn("meter/1", 0))?.sync, false);
  assert.equal(outbox.write(messageOn("meter/1", 1))?.sync, true);
});

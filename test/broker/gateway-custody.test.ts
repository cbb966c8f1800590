// gateway-custody.test: what is written together before a gateway acknowledges, or does a command.
// Path: test. Touches: a temporary folder.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SluiceError } from "#contract/errors";
import { decodeRecord, type Message } from "#contract/message";
import type { StoredSession } from "#contract/session";
import { Metrics } from "#runtime/metrics";
import { gatewayCustody } from "../../broker/gateway-custody.ts";
import { Outbox } from "../../broker/outbox/outbox.ts";
import { Store } from "../../broker/store/store.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const LANE = {
  ...{ name: "default", bytes_max: 100_000, age_seconds_max: 0xffff_ffff },
  ...{ disk_free_bytes_min: 0, when_full: "reject" as const },
};
const SESSION: StoredSession = {
  ...{ clientId: "kept", expirySeconds: 60, subscriptions: [], sentUpTo: 0 },
};
const QUEUES = [{ clientId: "kept", qos: 1 as const, retain: false, subscriptionIds: [] }];

function messageOn(topic: string, qos: Message["qos"] = 1): Message {
  return { topic, qos, payload: new Uint8Array(3), retain: false, takenAtMs: 1 };
}

/** Custody of a gateway that forwards all but what is on `local/…`, and counts its batches. */
async function open(t: TestContext) {
  const folder = temporaryFolder(t);
  const metrics = new Metrics();
  const store = await Store.open(folder, { metrics });
  const sessions = await store.sessions();
  await sessions.save(SESSION);
  const settings = { tail_seconds_max: 600, tail_bytes_max: 1_000, lanes: [LANE] };
  const forwards = [{ filter: "up/#", lane: "default", qos0: true }];
  const outbox = await Outbox.open({ store, settings, forwards, folder });
  t.after(async () => {
    await outbox.close();
    await store.close();
  });
  const lastCommand = store.cursor("last");
  const custody = gatewayCustody({ store, sessions, outbox, lastCommand, metrics });
  const before = () => metrics.total("sluice_store_batches_total");
  const batchesOf = async (work: Promise<unknown> | undefined) => {
    const sofar = before();
    await work;
    return before() - sofar;
  };
  const held = () => outbox.status().map(({ lastSeq }) => lastSeq);
  return { store, sessions, outbox, lastCommand, custody, batchesOf, held };
}

test("a command's id and what lasts of the command are one batch", async (t) => {
  const { sessions, lastCommand, custody, batchesOf } = await open(t);
  const taking = { message: messageOn("up/valve"), queues: QUEUES, command: "7-0" };
  assert.equal(await batchesOf(custody.take(taking)), 1);
  assert.equal(await lastCommand.read(), "7-0");
  assert.equal((await sessions.queue("kept").size()).count, 1);
});

test("a command's id is stored though nothing else of it lasts", async (t) => {
  const { lastCommand, custody, batchesOf } = await open(t);
  const taking = { message: messageOn("up/valve", 0), queues: [], command: "7-0" };
  assert.equal(await batchesOf(custody.take(taking)), 1);
  assert.equal(await lastCommand.read(), "7-0");
});

test("what came from the cloud does not go back there, what others say does", async (t) => {
  const { custody, held } = await open(t);
  await custody.take({ message: messageOn("up/valve"), queues: QUEUES, command: "7-0" });
  assert.deepEqual(held(), [0]);
  await custody.take({ message: messageOn("up/valve"), queues: QUEUES });
  assert.deepEqual(held(), [1]);
});

test("an answer and the id of its command are one batch, though no rule forwards the topic", async (t) => {
  const { outbox, lastCommand, custody, batchesOf } = await open(t);
  for (const [id, topic] of [["7-0", "up/answer"] as const, ["8-0", "local/answer"] as const]) {
    assert.equal(await batchesOf(custody.answer(messageOn(topic), id)), 1);
    assert.equal(await lastCommand.read(), id);
  }
  const run = await outbox.lanes[0]?.readAfter(0);
  const topics = run?.records.map(({ record }) => {
    const read = decodeRecord(record);
    return read.kind === "message" && read.message.topic;
  });
  assert.deepEqual(topics, ["up/answer", "local/answer"]);
});

test("a command whose id cannot be stored is not done, at QoS 0 either", async (t) => {
  const { store, custody } = await open(t);
  store.commit = async () => {
    throw new SluiceError("STORE_FAILED", "disk full");
  };
  const taking = { message: messageOn("up/valve", 0), queues: [] };
  const refused = { code: "STORE_FAILED" };
  await assert.rejects(Promise.resolve(custody.take({ ...taking, command: "7-0" })), refused);
  assert.equal(await custody.take(taking), "taken", "nothing was promised of other QoS 0");
});

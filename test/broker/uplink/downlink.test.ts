// downlink.test: commands are carried out in order, once, with their ids; or answered.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SluiceError } from "#contract/errors";
import { encodeGap, encodeMessage, type Message } from "#contract/message";
import { joinProperties, userProperty } from "#contract/properties";
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

interface RunOptions {
  readonly stored?: string;
  /** Reads that fail, counted from 1. */
  readonly faults?: number[];
  /** Tries to store that fail, counted from 1. */
  readonly storeFaults?: number[];
}

/** A downlink whose store is a variable. */
function run(t: TestContext, entries: Uint8Array[], options: RunOptions = {}) {
  const delivered: string[] = [];
  const messages: Message[] = [];
  const answers: Message[] = [];
  const written: string[] = [];
  const metrics = new Metrics();
  const landing = landingOf(entries, options.faults);
  let [stored, tries] = [options.stored, 0];
  const store = (id: string) => {
    tries += 1;
    if (options.storeFaults?.includes(tries)) throw new SluiceError("STORE_FAILED", "disk full");
    stored = id;
    written.push(id);
  };
  const downlink = new Downlink({
    urls: ["redis://landing"],
    connect: async () => landing,
    cursor: async () => stored,
    deliver: async (message, id) => {
      store(id);
      messages.push(message);
      delivered.push(new TextDecoder().decode(message.payload));
    },
    answer: async (message, id) => {
      store(id);
      answers.push(message);
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
  return { delivered, messages, answers, written, metrics, landing, downlink, stop };
}

const answerIn = ({ payload }: Message) => JSON.parse(new TextDecoder().decode(payload));

test("carries commands out in order from the stored cursor on, each before its cursor is kept", async (t) => {
  const entries = ["a", "b", "c", "d"].map((text) => command(text));
  const { delivered, written, downlink, stop } = run(t, entries, { stored: "1-0" });
  await waitFor("the last command", () => written.length === 3);
  await stop();
  assert.deepEqual(delivered, ["b", "c", "d"]);
  assert.deepEqual(written, ["2-0", "3-0", "4-0"]);
  assert.equal(downlink.cursor, "4-0");
});

test("goes on behind what it has carried out when the connection breaks", async (t) => {
  const entries = ["a", "b", "c", "d"].map((text) => command(text));
  const { delivered, written, stop } = run(t, entries, { faults: [2] });
  await waitFor("the last command", () => written.length === 4);
  await stop();
  assert.deepEqual(delivered, ["a", "b", "c", "d"]);
});

test("answers, and counts, a command that cannot be carried out, and goes on", async (t) => {
  const { delivered, answers, written, metrics, stop } = run(t, [
    Buffer.from([9, 9]),
    command("b"),
    command("c", { topic: "a/#" }),
    command("d", { topic: "$SYS/broker/version" }),
    command("e", { properties: Uint8Array.of(9) }),
    encodeGap({ from: 1, to: 1, count: 1, reason: "x" }),
  ]);
  await waitFor("the last command", () => written.length === 6);
  await stop();
  assert.deepEqual(delivered, ["b"]);
  assert.match(metrics.text(), /sluice_downlink_commands_total\{result="invalid"\} 5/);
  assert.ok(answers.every(({ topic, qos }) => topic === "sluice/commands" && qos === 1));
  const topics = [null, "a/#", "$SYS/broker/version", "serial/x/set", null];
  assert.deepEqual(
    answers.map((it) => answerIn(it).topic),
    topics,
  );
  const { at, ...first } = answerIn(answers[0] as Message);
  const reason = "begins with 9, which no record does";
  assert.deepEqual(first, { id: "1-0", topic: null, result: "invalid", reason });
  assert.ok(Math.abs(Date.parse(at) - Date.now()) < 60_000);
});

test("tells a command's expiry by the gateway's clock, and passes its properties on", async (t) => {
  const properties = Uint8Array.of(1, 1);
  const { messages, written, stop } = run(t, [
    command("a", { expiresAtMs: LANDING_NOW_MS + 1, properties }),
  ]);
  await waitFor("the command", () => written.length === 1);
  await stop();
  assert.equal(messages[0]?.expiresAtMs, NOW_MS + 1);
  const id = userProperty("sluice-command", "1-0");
  assert.deepEqual(messages[0]?.properties, joinProperties([properties, id]));
});

test("names each command's id, whatever was said under that name", async (t) => {
  const [own, forged] = [userProperty("a", "1"), userProperty("sluice-command", "9-9")];
  const { messages, written } = run(t, [
    command("a"),
    command("b", { properties: joinProperties([forged, own, forged]) }),
  ]);
  await waitFor("the last command", () => written.length === 2);
  assert.deepEqual(messages[0]?.properties, userProperty("sluice-command", "1-0"));
  const named = joinProperties([own, userProperty("sluice-command", "2-0")]);
  assert.deepEqual(messages[1]?.properties, named);
});

test("answers where the request says, with its correlation data", async (t) => {
  const correlation = Uint8Array.of(9, 0, 2, 7, 8);
  const response = Uint8Array.of(8, 0, 3, ...new TextEncoder().encode("a/b"));
  const properties = joinProperties([correlation, response]);
  const { answers, written } = run(t, [
    command("a", { expiresAtMs: LANDING_NOW_MS - 900, properties }),
    command("b", { expiresAtMs: 1, properties: correlation }),
  ]);
  await waitFor("the last command", () => written.length === 2);
  const [first, second] = answers;
  assert.equal(first?.topic, "a/b");
  assert.deepEqual(first?.properties, correlation);
  const { at: _, ...told } = answerIn(first as Message);
  const expected = { id: "1-0", topic: "serial/x/set", result: "expired" };
  assert.deepEqual(told, { ...expected, reason: "it expired 1 s ago" });
  assert.equal(second?.topic, "sluice/commands");
  assert.equal(second?.properties, undefined, "nobody could tell whose it is");
});

test("carries out again what could not be stored, and nothing that was", async (t) => {
  const entries = ["a", "b", "c"].map((text) => command(text));
  const { delivered, written } = run(t, entries, { storeFaults: [2, 3] });
  await waitFor("the last command", () => written.length === 3);
  assert.deepEqual(delivered, ["a", "b", "c"]);
});

test("answers, and counts, commands that have expired, and goes on", async (t) => {
  const { delivered, answers, written, metrics, downlink, stop } = run(t, [
    command("a", { expiresAtMs: LANDING_NOW_MS }),
    command("b"),
    command("c", { expiresAtMs: 1 }),
  ]);
  await waitFor("the last command", () => written.length === 3);
  await stop();
  assert.deepEqual(delivered, ["b"]);
  assert.equal(downlink.cursor, "3-0");
  assert.equal(answers.length, 2);
  assert.match(metrics.text(), /sluice_downlink_commands_total\{result="expired"\} 2/);
  assert.match(metrics.text(), /sluice_downlink_commands_total\{result="done"\} 1/);
});

test("asks for the landing's time once for what it read, and only if that can expire", async (t) => {
  const expiring = command("x", { expiresAtMs: LANDING_NOW_MS + 60_000 });
  for (const [entry, timesAsked] of [[command("a"), 0] as const, [expiring, 1] as const]) {
    const { written, landing } = run(t, [entry, entry]);
    await waitFor("the last command", () => written.length === 2);
    assert.equal(landing.timesAsked, timesAsked);
  }
});

// telemetry.test: how messages leave a device: topics, times, and what a timer brings about.
// Path: test. Touches: nothing; the clock is mocked.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Publication } from "../../../firmware-bridge/devices/outgoing.ts";
import { Telemetry } from "../../../firmware-bridge/devices/telemetry.ts";
import type { Policy } from "../../../firmware-bridge/driver.ts";

function setUp(t: TestContext, policies: Readonly<Record<string, Policy>>) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const published: Publication[] = [];
  const channels: string[] = [];
  let nowMs = 0;
  const state = { hasRoom: true };
  const telemetry = new Telemetry({
    base: "serial/box/",
    tellsTime: true,
    policyOf: (channel) => policies[channel] ?? {},
    onChannel: (channel) => channels.push(channel),
    publish: (publication) => {
      published.push(publication);
      return undefined;
    },
    hasRoom: () => state.hasRoom,
    nowMs: () => nowMs,
  });
  t.after(() => telemetry.stop());
  return {
    telemetry,
    channels,
    state,
    take: (channel: string, text: string, receivedAtMs = 0) =>
      telemetry.take({ channel, payload: Buffer.from(text), receivedAtMs }),
    pass(ms: number) {
      for (let passed = 0; passed < ms; passed += 10) {
        nowMs += 10;
        t.mock.timers.tick(10);
      }
    },
    /** Since it was asked last, as `topic=payload`. */
    told: () =>
      published
        .splice(0)
        .map(({ topic, payload }) => `${topic}=${Buffer.from(payload)}`)
        .join(" "),
    published,
  };
}

test("gives each message its topic, its time, and retain where its policy says so", (t) => {
  const { take, published, channels } = setUp(t, { kept: { retain: true } });
  take("kept", "1", 1_700_000_000_123);
  take("other", "2", 1_700_000_000_123);
  take("other", "3", 1_700_000_000_124);
  const seen = published.map(({ topic, retain, properties }) => [
    topic,
    retain,
    properties?.userProperties?.["sluice-received"],
  ]);
  assert.deepEqual(seen, [
    ["serial/box/kept", true, "2023-11-14T22:13:20.123Z"],
    ["serial/box/other", false, "2023-11-14T22:13:20.123Z"],
    ["serial/box/other", false, "2023-11-14T22:13:20.124Z"],
  ]);
  assert.deepEqual(channels, ["kept", "other"]);
});

test("tells by one timer what several channels hold back, each at its time", (t) => {
  const { take, pass, told } = setUp(t, { a: { throttleMs: 1_000 }, b: { throttleMs: 200 } });
  for (const text of "123") take("a", text);
  for (const text of "456") take("b", text);
  assert.equal(told(), "serial/box/a=1 serial/box/b=4");
  pass(190);
  assert.equal(told(), "");
  pass(20);
  assert.equal(told(), "serial/box/b=6");
  pass(800);
  assert.equal(told(), "serial/box/a=3");
});

test("repeats the last value only while the device is there", (t) => {
  const { telemetry, take, pass, told } = setUp(t, { a: { heartbeatMs: 500 } });
  take("a", "1");
  pass(1_000);
  assert.equal(told(), "serial/box/a=1");
  telemetry.repeat(true);
  pass(600);
  assert.equal(told(), "serial/box/a=1 serial/box/a=1");
  telemetry.repeat(false);
  pass(2_000);
  assert.equal(told(), "");
});

test("brings nothing about while there is no room, and tells the newest when there is", (t) => {
  const policies = { a: { throttleMs: 100 }, b: { heartbeatMs: 100 } };
  const { telemetry, state, take, pass, told } = setUp(t, policies);
  telemetry.repeat(true);
  take("a", "1");
  take("b", "1");
  take("a", "2");
  told();
  state.hasRoom = false;
  pass(5_000);
  assert.equal(told(), "");
  state.hasRoom = true;
  pass(260);
  const texts = told();
  assert.ok(texts.includes("serial/box/a=2") && texts.includes("serial/box/b=1"), texts);
  assert.ok(texts.split(" ").length <= 4, texts);
});

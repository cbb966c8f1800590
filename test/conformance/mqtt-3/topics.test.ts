// topics.test: topic names, filters and how they match (MQTT 3.1.1 §4.7).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { assertCloses, payloads, publishOnce, subscriber } from "../support/exchanges.ts";
import { publishPacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

// Behind a root of the test's own, in which nothing else is published.
const TOPICS = ["", "/", "/a", "/a/", "/a/b", "/a//b", "/a/b/c", "//b", "/A", "/ab", "/a b"];
const MATCHES: Readonly<Record<string, readonly string[]>> = {
  "": [""],
  "/#": TOPICS,
  "/+": ["/", "/a", "/A", "/ab", "/a b"],
  "/+/+": ["/a/", "/a/b", "//b"],
  "/+/b": ["/a/b", "//b"],
  "/a": ["/a"],
  "/a/+": ["/a/", "/a/b"],
  "/a/#": ["/a", "/a/", "/a/b", "/a//b", "/a/b/c"],
  "/a/+/b": ["/a//b"],
  "/+/#": ["/", "/a", "/a/", "/a/b", "/a//b", "/a/b/c", "//b", "/A", "/ab", "/a b"],
  "/a/b/#": ["/a/b", "/a/b/c"],
  "//+": ["//b"],
  "/a b": ["/a b"],
};

for (const [filter, matching] of Object.entries(MATCHES)) {
  const expected = TOPICS.filter((topic) => matching.includes(topic));

  test(`[MQTT-3.8.3-2] [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-4] root${filter} brings what it matches, live`, async (t) => {
    const root = fresh("t");
    const client = await subscriber(t, broker, `${root}${filter}`);
    for (const topic of TOPICS) await client.publish(`${root}${topic}`, `at${topic}`);
    const messages = await client.take(expected.length);
    assert.deepEqual(
      payloads(messages),
      expected.map((topic) => `at${topic}`),
    );
    await client.nothing();
  });

  test(`[MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-4] root${filter} brings what it matches, retained`, async (t) => {
    const root = fresh("t");
    const publisher = await broker.connect(t);
    for (const topic of TOPICS) {
      await publisher.publish(`${root}${topic}`, `at${topic}`, { qos: 1, retain: true });
    }
    const client = await subscriber(t, broker, `${root}${filter}`, 1);
    const messages = await client.take(expected.length);
    assert.deepEqual(payloads(messages).sort(), expected.map((topic) => `at${topic}`).sort());
    await client.nothing();
    for (const topic of TOPICS) {
      await publisher.publish(`${root}${topic}`, "", { qos: 1, retain: true });
    }
  });

  test(`[MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-4] root${filter} queues what it matches`, async (t) => {
    const root = fresh("t");
    const kept = { clientId: fresh(), clean: false };
    const client = await subscriber(t, broker, `${root}${filter}`, 1, kept);
    await client.disconnect();
    const publisher = await broker.connect(t);
    for (const topic of TOPICS)
      await publisher.publish(`${root}${topic}`, `at${topic}`, { qos: 1 });
    const again = await broker.connect(t, kept);
    const messages = await again.take(expected.length);
    assert.deepEqual(
      payloads(messages),
      expected.map((topic) => `at${topic}`),
    );
    await again.nothing();
  });
}

test("[MQTT-4.7.2-1] wildcards at the front bring nothing whose topic begins with $", async (t) => {
  const level = fresh("t");
  const client = await broker.connect(t);
  const filters = ["#", "+/#", `+/${level}`, `$own/${level}/#`];
  await client.subscribe(filters.map((filter) => ({ filter })));
  const publisher = await broker.connect(t);
  await publisher.publish(`$own/${level}`, "1", { qos: 1 });
  await publisher.publish(`${level}/end`, level, { qos: 1 });
  const seen = [];
  for (
    let message = await client.next();
    message.payload !== level;
    message = await client.next()
  ) {
    if (message.name === "publish") seen.push([message.topic, message.payload]);
  }
  assert.deepEqual(
    seen.filter(([topic]) => topic?.startsWith("$")),
    [[`$own/${level}`, "1"]],
  );
});

test("[MQTT-4.7.2-1] wildcards at the front bring nothing retained whose topic begins with $", async (t) => {
  const level = fresh("t");
  await publishOnce(t, broker, `$own/${level}`, "1", { qos: 1, retain: true });
  const client = await subscriber(t, broker, `+/${level}`);
  await client.nothing();
  const { codes } = await client.subscribe(`$own/+`, 1);
  assert.deepEqual(codes, [1]);
  await client.expect("publish", { topic: `$own/${level}`, retain: true });
  await publishOnce(t, broker, `$own/${level}`, "", { qos: 1, retain: true });
});

test("[MQTT-4.7.3-1] a PUBLISH with an empty topic ends the connection", async (t) => {
  await assertCloses(t, broker, publishPacket({ topic: "", payload: "1" }));
  await assertCloses(t, broker, publishPacket({ topic: "", payload: "1", qos: 1 }));
});

test("[MQTT-4.7.3-3] the longest topic that there can be is delivered", async (t) => {
  const root = fresh("t");
  const client = await subscriber(t, broker, `${root}/+`);
  const topic = `${root}/`.padEnd(65_535, "x");
  await client.publish(topic, "1");
  await client.expect("publish", { topic, payload: "1" });
  await client.subscribe(topic, 1);
  await client.publish(topic, "2");
  await client.expect("publish", { topic, payload: "2" });
});

test("[MQTT-4.7.3-4] topics that Unicode holds for alike are not: nothing is normalised", async (t) => {
  const root = fresh("t");
  const composed = `${root}/\u00e9`;
  const decomposed = `${root}/e\u0301`;
  const client = await subscriber(t, broker, composed);
  await client.publish(decomposed, "decomposed");
  await client.publish(`${root}/\u00c9`, "capital");
  await client.publish(composed, "composed");
  await client.expect("publish", { topic: composed, payload: "composed" });
});

test("[MQTT-4.7.3-4] every character comes through as it was, in topic and filter", async (t) => {
  const root = fresh("t");
  const odd = ["\u{1f600}", " ", "*", "?", "[a]", "\\", "constructor", "__proto__", "\ufeff", "$a"];
  for (const level of odd) {
    const client = await subscriber(t, broker, `${root}/${level}`);
    await client.publish(`${root}/${level}`, "1");
    await client.expect("publish", { topic: `${root}/${level}`, payload: "1" });
    await client.disconnect();
  }
});

test("[MQTT-1.5.3-3] U+FEFF is part of a topic, and of a client id", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic);
  await client.publish(`\ufeff${topic}`, "other");
  await client.publish(topic, "1");
  await client.expect("publish", { topic, payload: "1" });
  const clientId = fresh();
  const plain = await broker.connect(t, { clientId });
  await broker.connect(t, { clientId: `\ufeff${clientId}` });
  await plain.ping();
});

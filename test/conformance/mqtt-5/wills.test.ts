// wills.test: will messages (MQTT 5.0 §3.1.2.5, §3.1.3.2): when, with what, and when not.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conformanceBroker } from "../support/broker.ts";
import {
  type ConnectOptions,
  disconnectPacket,
  subscribePacket,
  type WillOptions,
} from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5, nothingFrom } from "./clients.ts";

const broker = conformanceBroker();
const { connect, open } = mqtt5(broker);

type Scope = Parameters<typeof connect>[0];

/** A client with a will, and one that waits for it. */
async function withWill(
  t: Scope,
  will: Omit<WillOptions, "topic"> = {},
  options: ConnectOptions = {},
) {
  const topic = fresh("w");
  const watcher = await connect(t);
  await watcher.subscribe(topic, 2);
  const client = await connect(t, { ...options, will: { topic, payload: "gone", ...will } });
  return { topic, watcher, client };
}

const delayed = (willDelayInterval: number) => ({ properties: { willDelayInterval } });

for (const qos of [0, 1, 2] as const) {
  test(`[MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-12] a will of QoS ${qos} is published when the connection breaks`, async (t) => {
    const { topic, watcher, client } = await withWill(t, { qos });
    client.cut();
    const [message] = await watcher.take(1);
    assert.deepEqual(
      [message?.topic, message?.payload, message?.qos, message?.retain],
      [topic, "gone", qos, false],
    );
  });
}

for (const retain of [false, true]) {
  const clause = retain ? "[MQTT-3.1.2-15]" : "[MQTT-3.1.2-14]";
  test(`${clause} a will with retain ${Number(retain)} is ${retain ? "" : "not "}retained`, async (t) => {
    const { topic, watcher, client } = await withWill(t, { retain });
    client.cut();
    await watcher.expect("publish", { payload: "gone", retain: false });
    const later = await connect(t);
    await later.subscribe(topic);
    if (retain) await later.expect("publish", { payload: "gone", retain: true });
    await nothingFrom(watcher, later);
  });
}

test("[MQTT-3.1.2-9] [MQTT-3.1.3-1] [MQTT-3.1.3-10] a will is published with its properties, in their order, and without its delay", async (t) => {
  const properties = {
    payloadFormatIndicator: 1,
    contentType: "text/plain",
    responseTopic: "answer/here",
    correlationData: Buffer.from([0, 255, 1]),
    userProperty: [
      ["b", "1"],
      ["a", "2"],
      ["b", "1"],
      ["", ""],
    ] as const,
  };
  const will = { properties: { ...properties, willDelayInterval: 0, messageExpiryInterval: 100 } };
  const { watcher, client } = await withWill(t, will);
  client.cut();
  const { messageExpiryInterval, ...rest } = (await watcher.expect("publish")).properties;
  assert.deepEqual(rest, properties);
  assert.ok(Number(messageExpiryInterval) >= 98 && Number(messageExpiryInterval) <= 100);
});

test("[MQTT-3.1.2-7] a will may be empty, and of any bytes", async (t) => {
  for (const payload of ["", Buffer.from([0, 255, 254])]) {
    const { watcher, client } = await withWill(t, { payload });
    client.cut();
    assert.deepEqual(
      (await watcher.expect("publish")).payloadBytes,
      Buffer.from(payload as string),
    );
  }
});

test("[MQTT-3.14.4-3] [MQTT-3.1.2-10] DISCONNECT discards the will, with a delay too", async (t) => {
  for (const will of [{}, delayed(1)]) {
    const { watcher, client } = await withWill(t, will, kept(fresh()));
    await client.disconnect();
    await nothingFrom(await connect(t), watcher);
  }
});

test("[MQTT-3.14.4-3] a will is discarded by the DISCONNECT, not by the end of the connection that follows", async (t) => {
  const clientId = fresh();
  const { watcher, client } = await withWill(t, {}, kept(clientId));
  // It does not see that the broker closes, and so does not close itself.
  client.pause();
  client.sendDisconnect();
  await watcher.ping();
  const second = await connect(t, kept(clientId));
  await nothingFrom(second, watcher);
});

test("[MQTT-3.14.4-3] a will is discarded by a DISCONNECT right behind other packets, although the connection ends with it", async (t) => {
  for (let round = 0; round < 10; round += 1) {
    const { watcher, client } = await withWill(t, {}, kept(fresh()));
    client.send(
      subscribePacket({ packetId: 1, filters: [{ filter: "a" }] }, 5),
      disconnectPacket({}, 5),
    );
    client.cut();
    await nothingFrom(await connect(t), watcher);
  }
});

for (const code of [CODE.disconnectWithWill, CODE.unspecified, 0x97]) {
  test(`[MQTT-3.1.2-8] DISCONNECT with 0x${code.toString(16)} publishes the will`, async (t) => {
    const { watcher, client } = await withWill(t);
    await client.disconnect({ code });
    await watcher.expect("publish", { payload: "gone" });
  });
}

test("[MQTT-3.1.2-8] a client that is ended for an error has its will published", async (t) => {
  const { watcher, client } = await withWill(t);
  client.sendPublish({ topic: "a", qos: 3 });
  await ended(client, CODE.malformedPacket);
  await watcher.expect("publish", { payload: "gone" });
});

test("[MQTT-3.1.2-10] a will is published once", async (t) => {
  const clientId = fresh();
  const { watcher, client } = await withWill(t, {}, kept(clientId));
  client.cut();
  await watcher.expect("publish", { payload: "gone" });
  const second = await connect(t, kept(clientId));
  second.cut();
  const third = await connect(t, kept(clientId));
  await nothingFrom(third, watcher);
});

test("[MQTT-3.1.2-7] each CONNECT brings its own will", async (t) => {
  const clientId = fresh();
  const { topic, watcher, client } = await withWill(t, {}, kept(clientId));
  await client.disconnect();
  const second = await connect(t, { ...kept(clientId), will: { topic, payload: "second" } });
  second.cut();
  await watcher.expect("publish", { payload: "second" });
});

// §3.1.3.2.2: what becomes of the will of a connection that another one with the same client id ends.
const TAKEOVERS = [
  { clean: false, delaySeconds: 0, isSent: true },
  { clean: true, delaySeconds: 0, isSent: true },
  { clean: true, delaySeconds: 100, isSent: true },
  { clean: false, delaySeconds: 100, isSent: false },
] as const;

for (const { clean, delaySeconds, isSent } of TAKEOVERS) {
  const clause = isSent ? "[MQTT-3.1.2-8]" : "[MQTT-3.1.3-9]";
  test(`${clause} a take-over with Clean Start ${Number(clean)} ${isSent ? "publishes" : "withdraws"} a will with a delay of ${delaySeconds} s`, async (t) => {
    const clientId = fresh();
    const { watcher, client } = await withWill(t, delayed(delaySeconds), kept(clientId));
    const second = await connect(t, { ...kept(clientId), clean });
    await ended(client, CODE.sessionTakenOver);
    if (isSent) await watcher.expect("publish", { payload: "gone" });
    await nothingFrom(second, watcher);
  });
}

test("[MQTT-3.1.2-8] a delayed will is published at once when the session ends with the connection", async (t) => {
  const { watcher, client } = await withWill(t, delayed(100));
  client.cut();
  await watcher.expect("publish", { payload: "gone" });
});

test("[MQTT-3.1.2-8] a delayed will is published when Clean Start ends the session that waited", async (t) => {
  const clientId = fresh();
  const { watcher, client } = await withWill(t, delayed(100), kept(clientId));
  client.cut();
  await connect(t, { clientId, clean: true });
  await watcher.expect("publish", { payload: "gone" });
});

test("[MQTT-3.1.2-8] a delayed will is published when DISCONNECT ends the session without discarding it", async (t) => {
  const { watcher, client } = await withWill(t, delayed(100), kept(fresh()));
  const properties = { sessionExpiryInterval: 0 };
  await client.disconnect({ code: CODE.disconnectWithWill, properties });
  await watcher.expect("publish", { payload: "gone" });
});

suite("by the clock", { concurrency: true }, () => {
  test("[MQTT-3.1.2-8] a will waits for its delay", async (t) => {
    const { watcher, client } = await withWill(t, delayed(1), kept(fresh()));
    client.cut();
    const beganMs = performance.now();
    await watcher.expect("publish", { payload: "gone", properties: {} });
    const tookMs = performance.now() - beganMs;
    assert.ok(tookMs > 900 && tookMs < 3_000, `${tookMs} ms`);
  });

  test("[MQTT-3.1.2-8] a will does not wait longer than its session lasts", async (t) => {
    const { watcher, client } = await withWill(t, delayed(100), kept(fresh(), 1));
    client.cut();
    const beganMs = performance.now();
    await watcher.expect("publish", { payload: "gone" });
    const tookMs = performance.now() - beganMs;
    assert.ok(tookMs > 900 && tookMs < 3_000, `${tookMs} ms`);
  });

  test("[MQTT-3.1.3-9] a client that returns within the delay withdraws its will", async (t) => {
    const clientId = fresh();
    const { watcher, client } = await withWill(t, delayed(1), kept(clientId));
    client.cut();
    const second = await connect(t, kept(clientId));
    assert.equal(second.connack.sessionPresent, true);
    await sleep(2_000);
    await nothingFrom(second, watcher);
  });

  test("[MQTT-3.1.2-8] DISCONNECT with 0x04 publishes the will after its delay", async (t) => {
    const { watcher, client } = await withWill(t, delayed(1), kept(fresh()));
    const beganMs = performance.now();
    await client.disconnect({ code: CODE.disconnectWithWill });
    await watcher.expect("publish", { payload: "gone" });
    assert.ok(performance.now() - beganMs > 900);
  });

  test("[MQTT-3.1.2-8] [MQTT-3.1.2-22] a client that is silent for too long has its will published", async (t) => {
    const { watcher, client } = await withWill(t, {}, { keepAlive: 1 });
    await ended(client, CODE.keepAliveTimeout);
    await watcher.expect("publish", { payload: "gone" });
  });

  test("[MQTT-3.3.2-5] a will's expiry counts from its publication", async (t) => {
    const will = { properties: { willDelayInterval: 1, messageExpiryInterval: 2 } };
    const { watcher, client } = await withWill(t, will, kept(fresh()));
    client.cut();
    const { properties } = await watcher.expect("publish", { payload: "gone" });
    assert.deepEqual(properties, { messageExpiryInterval: 2 });
  });
});

for (const topic of ["", "a/#", "+/a", "a+"]) {
  test(`[MQTT-3.3.2-2] [MQTT-4.7.3-1] the will topic "${topic}" is refused`, async (t) => {
    const client = await open(t);
    client.sendConnect({ clientId: fresh(), will: { topic } });
    const [connack] = await client.closed();
    if (!connack) return;
    const allowed: number[] = [CODE.malformedPacket, CODE.protocolError, CODE.topicNameInvalid];
    assert.deepEqual([connack.name, allowed.includes(connack.code)], ["connack", true]);
  });
}

test("[MQTT-3.1.2-7] [MQTT-3.1.2-8] wills outlive the broker: those of the connected, and those whose delay runs", async (t) => {
  const topics = [fresh("w"), fresh("w"), fresh("w"), fresh("w")];
  const properties = { contentType: "c", userProperty: [["k", "v"]] as const };
  const willOf = (at: number, willDelayInterval: number) => ({
    ...{ topic: String(topics[at]), payload: "gone", qos: 1, retain: true },
    properties: { ...properties, willDelayInterval },
  });
  await connect(t, { will: willOf(0, 0) });
  await connect(t, { ...kept(fresh()), will: willOf(1, 1) });
  const delayedOne = await connect(t, { ...kept(fresh()), will: willOf(2, 1) });
  delayedOne.cut();
  const discarded = await connect(t, { ...kept(fresh()), will: willOf(3, 0) });
  await discarded.disconnect();
  await connect(t);
  await broker.restart();
  const watcher = await connect(t);
  await watcher.subscribe(topics.map((filter) => ({ filter, qos: 1 })));
  const seen = await watcher.take(3, 10_000);
  assert.deepEqual(seen.map(({ topic }) => topic).sort(), topics.slice(0, 3).sort());
  for (const message of seen) assert.deepEqual(message.properties, properties);
  await nothingFrom(await connect(t), watcher);
});

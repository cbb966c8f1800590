// sessions.test: Clean Start, Session Expiry Interval, Session Present (MQTT 5.0 §3.1.2.4, §3.1.2.11.2, §4.1).
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conformanceBroker } from "../support/broker.ts";
import type { ConnectOptions } from "../support/wire-build.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5, NEVER, nothingFrom } from "./clients.ts";

const broker = conformanceBroker();
const { connect } = mqtt5(broker);

type Scope = Parameters<typeof connect>[0];

/** Whether there is a session under that id, without making one that stays. */
async function isThere(t: Scope, clientId: string): Promise<boolean> {
  const client = await connect(t, { clientId, clean: false });
  return client.connack.sessionPresent;
}

test("[MQTT-3.1.2-6] [MQTT-3.2.2-3] without a session there is none present, with and without Clean Start", async (t) => {
  for (const clean of [true, false]) {
    assert.equal((await connect(t, { clean })).connack.sessionPresent, false);
  }
});

test("[MQTT-3.1.2-5] [MQTT-3.2.2-3] [MQTT-4.5.0-1] a session is resumed with its subscriptions and what was said meanwhile", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 2);
  await first.disconnect();
  const sent = [1, 2, 1, 2, 1].map((qos, at) => [`${at}`, qos] as const);
  for (const [payload, qos] of sent) await publisher.publish(topic, payload, { qos });
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  const messages = await second.take(sent.length);
  assert.deepEqual(
    messages.map(({ payload, qos, dup }) => [payload, qos, dup]),
    sent.map(([payload, qos]) => [payload, qos, false]),
  );
  await publisher.publish(topic, "live", { qos: 1 });
  await second.expect("publish", { payload: "live" });
});

test("[MQTT-3.2.2-3] a session without subscriptions is present, too", async (t) => {
  const clientId = fresh();
  await (await connect(t, kept(clientId))).disconnect();
  assert.equal(await isThere(t, clientId), true);
});

test("[MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT-3.2.2-2] Clean Start discards subscriptions and messages", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 1);
  await first.disconnect();
  await publisher.publish(topic, "1", { qos: 1 });
  const second = await connect(t, { ...kept(clientId), clean: true });
  assert.equal(second.connack.sessionPresent, false);
  await publisher.publish(topic, "2", { qos: 1 });
  await nothingFrom(publisher, second);
  await second.disconnect();
  const third = await connect(t, kept(clientId));
  assert.equal(third.connack.sessionPresent, true);
  await nothingFrom(publisher, third);
});

test("[MQTT-3.1.2-4] Clean Start discards what was unacknowledged in both directions", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 2);
  await publisher.publish(topic, "1", { qos: 1 });
  await first.expect("publish");
  first.sendPublish({ topic, qos: 2, packetId: 7 });
  const came = [await first.next(), await first.next()].map(({ name }) => name);
  assert.deepEqual(came.sort(), ["publish", "pubrec"]);
  first.cut();
  const second = await connect(t, { ...kept(clientId), clean: true });
  await second.nothing();
  second.sendPubrel({ packetId: 7 });
  await second.expect("pubcomp", { packetId: 7, code: CODE.packetIdentifierNotFound });
});

const ENDS: readonly (readonly [name: string, end: (client: WireClient) => Promise<void>])[] = [
  ["DISCONNECT", (client) => client.disconnect()],
  ["a broken connection", async (client) => client.cut()],
];

for (const [how, end] of ENDS) {
  for (const expiry of [undefined, 0, 100, 0x7fff_ffff, NEVER]) {
    for (const clean of [true, false]) {
      const isKept = expiry !== undefined && expiry > 0;
      test(`[MQTT-3.1.2-23] [MQTT-4.1.0-2] expiry ${expiry}, Clean Start ${Number(clean)}: the session ${isKept ? "outlives" : "ends with"} ${how}`, async (t) => {
        const clientId = fresh();
        const options: ConnectOptions =
          expiry === undefined ? { clientId, clean } : { ...kept(clientId, expiry), clean };
        const client = await connect(t, options);
        await client.subscribe(fresh("t"), 1);
        await end(client);
        // A broken connection is noticed by then, or ended by the take-over.
        assert.equal(await isThere(t, clientId), isKept);
      });
    }
  }
}

test("[MQTT-3.1.3-2] client ids name sessions exactly: none reaches another's", async (t) => {
  const stem = fresh();
  const ids = [
    stem,
    `${stem}/a`,
    `${stem}!`,
    `${stem}:a`,
    stem.toUpperCase(),
    `${stem} `,
    `\ufeff${stem}`,
  ];
  const publisher = await connect(t);
  for (const [at, clientId] of ids.entries()) {
    const client = await connect(t, kept(clientId));
    assert.equal(client.connack.sessionPresent, false, clientId);
    await client.subscribe(`${stem}/${at}`, 1);
    await client.disconnect();
  }
  for (const at of ids.keys()) await publisher.publish(`${stem}/${at}`, `${at}`, { qos: 1 });
  for (const [at, clientId] of ids.entries()) {
    const client = await connect(t, kept(clientId));
    await client.expect("publish", { topic: `${stem}/${at}` });
    await nothingFrom(publisher, client);
  }
});

test("[MQTT-3.1.2-5] [MQTT-4.1.0-1] a session outlives the take-over of its connection", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [
    await connect(t),
    await connect(t, { ...kept(clientId), clean: true }),
  ];
  await first.subscribe(topic, 1);
  await publisher.publish(topic, "1", { qos: 1 });
  const { packetId } = await first.expect("publish");
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  await second.expect("publish", { packetId, payload: "1", dup: true });
});

test("[MQTT-4.1.0-2] a session without expiry ends with the take-over of its connection", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, { clientId })];
  await first.subscribe(topic, 1);
  const second = await connect(t, { clientId, clean: false });
  assert.equal(second.connack.sessionPresent, false);
  await publisher.publish(topic, "1", { qos: 1 });
  await nothingFrom(publisher, second);
});

test("[MQTT-3.1.2-23] each CONNECT sets the expiry anew", async (t) => {
  const clientId = fresh();
  await (await connect(t, kept(clientId))).disconnect();
  const second = await connect(t, { clientId, clean: false });
  assert.equal(second.connack.sessionPresent, true);
  await second.disconnect();
  assert.equal(await isThere(t, clientId), false);
});

test("[MQTT-3.1.2-5] [MQTT-4.1.0-1] a session that is resumed without expiry is whole until the connection ends", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(topic, 2);
  await publisher.publish(topic, "sent", { qos: 1 });
  const { packetId } = await first.expect("publish");
  first.cut();
  await first.closed();
  for (const qos of [1, 2]) await publisher.publish(topic, `${qos}`, { qos });
  const second = await connect(t, { clientId, clean: false });
  assert.equal(second.connack.sessionPresent, true);
  await second.expect("publish", { packetId, payload: "sent", dup: true });
  second.sendPuback({ packetId });
  const waited = await second.take(2);
  assert.deepEqual(
    waited.map(({ payload }) => payload),
    ["1", "2"],
  );
  await publisher.publish(topic, "live", { qos: 2 });
  await second.take(1);
  await second.disconnect();
  assert.equal(await isThere(t, clientId), false);
});

test("[MQTT-3.1.2-23] DISCONNECT can end the session by an expiry of 0 (§3.14.2.2.2)", async (t) => {
  const clientId = fresh();
  const client = await connect(t, kept(clientId));
  await client.disconnect({ properties: { sessionExpiryInterval: 0 } });
  assert.equal(await isThere(t, clientId), false);
});

test("[MQTT-4.13.1-1] DISCONNECT cannot give a session without expiry one (§3.14.2.2.2)", async (t) => {
  const clientId = fresh();
  const client = await connect(t, { clientId });
  client.sendDisconnect({ properties: { sessionExpiryInterval: 100 } });
  await ended(client, CODE.protocolError);
  assert.equal(await isThere(t, clientId), false);
});

test("[MQTT-3.1.2-23] DISCONNECT without an expiry leaves that of CONNECT", async (t) => {
  const clientId = fresh();
  const client = await connect(t, kept(clientId));
  await client.disconnect({ code: 0, properties: {} });
  assert.equal(await isThere(t, clientId), true);
});

suite("by the clock", { concurrency: true }, () => {
  test("[MQTT-4.1.0-2] a session is gone when its expiry has passed, with its subscriptions", async (t) => {
    const clientId = fresh();
    const topic = fresh("t");
    const [publisher, first] = [await connect(t), await connect(t, kept(clientId, 1))];
    await first.subscribe(topic, 1);
    await first.disconnect();
    await publisher.publish(topic, "1", { qos: 1 });
    await sleep(2_100);
    const second = await connect(t, kept(clientId));
    assert.equal(second.connack.sessionPresent, false);
    await publisher.publish(topic, "2", { qos: 1 });
    await nothingFrom(publisher, second);
  });

  test("[MQTT-4.1.0-1] the expiry does not run while the client is connected, and begins anew", async (t) => {
    const clientId = fresh();
    const first = await connect(t, kept(clientId, 2));
    await sleep(2_500);
    await first.disconnect();
    await sleep(1_000);
    const second = await connect(t, kept(clientId, 2));
    assert.equal(second.connack.sessionPresent, true);
    await sleep(1_500);
    await second.disconnect();
    await sleep(1_000);
    assert.equal(await isThere(t, clientId), true);
  });

  test("[MQTT-3.1.2-23] DISCONNECT can make the expiry longer and shorter (§3.14.2.2.2)", async (t) => {
    const [longer, shorter] = [fresh(), fresh()];
    const clients = [await connect(t, kept(longer, 1)), await connect(t, kept(shorter, 100))];
    for (const [at, sessionExpiryInterval] of [100, 1].entries()) {
      await clients[at]?.disconnect({ properties: { sessionExpiryInterval } });
    }
    await sleep(2_100);
    assert.equal(await isThere(t, longer), true);
    assert.equal(await isThere(t, shorter), false);
  });

  test("[MQTT-4.1.0-2] the expiry counts from the end of a broken connection, too", async (t) => {
    const clientId = fresh();
    const client = await connect(t, kept(clientId, 1));
    client.cut();
    await sleep(2_100);
    assert.equal(await isThere(t, clientId), false);
  });
});

test("[MQTT-4.1.0-2] the expiry runs while the broker is down", async (t) => {
  const [short, long] = [fresh(), fresh()];
  for (const [clientId, seconds] of [
    [short, 2],
    [long, 100],
  ] as const) {
    await (await connect(t, kept(clientId, seconds))).disconnect();
  }
  const ended = performance.now();
  await broker.restart();
  await sleep(Math.max(0, 2_500 - (performance.now() - ended)));
  assert.equal(await isThere(t, short), false);
  assert.equal(await isThere(t, long), true);
});

test("[MQTT-3.1.2-5] [MQTT-4.5.0-1] a session outlives the broker: subscriptions with their options and identifiers, messages in order", async (t) => {
  const clientId = fresh();
  const level = fresh("t");
  const first = await connect(t, kept(clientId));
  const properties = { subscriptionIdentifier: [42] };
  await first.subscribe([{ filter: `${level}/+`, qos: 2, noLocal: true }], 0, { properties });
  await first.subscribe([{ filter: `${level}/#`, qos: 1, retainAsPublished: true }]);
  await first.disconnect();
  const publisher = await connect(t);
  for (const qos of [1, 2]) await publisher.publish(`${level}/a`, `${qos}`, { qos });
  await broker.restart();
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  const queued = await second.take(2);
  assert.deepEqual(
    queued.map((message) => [message.payload, message.qos, message.properties]),
    [
      ["1", 1, properties],
      ["2", 2, properties],
    ],
  );
  const later = await connect(t);
  await later.publish(`${level}/a/b`, "deep", { qos: 2, retain: true });
  await second.expect("publish", { payload: "deep", qos: 1, retain: true, properties: {} });
  await second.publish(`${level}/a`, "own", { qos: 0 });
  // The subscription without No Local brings it, without the other one's identifier.
  await second.expect("publish", { payload: "own", properties: {} });
});

test("[MQTT-3.1.2-23] [MQTT-4.5.0-1] what was acknowledged right before the broker's end counts after it: CONNECT, SUBSCRIBE, UNSUBSCRIBE, PUBLISH", async (t) => {
  const [clientId, bare] = [fresh(), fresh()];
  const [stays, goes] = [fresh("t"), fresh("t")];
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe([
    { filter: stays, qos: 1 },
    { filter: goes, qos: 1 },
  ]);
  await publisher.publish(stays, "before", { qos: 1 });
  await first.expect("publish");
  await first.unsubscribe(goes);
  await connect(t, kept(bare));
  await broker.restart();
  assert.equal(await isThere(t, bare), true);
  const later = await connect(t);
  for (const topic of [goes, stays]) await later.publish(topic, "after", { qos: 1 });
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  const messages = await second.take(2);
  assert.deepEqual(
    messages.map(({ topic, payload }) => [topic, payload]),
    [
      [stays, "before"],
      [stays, "after"],
    ],
  );
  await nothingFrom(later, second);
});

test("[MQTT-4.1.0-2] a session that ended before the broker did is not there after", async (t) => {
  const [gone, cleaned] = [fresh(), fresh()];
  const client = await connect(t, kept(gone));
  await client.disconnect({ properties: { sessionExpiryInterval: 0 } });
  await (await connect(t, kept(cleaned))).disconnect();
  await (await connect(t, { clientId: cleaned, clean: true })).disconnect();
  await broker.restart();
  for (const clientId of [gone, cleaned]) assert.equal(await isThere(t, clientId), false);
});

// subscribe.test: SUBSCRIBE and SUBACK (MQTT 5.0 §3.8, §3.9): filters, options, identifiers.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import type { FilterOptions } from "../support/wire-build.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5, nothingFrom, WRONG } from "./clients.ts";

const { connect } = mqtt5(conformanceBroker());
const narrow = mqtt5(conformanceBroker({ limits: { subscriptions_per_client_max: 3 } }));

test("[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.2.1-6] SUBSCRIBE is answered by a SUBACK with its packet id", async (t) => {
  const client = await connect(t);
  for (const packetId of [1, 65_535, 256]) {
    client.sendSubscribe({ packetId, filters: [{ filter: "a" }] });
    await client.expect("suback", { packetId });
  }
});

test("[MQTT-2.2.1-3] SUBSCRIBE with the packet id 0 is refused", async (t) => {
  const client = await connect(t);
  client.sendSubscribe({ packetId: 0, filters: [{ filter: "a" }] });
  await ended(client, ...WRONG);
});

test("[MQTT-3.8.3-2] SUBSCRIBE without a filter is a protocol error", async (t) => {
  const client = await connect(t);
  client.sendSubscribe({ filters: [] });
  await ended(client, ...WRONG);
});

test("[MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] SUBACK has the granted QoS of each filter, in order, repeats too", async (t) => {
  const client = await connect(t);
  const [a, b] = [fresh("t"), fresh("t")];
  const filters = [2, 0, 1, 2].map((qos, at) => ({ filter: at % 2 ? a : b, qos }));
  const { codes } = await client.subscribe(filters);
  assert.deepEqual(codes, [2, 0, 1, 2]);
});

test("[MQTT-3.8.4-5] several filters in one SUBSCRIBE count like one after the other", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const [a, b] = [fresh("t"), fresh("t")];
  await subscriber.subscribe([
    { filter: a, qos: 2 },
    { filter: b, qos: 1 },
    { filter: a, qos: 0 },
  ]);
  await publisher.publish(a, "1", { qos: 2 });
  await publisher.publish(b, "1", { qos: 2 });
  await subscriber.expect("publish", { topic: a, qos: 0 });
  await subscriber.expect("publish", { topic: b, qos: 1 });
  await nothingFrom(publisher, subscriber);
});

test("[MQTT-3.8.3-5] reserved bits in the options are malformed", async (t) => {
  for (const byte of [0x40, 0x80, 0xc0, 0x41]) {
    const client = await connect(t);
    client.sendSubscribe({ filters: [{ filter: "a", byte }] });
    await ended(client, CODE.malformedPacket);
  }
});

for (const [name, byte] of [
  ["QoS 3", 0x03],
  ["Retain Handling 3", 0x30],
] as const) {
  test(`[MQTT-4.13.1-1] ${name} in the options is a protocol error (§3.8.3.1)`, async (t) => {
    const client = await connect(t);
    client.sendSubscribe({ filters: [{ filter: "a" }, { filter: "b", byte }] });
    await ended(client, ...WRONG);
  });
}

for (const filter of ["", "a#", "#/a", "a/#/b", "##", "a+", "+a", "a/+b", "++", "a/b+/c"]) {
  test(`[MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] the filter "${filter}" is not granted`, async (t) => {
    const client = await connect(t);
    const good = fresh("t");
    client.sendSubscribe({ filters: [{ filter }, { filter: good, qos: 1 }] });
    const answer = await client.next();
    if (answer.name === "disconnect") {
      assert.ok([CODE.topicFilterInvalid, ...WRONG].some((code) => code === answer.code));
      return;
    }
    assert.equal(answer.name, "suback");
    // One refused filter takes nothing from the others.
    assert.deepEqual(answer.codes, [CODE.topicFilterInvalid, 1]);
    await (await connect(t)).publish(good, "1", { qos: 1 });
    await client.expect("publish", { topic: good });
  });
}

for (const published of [0, 1, 2]) {
  for (const granted of [0, 1, 2]) {
    const least = Math.min(published, granted) as 0 | 1 | 2;
    test(`[MQTT-3.8.4-8] published with QoS ${published}, granted ${granted}: delivered with ${least}, by any filter, live and retained`, async (t) => {
      const [publisher, subscriber, later] = [await connect(t), await connect(t), await connect(t)];
      const [level, leaf] = [fresh("t"), fresh("t")];
      const topic = `${level}/${leaf}`;
      for (const filter of [topic, `${level}/+`, `${level}/#`, `+/${leaf}`]) {
        await subscriber.subscribe(filter, granted);
        await publisher.publish(topic, "1", { qos: published, retain: true });
        const [message] = await subscriber.take(1);
        assert.equal(message?.qos, least);
        await subscriber.unsubscribe(filter);
        await publisher.publish(topic, "", { qos: 1, retain: true });
      }
      await publisher.publish(topic, "1", { qos: published, retain: true });
      await publisher.ping();
      await later.subscribe(`${level}/+`, granted);
      await later.expect("publish", { qos: least, retain: true });
    });
  }
}

test("[MQTT-3.3.4-2] overlapping subscriptions bring a message once, with the highest of their QoS", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const [level, leaf] = [fresh("t"), fresh("t")];
  await subscriber.subscribe([
    { filter: `${level}/#`, qos: 0 },
    { filter: `${level}/${leaf}`, qos: 2 },
    { filter: `+/${leaf}`, qos: 1 },
  ]);
  for (const qos of [2, 1, 0] as const) {
    await publisher.publish(`${level}/${leaf}`, `${qos}`, { qos });
    const [message] = await subscriber.take(1);
    assert.deepEqual([message?.payload, message?.qos], [`${qos}`, qos]);
  }
  await nothingFrom(publisher, subscriber);
});

test("[MQTT-3.3.4-3] [MQTT-3.3.4-4] one copy names the identifiers of all subscriptions that match and have one", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const [level, leaf] = [fresh("t"), fresh("t")];
  await subscribeAs(subscriber, 268_435_455, `${level}/${leaf}`);
  await subscribeAs(subscriber, 1, `${level}/#`);
  await subscribeAs(subscriber, 2, `${level}/b`);
  await subscriber.subscribe(`+/${leaf}`, 1);
  await publisher.publish(`${level}/${leaf}`, "1", { qos: 1 });
  assert.deepEqual(
    idsOf(await subscriber.expect("publish", { topic: `${level}/${leaf}` })),
    [1, 268_435_455],
  );
  await nothingFrom(publisher, subscriber);
});

test("[MQTT-3.3.4-3] an identifier counts for all filters of its SUBSCRIBE", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const [a, b] = [fresh("t"), fresh("t")];
  await subscribeAs(subscriber, 77, a, b);
  for (const topic of [a, b]) {
    await publisher.publish(topic, "1");
    assert.deepEqual(idsOf(await subscriber.expect("publish", { topic })), [77]);
  }
});

test("[MQTT-3.3.4-4] subscriptions that share an identifier bring it once each (§3.8.2.1.2)", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = `${fresh("t")}/${fresh("t")}`;
  await subscribeAs(subscriber, 5, topic, `+/${topic.split("/")[1]}`);
  await publisher.publish(topic, "1");
  assert.deepEqual(idsOf(await subscriber.expect("publish", { topic })), [5, 5]);
});

test("[MQTT-3.8.4-3] [MQTT-3.3.4-3] a new subscription to the same filter has the new identifier, or none", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  const came = async () => {
    await publisher.publish(topic, "1");
    return idsOf(await subscriber.expect("publish", { topic }));
  };
  await subscribeAs(subscriber, 1, topic);
  assert.deepEqual(await came(), [1]);
  await subscribeAs(subscriber, 2, topic);
  assert.deepEqual(await came(), [2]);
  await subscriber.subscribe(topic);
  assert.deepEqual(await came(), []);
  await nothingFrom(publisher, subscriber);
});

test("[MQTT-3.3.4-3] retained messages carry the identifier of the subscription that brings them", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await publisher.publish(topic, "1", { qos: 1, retain: true });
  await subscribeAs(subscriber, 5, topic);
  assert.deepEqual(idsOf(await subscriber.expect("publish", { topic, retain: true })), [5]);
});

test("[MQTT-3.3.4-3] messages from the session's queue carry the identifiers that matched", async (t) => {
  const clientId = fresh();
  const level = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe([{ filter: `${level}/a`, qos: 1 }], 0, identifier(3));
  await first.subscribe([{ filter: `${level}/+`, qos: 1 }], 0, identifier(4));
  await first.disconnect();
  for (const topic of ["a", "b"]) await publisher.publish(`${level}/${topic}`, "1", { qos: 1 });
  const second = await connect(t, kept(clientId));
  const messages = await second.take(2);
  assert.deepEqual(messages.map(idsOf), [[3, 4], [4]]);
});

test("[MQTT-3.3.4-3] [MQTT-3.8.4-8] each subscriber gets the same message in its own form", async (t) => {
  const topic = fresh("t");
  const publisher = await connect(t);
  const forms: readonly { filters: readonly FilterOptions[]; ids: readonly number[] }[] = [
    { filters: [{ filter: topic, qos: 0 }], ids: [] },
    { filters: [{ filter: topic, qos: 1, retainAsPublished: true }], ids: [1] },
    { filters: [{ filter: topic, qos: 2 }], ids: [2] },
    { filters: [{ filter: topic, qos: 1 }], ids: [300] },
    { filters: [{ filter: topic, qos: 1, retainAsPublished: true }], ids: [] },
  ];
  const subscribers: WireClient[] = [];
  for (const [at, { filters, ids }] of forms.entries()) {
    const client = await connect(t, at % 2 ? kept(fresh()) : {});
    await client.subscribe(filters, 0, ids[0] ? identifier(ids[0]) : {});
    subscribers.push(client);
  }
  const properties = { contentType: "c" };
  await publisher.publish(topic, "1", { qos: 2, retain: true, properties });
  for (const [at, { filters, ids }] of forms.entries()) {
    const [message] = (await subscribers[at]?.take(1)) ?? [];
    assert.ok(message);
    const { qos, retain, payload } = message;
    const [asked] = filters;
    const expected = [asked?.qos, asked?.retainAsPublished ?? false, "1", ids, "c"];
    assert.deepEqual(
      [qos, retain, payload, idsOf(message), message.properties.contentType],
      expected,
    );
  }
});

test("[MQTT-3.8.3-3] No Local keeps a client's own messages from it and no others", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe([{ filter: topic, qos: 2, noLocal: true }]);
  for (const qos of [0, 1, 2]) await subscriber.publish(topic, "own", { qos });
  await nothingFrom(subscriber, subscriber);
  await publisher.publish(topic, "other", { qos: 1 });
  await subscriber.expect("publish", { payload: "other" });
});

test("[MQTT-3.8.3-3] No Local keeps a client's own retained messages from it, too", async (t) => {
  const { publisher, subscriber, topic } = await retained(t);
  const own = fresh("t");
  await subscriber.publish(own, "own", { qos: 1, retain: true });
  await subscriber.subscribe([
    { filter: own, noLocal: true },
    { filter: topic, noLocal: true },
  ]);
  await subscriber.expect("publish", { topic, retain: true });
  await nothingFrom(publisher, subscriber);
});

test("[MQTT-3.8.3-3] a subscription without No Local beside one with it brings a client's own messages", async (t) => {
  const client = await connect(t);
  const topic = `${fresh("t")}/${fresh("t")}`;
  await subscribeAs(client, 1, `+/${topic.split("/")[1]}`);
  await client.subscribe([{ filter: topic, qos: 1, noLocal: true }], 0, identifier(2));
  client.sendPublish({ topic, payload: "own" });
  assert.deepEqual(idsOf(await client.expect("publish", { topic, payload: "own", qos: 0 })), [1]);
  await nothingFrom(client, client);
});

test("[MQTT-3.8.3-3] without No Local a client gets its own messages", async (t) => {
  const client = await connect(t);
  const topic = fresh("t");
  await client.subscribe(topic);
  client.sendPublish({ topic, payload: "own" });
  await client.expect("publish", { topic, payload: "own" });
});

test("[MQTT-3.8.3-3] No Local holds for the client id over connections, also in the queue", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const first = await connect(t, kept(clientId));
  await first.subscribe([{ filter: topic, qos: 1, noLocal: true }]);
  await first.disconnect();
  const second = await connect(t, kept(clientId));
  await second.publish(topic, "own", { qos: 1 });
  await nothingFrom(second, second);
  await second.disconnect();
  const third = await connect(t, kept(clientId));
  await nothingFrom(third, third);
});

test("[MQTT-3.8.3-4] No Local on a shared subscription is a protocol error", async (t) => {
  const client = await connect(t);
  client.sendSubscribe({ filters: [{ filter: "$share/g/a", noLocal: true }] });
  await ended(client, CODE.protocolError);
});

test("[MQTT-3.3.1-9] Retain Handling 0 sends what is retained with every SUBSCRIBE", async (t) => {
  const { subscriber, topic } = await retained(t);
  for (let round = 0; round < 2; round += 1) {
    await subscriber.subscribe([{ filter: topic, retainHandling: 0 }]);
    await subscriber.expect("publish", { topic, retain: true });
  }
});

test("[MQTT-3.3.1-10] Retain Handling 1 sends what is retained with a new subscription alone", async (t) => {
  const { publisher, subscriber, topic } = await retained(t);
  const filters = [{ filter: topic, retainHandling: 1 }];
  for (let round = 0; round < 2; round += 1) {
    await subscriber.subscribe(filters);
    await subscriber.expect("publish", { topic, retain: true });
    await subscriber.subscribe(filters);
    await nothingFrom(publisher, subscriber);
    await subscriber.unsubscribe(topic);
  }
});

test("[MQTT-3.3.1-10] with Retain Handling 1 a subscription of the resumed session is not new", async (t) => {
  const { publisher, topic } = await retained(t);
  const clientId = fresh();
  const filters = [{ filter: topic, retainHandling: 1 }];
  const first = await connect(t, kept(clientId));
  await first.subscribe(filters);
  await first.expect("publish", { topic, retain: true });
  await first.disconnect();
  const second = await connect(t, kept(clientId));
  await second.subscribe(filters);
  await nothingFrom(publisher, second);
});

test("[MQTT-3.3.1-11] Retain Handling 2 sends nothing retained", async (t) => {
  const { publisher, subscriber, topic } = await retained(t);
  await subscriber.subscribe([{ filter: topic, retainHandling: 2 }]);
  await nothingFrom(publisher, subscriber);
});

test("[MQTT-3.3.1-9] each filter of a SUBSCRIBE has a Retain Handling of its own", async (t) => {
  const { publisher, subscriber, topic } = await retained(t);
  const other = fresh("t");
  await publisher.publish(other, "1", { qos: 1, retain: true });
  await subscriber.subscribe([
    { filter: topic, retainHandling: 2 },
    { filter: other, retainHandling: 0 },
  ]);
  await subscriber.expect("publish", { topic: other, retain: true });
  await nothingFrom(publisher, subscriber);
});

for (const retainAsPublished of [false, true]) {
  const clause = retainAsPublished ? "[MQTT-3.3.1-13]" : "[MQTT-3.3.1-12]";
  test(`${clause} Retain As Published ${retainAsPublished ? 1 : 0}, live and from the queue`, async (t) => {
    const clientId = fresh();
    const topic = fresh("t");
    const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
    await first.subscribe([{ filter: topic, qos: 1, retainAsPublished }]);
    const sent = [true, false, true];
    for (const retain of sent) await publisher.publish(topic, "1", { qos: 1, retain });
    const live = await first.take(3);
    await first.disconnect();
    for (const retain of sent) await publisher.publish(topic, "1", { qos: 1, retain });
    const queued = await (await connect(t, kept(clientId))).take(3);
    const expected = sent.map((retain) => retain && retainAsPublished);
    for (const messages of [live, queued]) {
      assert.deepEqual(
        messages.map(({ retain }) => retain),
        expected,
      );
    }
  });
}

test("[MQTT-3.8.4-4] nothing is lost while a subscription is replaced again and again", async (t) => {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await subscriber.subscribe(topic, 1);
  const count = 300;
  for (let packetId = 1; packetId <= count; packetId += 1) {
    publisher.sendPublish({ topic, payload: `${packetId}`, qos: 1, packetId });
    if (packetId % 10 === 0) {
      subscriber.sendSubscribe({ packetId, filters: [{ filter: topic, qos: 1 }] });
      await publisher.expect("puback");
    }
  }
  const payloads: string[] = [];
  let subacks = 0;
  while (payloads.length < count || subacks < count / 10) {
    const came = await subscriber.next();
    if (came.name === "suback") subacks += 1;
    else {
      payloads.push(came.payload);
      subscriber.sendPuback(came);
    }
  }
  assert.deepEqual(
    payloads,
    Array.from({ length: count }, (_, at) => `${at + 1}`),
  );
});

test("[MQTT-3.3.1-5] a message that was retained before the SUBSCRIBE on the same connection comes once, as retained", async (t) => {
  const client = await connect(t);
  const topic = fresh("t");
  client.sendPublish({ topic, payload: "1", retain: true });
  client.sendSubscribe({ packetId: 9, filters: [{ filter: topic }] });
  await client.expect("suback", { packetId: 9 });
  await client.expect("publish", { topic, payload: "1", retain: true });
  await nothingFrom(client, client);
});

test("[MQTT-3.9.3-2] more subscriptions than the limit allows are refused with 0x97, each for itself", async (t) => {
  const client = await narrow.connect(t);
  const level = fresh("t");
  const filters = ["a", "b", "c", "d", "a"].map((it) => ({ filter: `${level}/${it}`, qos: 1 }));
  const { codes } = await client.subscribe(filters);
  assert.deepEqual(codes, [1, 1, 1, CODE.quotaExceeded, 1]);
  await client.unsubscribe(`${level}/a`);
  assert.deepEqual((await client.subscribe(`${level}/d`, 1)).codes, [1]);
});

async function retained(t: Parameters<typeof connect>[0]) {
  const [publisher, subscriber] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await publisher.publish(topic, "1", { qos: 1, retain: true });
  return { publisher, subscriber, topic };
}

function identifier(id: number) {
  return { properties: { subscriptionIdentifier: [id] } };
}

async function subscribeAs(
  client: WireClient,
  id: number,
  ...filters: readonly string[]
): Promise<void> {
  await client.subscribe(
    filters.map((filter) => ({ filter })),
    0,
    identifier(id),
  );
}

function idsOf({ properties }: Awaited<ReturnType<WireClient["next"]>>): number[] {
  const ids = properties.subscriptionIdentifier ?? [];
  return [...(ids as readonly number[])].sort((a, b) => a - b);
}

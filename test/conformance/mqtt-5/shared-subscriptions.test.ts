// shared-subscriptions.test: $share (MQTT 5.0 §4.8.2): one member of the group gets each message.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import type { Packet } from "../support/wire-read.ts";
import { CODE, kept, mqtt5, nothingFrom, WRONG } from "./clients.ts";

const { connect } = mqtt5(conformanceBroker());

const ILL_FORMED = ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a"];

for (const filter of [...ILL_FORMED, "$share/+/a", "$share/g#/a", "$share/g/a#", "$share/g/+a"]) {
  test(`[MQTT-4.8.2-1] [MQTT-4.8.2-2] the filter "${filter}" is not granted`, async (t) => {
    const client = await connect(t);
    client.sendSubscribe({ filters: [{ filter }] });
    const answer = await client.next();
    const allowed: number[] = [CODE.topicFilterInvalid, ...WRONG];
    assert.ok(answer.name === "suback" || answer.name === "disconnect", answer.name);
    const codes = answer.name === "suback" ? answer.codes : [answer.code];
    assert.ok(codes.length === 1 && codes.every((code) => allowed.includes(code)), `${codes}`);
  });
}

test("[MQTT-4.8.2-1] [MQTT-4.8.2-2] a share name may hold anything but / + #, the filter is any filter", async (t) => {
  const client = await connect(t);
  const filters = ["$share/ä €/a", "$share/$share/a", "$share/g//", "$share/g/#", "$share/g/+/a"];
  const { codes } = await client.subscribe(filters.map((filter) => ({ filter, qos: 2 })));
  assert.deepEqual(codes, [2, 2, 2, 2, 2]);
});

test("[MQTT-4.8.2-3] each message goes to one member, and every member gets its part", async (t) => {
  const { publisher, members, topic } = await group(t, 4);
  const count = 80;
  for (let at = 0; at < count; at += 1) await publisher.publish(topic, `${at}`, { qos: 1 });
  const parts: Packet[][] = [];
  for (const member of members) parts.push(await drain(publisher, member));
  const all = numbersOf(parts.flat());
  assert.deepEqual(
    all,
    Array.from({ length: count }, (_, at) => at),
  );
  for (const part of parts) assert.ok(part.length >= count / 16, `one member got ${part.length}`);
});

test("[MQTT-4.8.2-3] each member is sent what it was granted", async (t) => {
  const level = fresh("t");
  const publisher = await connect(t);
  const members = [await connect(t), await connect(t), await connect(t)];
  for (const [qos, member] of members.entries()) {
    await member.subscribe(`$share/g/${level}`, qos);
  }
  for (let at = 0; at < 12; at += 1) await publisher.publish(level, `${at}`, { qos: 2 });
  for (const [qos, member] of members.entries()) {
    const part = await drain(publisher, member);
    assert.ok(part.length > 0);
    assert.deepEqual(new Set(part.map((it) => it.qos)), new Set([qos]));
  }
});

test("[MQTT-4.8.2-3] groups get a message each, and a subscription that is not shared gets it too", async (t) => {
  const level = fresh("t");
  const publisher = await connect(t);
  const one = await connect(t);
  const two = await connect(t);
  await one.subscribe([{ filter: `$share/g1/${level}` }, { filter: level }]);
  await two.subscribe([{ filter: `$share/g2/${level}` }, { filter: `$share/g3/${level}` }]);
  await publisher.publish(level, "1", { qos: 1 });
  for (const client of [one, one, two, two]) await client.expect("publish", { topic: level });
  for (const client of [one, two]) await nothingFrom(publisher, client);
});

test("[MQTT-4.8.2-1] groups with one name and different filters are different groups", async (t) => {
  const level = fresh("t");
  const publisher = await connect(t);
  const [one, two] = [await connect(t), await connect(t)];
  await one.subscribe(`$share/g/${level}/a`);
  await two.subscribe(`$share/g/${level}/+`);
  await publisher.publish(`${level}/a`, "1", { qos: 1 });
  for (const client of [one, two]) {
    await client.expect("publish", { topic: `${level}/a` });
    await nothingFrom(publisher, client);
  }
});

test("[MQTT-3.8.4-3] a shared subscription that is made again is one subscription", async (t) => {
  const topic = fresh("t");
  const [publisher, member] = [await connect(t), await connect(t)];
  for (const qos of [2, 1]) await member.subscribe(`$share/g/${topic}`, qos);
  await publisher.publish(topic, "1", { qos: 2 });
  await member.expect("publish", { qos: 1 });
  await nothingFrom(publisher, member);
});

test("[MQTT-3.3.4-3] a shared subscription has its identifier", async (t) => {
  const topic = fresh("t");
  const [publisher, member] = [await connect(t), await connect(t)];
  const properties = { subscriptionIdentifier: [9] };
  await member.subscribe([{ filter: `$share/g/${topic}` }], 0, { properties });
  await publisher.publish(topic, "1");
  await member.expect("publish", { topic, properties });
});

test("[MQTT-3.3.1-9] nothing retained is sent for a shared subscription (§4.8.2)", async (t) => {
  const topic = fresh("t");
  const [publisher, member] = [await connect(t), await connect(t)];
  await publisher.publish(topic, "1", { qos: 1, retain: true });
  await member.subscribe([{ filter: `$share/g/${topic}`, retainHandling: 0 }]);
  await nothingFrom(publisher, member);
});

test("[MQTT-3.10.4-1] a shared subscription ends by its whole filter alone", async (t) => {
  const topic = fresh("t");
  const [publisher, member] = [await connect(t), await connect(t)];
  await member.subscribe(`$share/g/${topic}`);
  const { codes } = await member.unsubscribe(topic, `$share/h/${topic}`, `$share/g/${topic}`);
  const none = CODE.noSubscriptionExisted;
  assert.deepEqual(codes, [none, none, CODE.success]);
  await publisher.publish(topic, "1", { qos: 1 });
  await nothingFrom(publisher, member);
});

for (const [how, leave] of [
  ["unsubscribes", (member: WireClient, filter: string) => member.unsubscribe(filter)],
  ["disconnects", (member: WireClient) => member.disconnect()],
] as const) {
  test(`[MQTT-4.5.0-1] when a member ${how}, the others get everything`, async (t) => {
    const { publisher, members, topic } = await group(t, 2);
    const [leaver, stayer] = members;
    assert.ok(leaver && stayer);
    await leave(leaver, `$share/g/${topic}`);
    const payloads = Array.from({ length: 10 }, (_, at) => `${at}`);
    for (const payload of payloads) await publisher.publish(topic, payload, { qos: 1 });
    const messages = await drain(publisher, stayer);
    assert.deepEqual(
      messages.map(({ payload }) => payload),
      payloads,
    );
  });
}

test("[MQTT-4.8.2-4] a QoS 2 message is completed with the member that it was sent to when that one reconnects", async (t) => {
  const { publisher, other, first, packetId, clientId } = await underWay(t, 2, 100);
  first.cut();
  await nothingFrom(publisher, other);
  const second = await connect(t, kept(clientId));
  await second.expect("publish", { packetId, payload: "1", qos: 2, dup: true });
  second.sendPubrec({ packetId });
  await second.expect("pubrel", { packetId });
  second.sendPubcomp({ packetId });
  await nothingFrom(publisher, other);
});

test("[MQTT-4.8.2-5] a QoS 2 message goes to no other member when the session of the one that it was sent to ends", async (t) => {
  const { publisher, other, first } = await underWay(t, 2, 0);
  first.sendDisconnect();
  await first.closed();
  await nothingFrom(publisher, other);
});

test("[MQTT-4.8.2-5] a QoS 1 message that a member did not acknowledge goes to another when its session ends (§4.8.2)", async (t) => {
  const { other, first } = await underWay(t, 1, 0);
  first.cut();
  await other.expect("publish", { payload: "1", qos: 1 });
});

test("[MQTT-4.8.2-5] what a member that is away did not acknowledge goes to another when its session expires", async (t) => {
  const topic = fresh("t");
  const publisher = await connect(t);
  const first = await connect(t, kept(fresh(), 1));
  await first.subscribe(`$share/g/${topic}`, 1);
  await publisher.publish(topic, "1", { qos: 1 });
  await first.expect("publish", { payload: "1" });
  first.cut();
  await first.closed();
  await publisher.publish(topic, "2", { qos: 1 });
  const other = await connect(t);
  await other.subscribe(`$share/g/${topic}`, 1);
  const payloads = (await other.take(2)).map(({ payload }) => payload);
  assert.deepEqual(payloads.sort(), ["1", "2"]);
});

type Ending = (first: WireClient, clientId: string, t: Scope) => unknown;

const ENDINGS: Readonly<Record<string, Ending>> = {
  "DISCONNECT with an expiry of 0": (first) =>
    first.disconnect({ properties: { sessionExpiryInterval: 0 } }),
  "a take-over with Clean Start": (_, clientId, t) => connect(t, { clientId, clean: true }),
  "Clean Start after its connection": async (first, clientId, t) => {
    first.cut();
    await connect(t, { clientId, clean: true });
  },
};

for (const [how, end] of Object.entries(ENDINGS)) {
  test(`[MQTT-4.8.2-5] a QoS 1 message that a member did not acknowledge goes to another when ${how} ends its session (§4.8.2)`, async (t) => {
    const { other, first, clientId } = await underWay(t, 1, 100);
    await end(first, clientId, t);
    await other.expect("publish", { payload: "1", qos: 1 });
  });
}

for (const expirySeconds of [0, 100]) {
  test(`[MQTT-4.8.2-4] [MQTT-4.8.2-5] QoS 2 messages that a member has not begun go to another when it leaves, those that it has begun do not (expiry ${expirySeconds})`, async (t) => {
    const topic = fresh("t");
    const publisher = await connect(t);
    const options = kept(fresh(), expirySeconds, { receiveMaximum: 1 });
    const first = await connect(t, options);
    await first.subscribe(`$share/g/${topic}`, 2);
    for (const payload of ["1", "2", "3"]) await publisher.publish(topic, payload, { qos: 2 });
    await first.expect("publish", { payload: "1" });
    const other = await connect(t);
    await other.subscribe(`$share/g/${topic}`, 2);
    first.cut();
    const payloads = (await other.take(2)).map(({ payload }) => payload);
    assert.deepEqual(payloads, ["2", "3"]);
    await nothingFrom(publisher, other);
  });
}

for (const qos of [1, 2]) {
  test(`[MQTT-4.8.2-6] a QoS ${qos} message that a member refuses goes to nobody`, async (t) => {
    const { publisher, other, first, packetId, clientId } = await underWay(t, qos, 100);
    const refusal = { packetId, code: CODE.unspecified };
    if (qos === 1) first.sendPuback(refusal);
    else first.sendPubrec(refusal);
    await first.nothing();
    await nothingFrom(publisher, other);
    await first.disconnect();
    const second = await connect(t, kept(clientId));
    await nothingFrom(publisher, second);
    await nothingFrom(publisher, other);
  });
}

test("[MQTT-4.5.0-1] what comes while the only member is away waits for it", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, first] = [await connect(t), await connect(t, kept(clientId))];
  await first.subscribe(`$share/g/${topic}`, 1);
  await first.disconnect();
  for (const payload of ["1", "2"]) await publisher.publish(topic, payload, { qos: 1 });
  const second = await connect(t, kept(clientId));
  const messages = await second.take(2);
  assert.deepEqual(
    messages.map(({ payload }) => payload),
    ["1", "2"],
  );
});

test("[MQTT-4.5.0-1] no message is lost while a member is away and another is there", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const [publisher, stayer] = [await connect(t), await connect(t)];
  const first = await connect(t, kept(clientId));
  for (const member of [first, stayer]) await member.subscribe(`$share/g/${topic}`, 1);
  first.cut();
  const count = 20;
  for (let at = 0; at < count; at += 1) await publisher.publish(topic, `${at}`, { qos: 1 });
  const second = await connect(t, kept(clientId));
  const all = [...(await drain(publisher, stayer)), ...(await drain(publisher, second))];
  assert.deepEqual(
    numbersOf(all),
    Array.from({ length: count }, (_, at) => at),
  );
});

test("[MQTT-4.5.0-1] no QoS 1 message is lost when a member dies with some unacknowledged", async (t) => {
  const { publisher, members, topic } = await group(t, 3);
  const count = 30;
  for (let at = 0; at < count; at += 1) await publisher.publish(topic, `${at}`, { qos: 1 });
  const [dying, ...rest] = members;
  assert.ok(dying);
  await dying.expect("publish");
  dying.cut();
  // What the others got before, and what comes to them of the dead one's, until all are there.
  const seen = new Set<string>();
  const watch = async (member: WireClient) => {
    while (seen.size < count) {
      const [message] = await member.take(1);
      if (message?.topic === topic) seen.add(message.payload);
    }
  };
  await Promise.race(rest.map(watch));
  assert.equal(seen.size, count);
});

type Scope = Parameters<typeof connect>[0];

async function group(t: Scope, size: number) {
  const topic = fresh("t");
  const publisher = await connect(t);
  const members: WireClient[] = [];
  for (let at = 0; at < size; at += 1) {
    const member = await connect(t);
    await member.subscribe(`$share/g/${topic}`, 1);
    members.push(member);
  }
  return { publisher, members, topic };
}

/** A message of that QoS that one member was sent and did not answer; `other` is in the group. */
async function underWay(t: Scope, qos: number, expirySeconds: number) {
  const topic = fresh("t");
  const clientId = fresh();
  const publisher = await connect(t);
  const first = await connect(t, kept(clientId, expirySeconds));
  await first.subscribe(`$share/g/${topic}`, 2);
  await publisher.publish(topic, "1", { qos });
  const { packetId } = await first.expect("publish", { payload: "1" });
  const other = await connect(t);
  await other.subscribe(`$share/g/${topic}`, 2);
  return { publisher, other, first, packetId, clientId };
}

/** What came to a member of what `publisher` has said, acknowledged. */
async function drain(publisher: WireClient, member: WireClient): Promise<Packet[]> {
  const end = fresh("end");
  member.sendSubscribe({ packetId: member.nextId(), filters: [{ filter: end, qos: 1 }] });
  const messages: Packet[] = [];
  for (;;) {
    const came = await member.next();
    const { packetId } = came;
    if (came.name === "suback") await publisher.publish(end, "", { qos: 1 });
    else if (came.name === "pubrel") member.sendPubcomp({ packetId });
    else assert.equal(came.name, "publish");
    if (came.name !== "publish") continue;
    if (came.qos === 1) member.sendPuback({ packetId });
    if (came.qos === 2) member.sendPubrec({ packetId });
    if (came.topic === end) return messages;
    messages.push(came);
  }
}

function numbersOf(messages: readonly Packet[]): number[] {
  return messages.map(({ payload }) => Number(payload)).sort((a, b) => a - b);
}

// subscribe.test: SUBSCRIBE and SUBACK (MQTT 3.1.1 §3.8, §3.9).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { assertCloses, payloads, publishOnce, subscriber } from "../support/exchanges.ts";
import { hex, packet, subscribePacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";
import { prefixed } from "../support/wire-properties.ts";

const broker = conformanceBroker();

for (const flags of [0, 1, 3, 4, 6, 10, 15]) {
  test(`[MQTT-3.8.1-1] SUBSCRIBE with the flags ${flags} ends the connection`, async (t) => {
    await assertCloses(t, broker, subscribePacket({ filters: [{ filter: "a" }], flags }));
  });
}

test("[MQTT-3.8.3-3] SUBSCRIBE without a filter ends the connection", async (t) => {
  await assertCloses(t, broker, subscribePacket({ filters: [] }));
});

test("[MQTT-3.8.3-3] a filter without its QoS ends the connection", async (t) => {
  await assertCloses(t, broker, packet(8, 2, Buffer.concat([hex("0001"), prefixed("a")])));
  const filters = [{ filter: "a" }];
  await assertCloses(t, broker, subscribePacket({ filters, tail: prefixed("b") }));
});

for (const byte of [3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xfc]) {
  test(`[MQTT-3.8.3-4] a Requested QoS of 0x${byte.toString(16)} ends the connection`, async (t) => {
    await assertCloses(t, broker, subscribePacket({ filters: [{ filter: "a", byte }] }));
  });
}

test("[MQTT-3.8.3-4] one wrong QoS among good ones subscribes to nothing", async (t) => {
  const filters = [{ filter: "a" }, { filter: "b", byte: 3 }];
  await assertCloses(t, broker, subscribePacket({ filters }));
});

test("[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.3.1-7] SUBACK has the packet id of its SUBSCRIBE", async (t) => {
  const client = await broker.connect(t);
  for (const packetId of [1, 256, 65_535]) {
    client.sendSubscribe({ packetId, filters: [{ filter: fresh("t") }] });
    await client.expect("suback", { packetId });
  }
});

test("[MQTT-3.8.4-5] [MQTT-3.9.3-1] SUBACK has a code for each filter, in their order", async (t) => {
  const client = await broker.connect(t);
  const granted = [2, 0, 1, 1, 0, 2];
  const filters = granted.map((qos) => ({ filter: fresh("t"), qos }));
  assert.deepEqual((await client.subscribe(filters)).codes, granted);
});

test("[MQTT-3.8.4-5] a filter that comes twice gets two codes, and the last counts", async (t) => {
  const client = await broker.connect(t);
  const topic = fresh("t");
  const filters = [2, 0, 1].map((qos) => ({ filter: topic, qos }));
  assert.deepEqual((await client.subscribe(filters)).codes, [2, 0, 1]);
  await client.publish(topic, "1", { qos: 0 });
  await client.expect("publish", { qos: 0 });
  const publisher = await broker.connect(t);
  await publisher.publish(topic, "2", { qos: 2 });
  await client.expect("publish", { qos: 1, payload: "2" });
});

test("[MQTT-3.8.4-4] many filters in one packet work as in as many packets", async (t) => {
  const root = fresh("t");
  const client = await broker.connect(t);
  const filters = Array.from({ length: 200 }, (_, index) => ({ filter: `${root}/${index}` }));
  const { codes } = await client.subscribe(filters);
  assert.equal(codes.length, 200);
  const publisher = await broker.connect(t);
  for (const index of [0, 99, 199]) await publisher.publish(`${root}/${index}`, `${index}`);
  assert.deepEqual(payloads(await client.take(3)), ["0", "99", "199"]);
});

test("[MQTT-3.9.3-2] SUBACK has no codes but 0, 1, 2 and 0x80", async (t) => {
  const client = await broker.connect(t);
  const odd = ["#", "+", "$SYS/#", "a//b", "/", "$share/group/a", " ", "\u{1f600}"];
  const { codes } = await client.subscribe(odd.map((filter) => ({ filter, qos: 2 })));
  assert.equal(codes.length, odd.length);
  for (const code of codes) assert.ok([0, 1, 2, 0x80].includes(code), `code ${code}`);
});

test("[MQTT-3.8.4-3] the same filter again takes the place of the subscription, up and down", async (t) => {
  const topic = fresh("t");
  const client = await broker.connect(t);
  const publisher = await broker.connect(t);
  for (const qos of [0, 2, 1, 0] as const) {
    await client.subscribe(topic, qos);
    await publisher.publish(topic, `${qos}`, { qos: 2 });
    const [message] = await client.take(1);
    assert.deepEqual([message?.qos, message?.payload], [qos, `${qos}`]);
    await client.nothing();
  }
});

test("[MQTT-3.8.4-3] the same filter again brings the retained messages again", async (t) => {
  const root = fresh("t");
  await publishOnce(t, broker, `${root}/a`, "kept", { qos: 1, retain: true });
  const client = await broker.connect(t);
  for (let time = 0; time < 3; time++) {
    await client.subscribe(`${root}/#`, 1);
    const [message] = await client.take(1);
    assert.deepEqual([message?.payload, message?.retain], ["kept", true]);
  }
  await client.nothing();
});

test("[MQTT-3.8.4-3] the flow goes on without a loss while a subscription is replaced", async (t) => {
  const topic = fresh("t");
  const client = await subscriber(t, broker, topic, 1);
  const publisher = await broker.connect(t);
  const expected: string[] = [];
  for (let round = 0; round < 20; round++) {
    for (let index = 0; index < 10; index++) {
      expected.push(`${round}.${index}`);
      publisher.sendPublish({ topic, payload: `${round}.${index}` });
    }
    client.sendSubscribe({ packetId: 100 + round, filters: [{ filter: topic, qos: round % 2 }] });
  }
  await publisher.ping();
  const seen: string[] = [];
  while (seen.length < expected.length) {
    const { name, payload } = await client.next();
    if (name === "publish") seen.push(payload);
  }
  assert.deepEqual(seen, expected);
});

test("[MQTT-3.8.4-1] a message that comes after SUBACK was read is delivered", async (t) => {
  const client = await broker.connect(t);
  const publisher = await broker.connect(t);
  for (let round = 0; round < 50; round++) {
    const topic = fresh("t");
    await client.subscribe(topic);
    await publisher.publish(topic, `${round}`);
    await client.expect("publish", { topic, payload: `${round}` });
  }
});

for (const filter of ["a#", "a/b#", "a/#/b", "#/a", "##", "+a", "a+", "a/+b", "a/b+/c", "++"]) {
  test(`[MQTT-4.7.1-2] [MQTT-4.7.1-3] ${filter} is no filter: refused or the connection ended`, async (t) => {
    const client = await broker.connect(t);
    client.sendSubscribe({ packetId: 1, filters: [{ filter, qos: 1 }] });
    client.sendPingreq();
    const answer = await client.next().catch(() => undefined);
    if (answer) assert.deepEqual([answer.name, answer.codes], ["suback", [0x80]]);
    else assert.equal(client.isClosed, true);
  });
}

test("[MQTT-4.7.3-1] an empty filter is refused or the connection ended", async (t) => {
  const client = await broker.connect(t);
  client.sendSubscribe({ packetId: 1, filters: [{ filter: "" }] });
  client.sendPingreq();
  const answer = await client.next().catch(() => undefined);
  if (answer) assert.deepEqual([answer.name, answer.codes], ["suback", [0x80]]);
  else assert.equal(client.isClosed, true);
});

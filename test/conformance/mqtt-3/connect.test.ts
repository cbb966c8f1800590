// connect.test: CONNECT and CONNACK, but for wills (MQTT 3.1.1 §3.1, §3.2).

import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { conformanceBroker } from "../support/broker.ts";
import {
  assertCloses,
  assertRefuses,
  publishOnce,
  resume,
  subscriber,
} from "../support/exchanges.ts";
import {
  connectPacket,
  pingreqPacket,
  publishPacket,
  subscribePacket,
} from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";
import { prefixed } from "../support/wire-properties.ts";

const broker = conformanceBroker();

test("[MQTT-3.1.0-1] [MQTT-3.1.4-1] ends a connection that begins with another packet", async (t) => {
  await assertRefuses(t, broker, pingreqPacket());
  await assertRefuses(t, broker, publishPacket({ topic: "a" }));
  await assertRefuses(t, broker, subscribePacket({ filters: [{ filter: "#" }] }));
});

test("[MQTT-3.1.0-1] does nothing of what comes before CONNECT", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  await assertRefuses(t, broker, publishPacket({ topic }), connectPacket());
  await publishOnce(t, broker, topic, "marker");
  await observer.expect("publish", { payload: "marker" });
});

test("[MQTT-3.1.0-2] ends a connection with a second CONNECT", async (t) => {
  const clientId = fresh();
  const client = await broker.connect(t, { clientId });
  client.sendConnect({ clientId });
  assert.deepEqual(await client.closed(), []);
});

test("[MQTT-3.1.0-2] a second CONNECT in one write with the first ends it too", async (t) => {
  const client = await broker.open(t);
  const connect = connectPacket({ clientId: fresh() });
  client.send(connect, connect);
  const packets = await client.closed();
  assert.ok(packets.length <= 1, "no more than one CONNACK");
});

test("[MQTT-3.1.2-1] does not take another protocol's CONNECT for MQTT", async (t) => {
  for (const protocolName of ["MQTTX", "mqtt", "MQT", "", "MQIsdp"]) {
    const client = await broker.open(t);
    client.sendConnect({ clientId: fresh(), protocolName });
    const packets = await client.closed();
    assert.ok(!packets.some(({ code }) => code === 0), `${protocolName} with level 4 is refused`);
  }
});

for (const protocolLevel of [0, 1, 2]) {
  test(`[MQTT-3.1.2-2] [MQTT-3.2.2-4] [MQTT-3.2.2-5] answers level ${protocolLevel} with 0x01 and closes`, async (t) => {
    const client = await broker.open(t);
    client.sendConnect({ clientId: fresh(), protocolLevel });
    await client.expect("connack", { code: 1, sessionPresent: false });
    assert.deepEqual(await client.closed(), []);
  });
}

test("[MQTT-3.1.2-3] refuses a CONNECT whose reserved flag is set", async (t) => {
  await assertRefuses(t, broker, connectPacket({ clientId: fresh(), connectFlags: 0x03 }));
});

test("[MQTT-3.1.2-18] [MQTT-3.1.2-20] [MQTT-3.1.4-1] refuses bytes behind the last field", async (t) => {
  const clientId = fresh();
  await assertRefuses(t, broker, connectPacket({ clientId, tail: prefixed("user") }));
  await assertRefuses(t, broker, connectPacket({ clientId, tail: Buffer.from([0]) }));
  const username = "user";
  const tail = prefixed("password");
  await assertRefuses(t, broker, connectPacket({ clientId, username, tail }));
});

test("[MQTT-3.1.2-19] [MQTT-3.1.2-21] refuses flags whose user name or password is missing", async (t) => {
  const clientId = fresh();
  await assertRefuses(t, broker, connectPacket({ clientId, connectFlags: 0x82 }));
  const username = "user";
  await assertRefuses(t, broker, connectPacket({ clientId, username, connectFlags: 0xc2 }));
});

test("[MQTT-3.1.2-22] refuses a password without a user name", async (t) => {
  await assertRefuses(t, broker, connectPacket({ clientId: fresh(), password: "secret" }));
});

test("[MQTT-3.1.2-9] [MQTT-3.1.3-1] refuses a will flag whose topic and message are missing", async (t) => {
  const clientId = fresh();
  await assertRefuses(t, broker, connectPacket({ clientId, connectFlags: 0x06 }));
  const tail = prefixed("topic");
  await assertRefuses(t, broker, connectPacket({ clientId, connectFlags: 0x06, tail }));
});

test("[MQTT-3.1.2-11] refuses a will topic and message without the will flag", async (t) => {
  const will = { topic: "w", payload: "m" };
  await assertRefuses(t, broker, connectPacket({ clientId: fresh(), will, connectFlags: 0x02 }));
});

for (const [clause, what, connectFlags] of [
  ["3.1.2-13", "Will QoS 1", 0x0a],
  ["3.1.2-13", "Will QoS 2", 0x12],
  ["3.1.2-15", "Will Retain", 0x22],
] as const) {
  test(`[MQTT-3.1.2-11] [MQTT-${clause}] refuses ${what} without the will flag`, async (t) => {
    await assertRefuses(t, broker, connectPacket({ clientId: fresh(), connectFlags }));
  });
}

test("[MQTT-3.1.2-14] refuses Will QoS 3", async (t) => {
  const will = { topic: "w", payload: "m", qos: 3 };
  await assertRefuses(t, broker, connectPacket({ clientId: fresh(), will }));
});

test("[MQTT-3.1.3-2] [MQTT-4.7.3-4] holds apart client ids that differ in anything", async (t) => {
  const id = fresh("same");
  const ids = [
    id,
    id.toUpperCase(),
    `${id} `,
    ` ${id}`,
    `\ufeff${id}`,
    `${id}\u00e9`,
    `${id}e\u0301`,
  ];
  const clients = [];
  for (const clientId of ids) clients.push(await broker.connect(t, { clientId }));
  for (const client of clients) await client.ping();
});

test("[MQTT-3.1.3-3] refuses a CONNECT without a client id", async (t) => {
  await assertRefuses(t, broker, Buffer.from("100a00044d51545404020000", "hex"));
});

test("[MQTT-3.1.3-5] takes client ids of 1 to 23 digits and letters", async (t) => {
  const all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const ids = [...all, all.slice(0, 23), all.slice(20, 43), all.slice(39, 62)];
  for (const clientId of ids) {
    const client = await broker.connect(t, { clientId });
    await client.disconnect();
  }
});

test("[MQTT-3.1.3-6] [MQTT-3.1.3-7] gives each client without an id one of its own", async (t) => {
  const first = await broker.connect(t, { clientId: "" });
  const second = await broker.connect(t, { clientId: "" });
  const topic = fresh("t");
  await first.subscribe(topic);
  await second.publish(topic, "1");
  await first.expect("publish", { payload: "1" });
  await second.nothing();
});

test("[MQTT-3.1.3-8] [MQTT-3.1.3-9] answers an empty id with a kept session with 0x02 and closes", async (t) => {
  const client = await broker.open(t);
  client.sendConnect({ clientId: "", clean: false });
  await client.expect("connack", { code: 2, sessionPresent: false });
  assert.deepEqual(await client.closed(), []);
});

test("[MQTT-3.1.4-2] a client that comes again takes the place of the one that is there", async (t) => {
  const clientId = fresh();
  const first = await broker.connect(t, { clientId });
  const second = await broker.connect(t, { clientId });
  assert.deepEqual(await first.closed(), []);
  await second.ping();
});

test("[MQTT-3.1.4-2] a take-over of a kept session loses and repeats nothing at QoS 2", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const first = await subscriber(t, broker, topic, 2, { clientId, clean: false });
  const publisher = await broker.connect(t);
  await publisher.publish(topic, "1", { qos: 2 });
  await first.take(1);
  await publisher.publish(topic, "2", { qos: 2 });
  const { packetId } = await first.expect("publish", { payload: "2" });
  const second = await resume(t, broker, clientId);
  await first.closed();
  await publisher.publish(topic, "3", { qos: 2 });
  const messages = await second.take(2);
  assert.deepEqual(
    messages.map(({ payload, dup }) => [payload, dup]),
    [
      ["2", true],
      ["3", false],
    ],
  );
  assert.equal(messages[0]?.packetId, packetId);
  await second.nothing();
});

test("[MQTT-3.1.4-2] ten take-overs at once leave one client", async (t) => {
  const clientId = fresh();
  const clients = await Promise.all(Array.from({ length: 10 }, () => broker.open(t)));
  for (const client of clients) client.sendConnect({ clientId, clean: false });
  const alive = () => clients.filter(({ isClosed }) => !isClosed);
  await waitFor("nine to be disconnected", () => alive().length === 1);
  const [last] = alive();
  await last?.expect("connack", { code: 0 });
  await last?.ping();
});

test("[MQTT-3.1.4-4] [MQTT-3.2.0-1] CONNACK comes first, before all that came with CONNECT", async (t) => {
  const client = await broker.open(t);
  const topic = fresh("t");
  client.send(
    connectPacket({ clientId: fresh() }),
    subscribePacket({ packetId: 7, filters: [{ filter: topic }] }),
    publishPacket({ topic, payload: "1" }),
  );
  await client.expect("connack", { code: 0 });
  await client.expect("suback", { packetId: 7 });
  await client.expect("publish", { topic, payload: "1" });
});

test("[MQTT-3.2.0-1] CONNACK comes before what waited for the session", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const first = await subscriber(t, broker, topic, 1, { clientId, clean: false });
  await first.disconnect();
  await publishOnce(t, broker, topic, "1", { qos: 1 });
  const second = await broker.open(t);
  second.sendConnect({ clientId, clean: false });
  await second.expect("connack", { code: 0, sessionPresent: true });
  await second.expect("publish", { payload: "1" });
});

test("[MQTT-3.1.4-5] does nothing of what comes behind a CONNECT that it refuses", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  const client = await broker.open(t);
  const connect = connectPacket({ clientId: "", clean: false });
  client.send(connect, publishPacket({ topic, payload: "refused" }));
  await client.expect("connack", { code: 2 });
  assert.deepEqual(await client.closed(), []);
  await publishOnce(t, broker, topic, "marker");
  await observer.expect("publish", { payload: "marker" });
});

test("[MQTT-3.2.2-4] [MQTT-3.2.2-5] refuses a user whom it does not know, and closes", async (t) => {
  const client = await broker.open(t);
  client.sendConnect({ clientId: fresh(), username: "nobody", password: "wrong" });
  const { code, sessionPresent } = await client.expect("connack");
  assert.ok(code === 4 || code === 5, `return code ${code}`);
  assert.equal(sessionPresent, false);
  assert.deepEqual(await client.closed(), []);
});

test("[MQTT-3.1.4-1] [MQTT-3.2.2-6] refuses a CONNECT that is cut short in any place", async (t) => {
  const will = { topic: "will", payload: "message" };
  const whole = connectPacket({ clientId: "c", will, username: "u", password: "p" });
  const body = whole.subarray(2);
  for (let length = 0; length < body.length; length++) {
    const short = Buffer.concat([Buffer.from([0x10, length]), body.subarray(0, length)]);
    await assertRefuses(t, broker, short);
  }
});

test("[MQTT-4.8.0-1] a CONNECT with a Remaining Length of five bytes is refused", async (t) => {
  await assertRefuses(t, broker, "10 ff ff ff ff 01");
  await assertCloses(t, broker, "30 80 80 80 80 01");
});

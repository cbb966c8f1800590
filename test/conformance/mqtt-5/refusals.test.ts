// refusals.test: who may not: login, and what clients have no right to, in reason codes (MQTT 5.0 §2.4).
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { conformanceBroker } from "../support/broker.ts";
import type { ConnectOptions } from "../support/wire-build.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import type { Properties } from "../support/wire-properties.ts";
import { CODE, ended, kept, mqtt5, nothingFrom, refused, refusedWith } from "./clients.ts";

const { connect, tryConnect } = mqtt5(
  conformanceBroker({
    limits: { receive_messages_max: 3 },
    access: {
      users_file: "/nonexistent/users",
      rights: [
        { publish: ["ok/#", "end/+"], subscribe: ["ok/#", "end/+"] },
        { client_id: "watcher", subscribe: ["#"] },
      ],
    },
  }),
);

/** The broker's own $SYS topics may be among them. */
const RETAINED_MAX = 60;
const tight = mqtt5(
  conformanceBroker({
    limits: {
      sessions_max: 3,
      topic_levels_max: 3,
      retained_messages_max: RETAINED_MAX,
      publishes_per_second_max: 500,
    },
  }),
);

const full = mqtt5(
  conformanceBroker({
    limits: { sessions_max: 1 },
    access: { server_reference: "other.example.com:1883" },
  }),
);

test("who finds the broker full is told of another one, where the settings name it (§4.11)", async (t) => {
  await full.connect(t);
  const connack = await (await full.tryConnect(t)).expect("connack", {
    code: CODE.useAnotherServer,
  });
  assert.equal(connack.properties.serverReference, "other.example.com:1883");
});

test("[MQTT-3.2.2-7] one session more than the limit allows is refused with 0x97", async (t) => {
  for (let at = 0; at < 3; at += 1) await tight.connect(t);
  await refusedWith(await tight.tryConnect(t), CODE.quotaExceeded);
});

test("[MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.9.3-2] a topic that is too deep is refused in its acknowledgement, a filter in SUBACK", async (t) => {
  const client = await waitFor("a place", () => tight.connect(t).catch(() => undefined));
  const topic = "a/b/c/d";
  client.sendPublish({ topic, qos: 1, packetId: 1 });
  await client.expect("puback", { packetId: 1, code: CODE.topicNameInvalid });
  client.sendPublish({ topic, qos: 2, packetId: 2 });
  await client.expect("pubrec", { packetId: 2, code: CODE.topicNameInvalid });
  assert.deepEqual((await client.subscribe(topic, 1)).codes, [CODE.topicFilterInvalid]);
  client.sendPublish({ topic });
  await ended(client, CODE.topicNameInvalid);
});

test("[MQTT-3.4.2-1] a retained message more than the limit allows is refused with 0x97, another one for a topic that has one is not", async (t) => {
  const client = await waitFor("a place", () => tight.connect(t).catch(() => undefined));
  const level = fresh("t");
  const retain = async (at: number) =>
    (await client.publish(`${level}/${at}`, "1", { qos: 1, retain: true }))?.code;
  let count = 0;
  while ((await retain(count)) !== CODE.quotaExceeded) count += 1;
  assert.ok(count > 0 && count <= RETAINED_MAX, `${count} were taken`);
  assert.equal(await retain(count + 1), CODE.quotaExceeded);
  assert.notEqual(await retain(0), CODE.quotaExceeded);
  const watcher = await tight.connect(t);
  await watcher.subscribe(`${level}/+`);
  assert.equal((await watcher.take(count)).length, count);
  await watcher.nothing();
});

test("[MQTT-3.14.2-1] who publishes faster than the limit allows is ended with 0x96", async (t) => {
  const client = await waitFor("a place", () => tight.connect(t).catch(() => undefined));
  for (let at = 0; at < 2_000; at += 1) client.sendPublish({ topic: "a" });
  await ended(client, CODE.messageRateTooHigh);
});

test("[MQTT-3.1.4-2] a login that fails is refused by 0x86 or 0x87", async (t) => {
  for (const options of [{ username: "u", password: "p" }, { username: "u" }, { password: "p" }]) {
    const client = await tryConnect(t, options);
    await refusedWith(client, CODE.badUserNameOrPassword, CODE.notAuthorized);
  }
});

test("[MQTT-3.1.4-6] what follows a login that fails is not processed", async (t) => {
  const watcher = await connect(t, { clientId: "watcher" });
  await watcher.subscribe("ok/#");
  const client = await tryConnect(t, { username: "u", password: "p" });
  client.sendPublish({ topic: "ok/a", payload: "1" });
  await refused(client, CODE.badUserNameOrPassword, CODE.notAuthorized);
  await nothingFrom(await connect(t), watcher);
});

test("[MQTT-3.1.4-2] a will without the right to it is refused", async (t) => {
  await refusedWith(await tryConnect(t, { will: { topic: "secret/a" } }), CODE.notAuthorized);
});

test("[MQTT-3.4.2-1] [MQTT-4.3.2-4] QoS 1 without the right to it is answered by PUBACK 0x87 and goes nowhere", async (t) => {
  const watcher = await connect(t, { clientId: "watcher" });
  await watcher.subscribe("secret/#");
  const client = await connect(t);
  client.sendPublish({ topic: "secret/a", qos: 1, packetId: 4 });
  await client.expect("puback", { packetId: 4, code: CODE.notAuthorized });
  await nothingFrom(client, watcher);
});

test("[MQTT-3.5.2-1] [MQTT-4.3.3-9] QoS 2 without the right to it is answered by PUBREC 0x87, and its id is free again", async (t) => {
  const client = await connect(t);
  const watcher = await connect(t, { clientId: "watcher" });
  await watcher.subscribe("#");
  client.sendPublish({ topic: "secret/a", qos: 2, packetId: 4 });
  await client.expect("pubrec", { packetId: 4, code: CODE.notAuthorized });
  client.sendPublish({ topic: "ok/a", payload: "2", qos: 2, packetId: 4 });
  await client.expect("pubrec", { packetId: 4, code: CODE.success });
  client.sendPubrel({ packetId: 4 });
  await client.expect("pubcomp", { packetId: 4, code: CODE.success });
  await watcher.expect("publish", { topic: "ok/a", payload: "2" });
});

test("[MQTT-3.3.4-7] QoS 2 that was refused takes nothing of the Receive Maximum", async (t) => {
  const client = await connect(t);
  for (let packetId = 1; packetId <= 10; packetId += 1) {
    client.sendPublish({ topic: "secret/a", qos: 2, packetId });
    await client.expect("pubrec", { packetId, code: CODE.notAuthorized });
  }
  await client.publish("ok/a", "1", { qos: 2 });
});

test("[MQTT-3.3.1-5] a retained message without the right to it is not retained", async (t) => {
  const client = await connect(t);
  client.sendPublish({ topic: "secret/retained", payload: "1", retain: true, qos: 1, packetId: 1 });
  await client.expect("puback", { code: CODE.notAuthorized });
  const watcher = await connect(t, { clientId: "watcher" });
  await watcher.subscribe("secret/#");
  await nothingFrom(client, watcher);
});

test("[MQTT-3.9.3-2] [MQTT-3.8.4-7] SUBACK says 0x87 for each filter without right, and grants the rest", async (t) => {
  const client = await connect(t);
  const filters = ["ok/a", "secret/a", "#", "$share/g/secret/a", "$share/g/ok/a", "ok/#"];
  const { codes } = await client.subscribe(filters.map((filter) => ({ filter, qos: 1 })));
  const no = CODE.notAuthorized;
  assert.deepEqual(codes, [1, no, no, no, 1, 1]);
});

test("[MQTT-3.8.4-7] what was refused is no subscription, for the session neither", async (t) => {
  const clientId = fresh();
  const first = await connect(t, kept(clientId));
  assert.deepEqual((await first.subscribe("end/a#", 1)).codes, [CODE.topicFilterInvalid]);
  assert.deepEqual((await first.subscribe("+/a", 1)).codes, [CODE.notAuthorized]);
  await first.disconnect();
  const publisher = await connect(t);
  await publisher.publish("ok/a", "1", { qos: 1 });
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  await nothingFrom(publisher, second);
});

/** Has every kind of request refused; the packets that come for it. */
async function refusals(client: WireClient) {
  client.sendPublish({ topic: "secret/a", qos: 1, packetId: 1 });
  client.sendPublish({ topic: "secret/a", qos: 2, packetId: 2 });
  client.sendPubrel({ packetId: 3 });
  client.sendPubrec({ packetId: 4 });
  client.sendSubscribe({ packetId: 5, filters: [{ filter: "secret/a" }, { filter: "a#" }] });
  client.sendUnsubscribe({ packetId: 6, filters: ["none"] });
  const packets = [];
  for (let at = 0; at < 6; at += 1) packets.push(await client.next());
  const names = packets.map(({ name }) => name).sort();
  assert.deepEqual(names, ["puback", "pubcomp", "pubrec", "pubrel", "suback", "unsuback"]);
  return packets;
}

test("[MQTT-3.1.2-29] without Request Problem Information no answer has a reason string or user properties", async (t) => {
  const client = await connect(t, { properties: { requestProblemInformation: 0 } });
  for (const { name, properties } of await refusals(client)) assert.deepEqual(properties, {}, name);
});

const SMALL: readonly (readonly [string, ConnectOptions & { properties: Properties }])[] = [
  ["0", { properties: { maximumPacketSize: 20 } }],
  ["1", { properties: { maximumPacketSize: 20, requestProblemInformation: 1 } }],
];

for (const [asked, options] of SMALL) {
  test(`[MQTT-3.1.2-24] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] no answer is larger than the client takes (${asked})`, async (t) => {
    const client = await tryConnect(t, options);
    const connack = await client.expect("connack", { code: CODE.success });
    for (const { name, bytes } of [connack, ...(await refusals(client))]) {
      assert.ok(bytes.length <= 20, `${name} has ${bytes.length} bytes`);
    }
  });
}

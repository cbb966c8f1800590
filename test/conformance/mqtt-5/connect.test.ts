// connect.test: CONNECT and CONNACK (MQTT 5.0 §3.1, §3.2): who is accepted, and what comes first.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conformanceBroker } from "../support/broker.ts";
import {
  ackPacket,
  authPacket,
  connectPacket,
  disconnectPacket,
  hex,
  packet,
  pingreqPacket,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
} from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5, nothingFrom, refused, refusedWith, WRONG } from "./clients.ts";

const broker = conformanceBroker();
const { connect, open, tryConnect } = mqtt5(broker);

const NOT_CONNECT: Readonly<Record<string, Buffer>> = {
  PUBLISH: publishPacket({ topic: "a", payload: "1" }, 5),
  PUBACK: ackPacket("puback", {}, 5),
  PUBREL: ackPacket("pubrel", {}, 5),
  SUBSCRIBE: subscribePacket({ filters: [{ filter: "a" }] }, 5),
  UNSUBSCRIBE: unsubscribePacket({ filters: ["a"] }, 5),
  PINGREQ: pingreqPacket(),
  DISCONNECT: disconnectPacket({}, 5),
  AUTH: authPacket({ code: 0x18, properties: { authenticationMethod: "x" } }),
};

for (const [name, bytes] of Object.entries(NOT_CONNECT)) {
  test(`[MQTT-3.1.0-1] [MQTT-3.14.0-1] ${name} before CONNECT ends the connection in silence`, async (t) => {
    const client = await open(t);
    client.send(bytes);
    assert.deepEqual(await client.closed(), []);
  });
}

test("[MQTT-3.1.0-2] a second CONNECT is a protocol error", async (t) => {
  const client = await connect(t);
  client.sendConnect({ clientId: fresh() });
  await ended(client, CODE.protocolError);
});

for (const protocolName of ["MQTX", "mqtt", "MQT", "MQTTT", ""]) {
  test(`[MQTT-3.1.2-1] the protocol name "${protocolName}" is refused`, async (t) => {
    await refused(await tryConnect(t, { protocolName }), CODE.unsupportedProtocolVersion, ...WRONG);
  });
}

for (const protocolLevel of [6, 7, 127]) {
  test(`[MQTT-3.1.2-2] [MQTT-3.2.2-8] protocol version ${protocolLevel} is refused with 0x84`, async (t) => {
    await refusedWith(await tryConnect(t, { protocolLevel }), CODE.unsupportedProtocolVersion);
  });
}

for (const protocolLevel of [0, 1, 2, 0x83, 0xff]) {
  test(`[MQTT-3.1.2-2] protocol version ${protocolLevel} is refused`, async (t) => {
    const client = await broker.open(t, 4);
    client.sendConnect({ clientId: fresh(), protocolLevel });
    const packets = await client.closed();
    for (const { name, code } of packets) assert.deepEqual([name, code], ["connack", 1]);
  });
}

const WRONG_FLAGS: Readonly<Record<string, Parameters<typeof connectPacket>[0]>> = {
  "[MQTT-3.1.2-3] the reserved flag": { connectFlags: 0x03 },
  "[MQTT-3.1.2-11] will QoS 1 without a will": { connectFlags: 0x0a },
  "[MQTT-3.1.2-11] will QoS 2 without a will": { connectFlags: 0x12 },
  "[MQTT-3.1.2-12] will QoS 3": { will: { topic: "w", qos: 3 } },
  "[MQTT-3.1.2-13] will retain without a will": { connectFlags: 0x22 },
  "[MQTT-3.1.2-9] the will flag without a will": { connectFlags: 0x06 },
  "[MQTT-3.1.2-16] a user name without its flag": { username: "u", connectFlags: 0x02 },
  "[MQTT-3.1.2-17] the user name flag without a user name": { connectFlags: 0x82 },
  "[MQTT-3.1.2-18] a password without its flag": { password: "p", connectFlags: 0x02 },
  "[MQTT-3.1.2-19] the password flag without a password": { connectFlags: 0x42 },
};

for (const [name, options] of Object.entries(WRONG_FLAGS)) {
  test(`[MQTT-3.1.4-1] ${name} is refused`, async (t) => {
    await refused(await tryConnect(t, options), ...WRONG);
  });
}

test("[MQTT-3.1.2-19] a password without a user name is well-formed in 5.0 (§3.1.2.9)", async (t) => {
  const client = await tryConnect(t, { password: "p" });
  const { name, code } = await client.next();
  assert.equal(name, "connack");
  const allowed: number[] = [CODE.success, CODE.badUserNameOrPassword, CODE.notAuthorized];
  assert.ok(allowed.includes(code), `${code}`);
});

test("[MQTT-3.1.3-3] a CONNECT without a client id is refused", async (t) => {
  const client = await open(t);
  client.send(packet(1, 0, hex("0004 4d515454 05 02 0000 00")));
  await refused(client, ...WRONG);
});

test("[MQTT-3.1.3-1] a will topic in front of the client id is refused", async (t) => {
  const client = await open(t);
  // "w" is read as the client id, and "c" as the will's properties and the length of its topic.
  client.send(packet(1, 0, hex("0004 4d515454 05 06 0000 00 0001 77 00 0001 63 0000 ff")));
  await refused(client, ...WRONG);
});

for (const clientId of [
  "0123456789abcdefghijklm",
  "nopqrstuvwxyzABCDEFGHIJ",
  "KLMNOPQRSTUVWXYZ",
  "a",
]) {
  test(`[MQTT-3.1.3-5] [MQTT-3.1.4-5] the client id ${clientId} is accepted as it is`, async (t) => {
    const { connack } = await connect(t, { clientId });
    assert.equal(connack.properties.assignedClientIdentifier, undefined);
  });
}

test("[MQTT-3.1.3-8] the longest client id is accepted, or refused with 0x85", async (t) => {
  const clientId = fresh().padEnd(65_500, "x");
  const client = await tryConnect(t, { clientId });
  const { name, code } = await client.next();
  assert.equal(name, "connack");
  if (code === CODE.success) return;
  assert.equal(code, CODE.clientIdentifierNotValid);
  assert.deepEqual(await client.closed(), []);
});

test("[MQTT-3.1.3-6] [MQTT-3.2.2-16] an empty client id is replaced by one of its own", async (t) => {
  const ids = new Set<unknown>();
  for (const clean of [true, false, true]) {
    const { connack } = await connect(t, { clientId: "", clean });
    assert.equal(connack.sessionPresent, false);
    ids.add(connack.properties.assignedClientIdentifier);
  }
  assert.equal(ids.size, 3);
  assert.ok(!ids.has(undefined) && !ids.has(""));
});

test("[MQTT-3.1.3-7] the assigned client id names the session like any other", async (t) => {
  const first = await connect(t, { ...kept(""), clean: true });
  const clientId = String(first.connack.properties.assignedClientIdentifier);
  first.cut();
  const second = await connect(t, kept(clientId));
  assert.equal(second.connack.sessionPresent, true);
  assert.equal(second.connack.properties.assignedClientIdentifier, undefined);
});

test("[MQTT-3.2.0-1] [MQTT-3.2.0-2] CONNACK comes first and once when all is sent at once", async (t) => {
  const client = await open(t);
  const topic = fresh("t");
  client.send(
    connectPacket({ version: 5, clientId: fresh() }),
    subscribePacket({ packetId: 7, filters: [{ filter: topic }] }, 5),
    publishPacket({ topic, payload: "1" }, 5),
    pingreqPacket(),
  );
  await client.expect("connack", { code: 0 });
  await client.expect("suback", { packetId: 7 });
  const rest = [await client.next(), await client.next()].map(({ name }) => name);
  assert.deepEqual(rest.sort(), ["pingresp", "publish"]);
  await client.nothing();
});

test("[MQTT-3.12.4-1] a PINGREQ that does not wait for CONNACK is answered", async (t) => {
  const client = await open(t);
  client.send(connectPacket({ version: 5, clientId: fresh() }), pingreqPacket(), pingreqPacket());
  await client.expect("connack", { code: 0 });
  for (let at = 0; at < 2; at += 1) await client.expect("pingresp");
});

test("[MQTT-4.5.0-1] a PUBLISH right behind a SUBSCRIBE comes by that subscription", async (t) => {
  const client = await connect(t, kept(fresh()));
  for (let round = 0; round < 5; round += 1) {
    const topic = fresh("t");
    client.send(
      subscribePacket({ packetId: 7, filters: [{ filter: topic, qos: 1 }] }, 5),
      publishPacket({ topic, payload: "1", qos: 1, packetId: 8 }, 5),
    );
    await client.expect("suback", { packetId: 7 });
    const came = [await client.next(), await client.next()];
    const message = came.find(({ name }) => name === "publish");
    assert.deepEqual([message?.topic, came.some(({ name }) => name === "puback")], [topic, true]);
  }
});

test("[MQTT-3.1.4-5] all that was sent with CONNECT in one go is served, and then the DISCONNECT", async (t) => {
  const watcher = await connect(t);
  const [topic, will] = [fresh("t"), fresh("w")];
  await watcher.subscribe([{ filter: topic }, { filter: will }]);
  const client = await open(t);
  client.send(
    connectPacket({ version: 5, ...kept(fresh()), will: { topic: will, payload: "gone" } }),
    subscribePacket({ packetId: 1, filters: [{ filter: "a" }] }, 5),
    publishPacket({ topic, payload: "1", qos: 1, packetId: 2 }, 5),
    disconnectPacket({}, 5),
  );
  await watcher.expect("publish", { topic, payload: "1" });
  const names = (await client.closed()).map(({ name }) => name);
  assert.deepEqual(
    names.filter((name) => name !== "puback"),
    ["connack", "suback"],
  );
  await nothingFrom(await connect(t), watcher);
});

test("[MQTT-3.2.0-1] CONNACK comes before what waits in the session", async (t) => {
  const clientId = fresh();
  const topic = fresh("t");
  const first = await connect(t, kept(clientId));
  await first.subscribe(topic, 1);
  await first.disconnect();
  const publisher = await connect(t);
  for (const payload of ["1", "2"]) await publisher.publish(topic, payload, { qos: 1 });
  const second = await tryConnect(t, kept(clientId));
  await second.expect("connack", { code: 0, sessionPresent: true });
  assert.deepEqual(
    (await second.take(2)).map(({ payload }) => payload),
    ["1", "2"],
  );
});

test("[MQTT-3.1.4-6] what follows a refused CONNECT is not processed", async (t) => {
  const watcher = await connect(t);
  const topic = fresh("t");
  await watcher.subscribe(topic);
  const client = await open(t);
  const properties = { authenticationMethod: "unknown" };
  client.send(
    connectPacket({ version: 5, clientId: fresh(), properties }),
    publishPacket({ topic, payload: "1" }, 5),
  );
  await refused(client, CODE.badAuthenticationMethod);
  await nothingFrom(await connect(t), watcher);
});

test("[MQTT-3.2.2-6] [MQTT-3.2.2-7] a refusal says no session, although there is one", async (t) => {
  const clientId = fresh();
  const first = await connect(t, kept(clientId));
  await first.disconnect();
  const options = kept(clientId, 100, { authenticationMethod: "unknown" });
  await refusedWith(await tryConnect(t, options), CODE.badAuthenticationMethod);
  const again = await connect(t, kept(clientId));
  assert.equal(again.connack.sessionPresent, true);
});

suite("by the clock", { concurrency: true }, () => {
  test("[MQTT-3.1.2-22] [MQTT-3.2.2-22] a client that is silent for 1.5 times its Keep Alive is closed", async (t) => {
    const client = await connect(t, { keepAlive: 1 });
    assert.equal(client.connack.properties.serverKeepAlive, undefined);
    const beganMs = performance.now();
    await ended(client, CODE.keepAliveTimeout);
    const tookMs = performance.now() - beganMs;
    assert.ok(tookMs > 1_000 && tookMs < 3_500, `${tookMs} ms`);
  });

  test("[MQTT-3.1.2-22] a part of a packet does not stand for a packet", async (t) => {
    const client = await connect(t, { keepAlive: 1 });
    client.send("30 7f 0001 61 00");
    const dribble = setInterval(() => client.send("78"), 200);
    t.after(() => clearInterval(dribble));
    await ended(client, CODE.keepAliveTimeout);
  });

  test("[MQTT-3.1.2-22] a client that says anything within its Keep Alive stays", async (t) => {
    const client = await connect(t, { keepAlive: 1 });
    for (const until = performance.now() + 2_500; performance.now() < until; await sleep(500)) {
      await client.publish("a", "1", { qos: 1 });
    }
    await client.ping();
  });

  test("[MQTT-3.1.2-22] without a Keep Alive a client may be silent", async (t) => {
    const client = await connect(t, { keepAlive: 0 });
    await sleep(2_500);
    await client.ping();
  });
});

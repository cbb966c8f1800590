// disconnect.test: DISCONNECT (MQTT 5.0 §3.14), from both sides, and PINGREQ (§3.12).
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { disconnectPacket, pingreqPacket, publishPacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5, nothingFrom, WRONG } from "./clients.ts";

const broker = conformanceBroker();
const { connect } = mqtt5(broker);
const another = conformanceBroker({ access: { server_reference: "other.example.com:1883" } });

test("[MQTT-3.12.4-1] PINGREQ is answered by PINGRESP, each", async (t) => {
  const client = await connect(t);
  client.send(pingreqPacket(), pingreqPacket(), pingreqPacket());
  for (let at = 0; at < 3; at += 1) await client.expect("pingresp");
  await client.nothing();
});

test("[MQTT-3.14.4-2] the broker closes after a client's DISCONNECT and says nothing", async (t) => {
  for (const options of [{}, { code: 0 }, { code: 0, properties: {} }]) {
    await (await connect(t)).disconnect(options);
  }
});

const FROM_CLIENTS = [
  0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
];

test("[MQTT-3.14.2-1] every reason that a client may give is taken", async (t) => {
  for (const code of FROM_CLIENTS) {
    await (await connect(t)).disconnect({ code, properties: { reasonString: "because" } });
  }
});

test("[MQTT-3.14.4-1] what follows a client's DISCONNECT is not processed", async (t) => {
  const [watcher, client] = [await connect(t), await connect(t)];
  const topic = fresh("t");
  await watcher.subscribe(topic);
  client.send(disconnectPacket({}, 5), publishPacket({ topic, payload: "1" }, 5));
  await client.closed();
  await nothingFrom(await connect(t), watcher);
});

test("[MQTT-3.14.1-1] DISCONNECT with reserved bits set is malformed", async (t) => {
  for (const flags of [1, 2, 4, 8]) {
    const client = await connect(t);
    client.sendDisconnect({ flags });
    await ended(client, CODE.malformedPacket);
  }
});

test("[MQTT-3.14.2-1] a Server Reference from a client is refused", async (t) => {
  const client = await connect(t);
  client.sendDisconnect({ code: 0, properties: { serverReference: "x" } });
  await ended(client, ...WRONG);
});

test("[MQTT-3.1.4-3] a second connection with its client id ends the first with 0x8E", async (t) => {
  for (const options of [{ clientId: fresh() }, kept(fresh())]) {
    const first = await connect(t, options);
    const second = await connect(t, options);
    await ended(first, CODE.sessionTakenOver);
    await second.ping();
  }
});

test("[MQTT-3.1.4-3] many connections with one client id at once: the last one stays, all others end", async (t) => {
  const clientId = fresh();
  const clients = await Promise.all(
    Array.from({ length: 10 }, () => connect(t, kept(clientId)).catch(() => undefined)),
  );
  const last = await connect(t, kept(clientId));
  assert.equal(last.connack.sessionPresent, true);
  await Promise.all(clients.map((client) => client?.closed()));
  await last.ping();
});

test("[MQTT-4.13.2-1] [MQTT-3.14.4-2] an error ends its own connection alone", async (t) => {
  const [bystander, client] = [await connect(t), await connect(t)];
  client.sendPublish({ topic: "a", qos: 3 });
  await ended(client, CODE.malformedPacket);
  await bystander.ping();
});

test("[MQTT-3.14.2-3] what the broker says for a reason is told where the client takes it", async (t) => {
  const client = await connect(t, { properties: { requestProblemInformation: 1 } });
  client.sendPublish({ topic: "a", qos: 3 });
  const { reasonString } = await ended(client, CODE.malformedPacket);
  assert.ok(reasonString === undefined || String(reasonString).length > 0);
});

test("[MQTT-3.14.2-1] a broker that stops says 0x8B", async (t) => {
  const clients = [await connect(t), await connect(t, kept(fresh()))];
  await broker.stop();
  for (const client of clients) await ended(client, CODE.serverShuttingDown);
});

test("[MQTT-3.14.2-1] a broker that stops names the other server that its settings name (§4.11)", async (t) => {
  const client = await mqtt5(another).connect(t);
  await another.stop();
  const { serverReference } = await ended(client, CODE.useAnotherServer, CODE.serverShuttingDown);
  assert.equal(serverReference, "other.example.com:1883");
});

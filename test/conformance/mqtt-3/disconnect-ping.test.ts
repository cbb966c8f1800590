// disconnect-ping.test: DISCONNECT and PINGREQ (MQTT 3.1.1 §3.12 to §3.14).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { assertCloses, publishOnce, subscriber } from "../support/exchanges.ts";
import {
  connectPacket,
  disconnectPacket,
  pingreqPacket,
  publishPacket,
  subscribePacket,
} from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";

const broker = conformanceBroker();

test("[MQTT-3.12.4-1] answers every PINGREQ with a PINGRESP", async (t) => {
  const client = await broker.connect(t);
  client.send(pingreqPacket(), pingreqPacket(), pingreqPacket());
  for (let count = 0; count < 3; count++) await client.expect("pingresp");
});

test("[MQTT-3.12.4-1] answers a PINGREQ that did not wait for CONNACK, behind it", async (t) => {
  const client = await broker.open(t);
  const filters = [{ filter: fresh("t") }];
  client.send(connectPacket(), pingreqPacket(), subscribePacket({ filters }), pingreqPacket());
  await client.expect("connack", { code: 0 });
  await client.expect("pingresp");
  const rest = [await client.next(), await client.next()];
  assert.deepEqual(rest.map(({ name }) => name).sort(), ["pingresp", "suback"]);
});

for (const flags of [1, 2, 4, 8, 15]) {
  test(`[MQTT-2.2.2-2] [MQTT-3.14.1-1] PINGREQ and DISCONNECT with the flags ${flags} end the connection`, async (t) => {
    await assertCloses(t, broker, pingreqPacket({ flags }));
    await assertCloses(t, broker, disconnectPacket({ flags }));
  });
}

test("[MQTT-3.14.1-1] DISCONNECT with wrong flags is none: the will is published", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  const client = await broker.connect(t, { will: { topic, payload: "will" } });
  client.sendDisconnect({ flags: 1 });
  await client.closed();
  await observer.expect("publish", { payload: "will" });
});

test("[MQTT-3.14.4-1] closes after DISCONNECT, if the client does not", async (t) => {
  const client = await broker.connect(t);
  await client.disconnect();
});

test("[MQTT-3.14.4-2] does nothing of what comes after DISCONNECT", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  const client = await broker.connect(t);
  client.send(
    publishPacket({ topic, payload: "before" }),
    disconnectPacket(),
    publishPacket({ topic, payload: "after" }),
    pingreqPacket(),
  );
  assert.deepEqual(await client.closed(), []);
  await observer.expect("publish", { payload: "before" });
  await publishOnce(t, broker, topic, "marker");
  await observer.expect("publish", { payload: "marker" });
});

test("[MQTT-3.14.4-3] DISCONNECT throws the will away", async (t) => {
  const topic = fresh("t");
  const observer = await subscriber(t, broker, topic);
  const client = await broker.connect(t, { will: { topic, payload: "will" } });
  await client.disconnect();
  await publishOnce(t, broker, topic, "marker");
  await observer.expect("publish", { payload: "marker" });
});

// auth.test: enhanced authentication (MQTT 5.0 §3.15, §4.12), which this broker does not offer.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { authPacket, connectPacket } from "../support/wire-build.ts";
import { fresh } from "../support/wire-client.ts";
import { CODE, ended, mqtt5, refused, refusedWith, WRONG } from "./clients.ts";

const { connect, open, tryConnect } = mqtt5(conformanceBroker());

for (const authenticationMethod of ["SCRAM-SHA-256", "x", ""]) {
  test(`[MQTT-4.12.0-1] [MQTT-4.12.0-4] the method "${authenticationMethod}" is refused with 0x8C, with data and without`, async (t) => {
    for (const more of [{}, { authenticationData: Buffer.from([0, 1]) }]) {
      const properties = { authenticationMethod, ...more };
      await refusedWith(await tryConnect(t, { properties }), CODE.badAuthenticationMethod);
    }
  });
}

test("[MQTT-4.13.1-1] authentication data without a method is a protocol error (§3.1.2.11.10)", async (t) => {
  const properties = { authenticationData: Buffer.from([1]) };
  await refused(await tryConnect(t, { properties }), CODE.protocolError);
});

test("[MQTT-4.12.0-6] without a method the broker names none and says no AUTH", async (t) => {
  const { connack } = await connect(t);
  assert.equal(connack.properties.authenticationMethod, undefined);
  assert.equal(connack.properties.authenticationData, undefined);
});

for (const code of [0x18, 0x19, 0x00]) {
  test(`[MQTT-4.12.0-7] [MQTT-4.12.1-2] AUTH with 0x${code.toString(16)} from a client without a method is a protocol error`, async (t) => {
    const client = await connect(t);
    client.sendAuth({ code, properties: { authenticationMethod: "x" } });
    await ended(client, CODE.protocolError);
  });
}

test("[MQTT-4.12.0-7] AUTH without anything is an error, too", async (t) => {
  for (const options of [{}, { code: 0 }, { code: 0x18, properties: {} }]) {
    const client = await connect(t);
    client.sendAuth(options);
    await ended(client, ...WRONG);
  }
});

test("[MQTT-3.15.1-1] AUTH with reserved bits set is malformed", async (t) => {
  for (const flags of [1, 2, 4, 8]) {
    const client = await connect(t);
    client.sendAuth({ flags, code: 0x18, properties: { authenticationMethod: "x" } });
    await ended(client, CODE.malformedPacket, CODE.protocolError);
  }
});

test("[MQTT-3.15.2-1] AUTH with a reason code that is none of its own is refused", async (t) => {
  for (const code of [0x01, 0x17, 0x1a, 0x80, 0xff]) {
    const client = await connect(t);
    client.sendAuth({ code, properties: { authenticationMethod: "x" } });
    await ended(client, ...WRONG);
  }
});

test("[MQTT-3.1.4-6] AUTH behind a CONNECT that is refused changes nothing", async (t) => {
  const client = await open(t);
  const properties = { authenticationMethod: "x" };
  client.send(
    connectPacket({ version: 5, clientId: fresh(), properties }),
    authPacket({ code: 0x18, properties }),
  );
  await refused(client, CODE.badAuthenticationMethod);
});

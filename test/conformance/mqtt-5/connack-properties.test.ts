// connack-properties.test: what CONNACK announces (MQTT 5.0 §3.2.2.3), and that it is so.
// Path: conformance tests → broker. Touches: what a gateway touches.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { fresh } from "../support/wire-client.ts";
import { CODE, ended, kept, mqtt5, NEVER } from "./clients.ts";

const { connect } = mqtt5(conformanceBroker());
const narrow = mqtt5(
  conformanceBroker({
    limits: { keepalive_seconds_max: 1, session_seconds_max: 100, topic_aliases_max: 7 },
  }),
);

const KNOWN = new Set([
  ...["sessionExpiryInterval", "receiveMaximum", "maximumQos", "retainAvailable"],
  ...["maximumPacketSize", "assignedClientIdentifier", "topicAliasMaximum", "reasonString"],
  ...["userProperty", "wildcardSubscriptionAvailable", "subscriptionIdentifierAvailable"],
  ...["sharedSubscriptionAvailable", "serverKeepAlive", "responseInformation"],
  ...["serverReference", "authenticationMethod", "authenticationData"],
]);

test("[MQTT-3.2.2-1] CONNACK holds no property that is not its own, and none that contradicts what the broker does", async (t) => {
  const { properties } = (await connect(t, { clientId: "" })).connack;
  for (const name of Object.keys(properties)) assert.ok(KNOWN.has(name), name);
  for (const name of [
    ...(["retainAvailable", "wildcardSubscriptionAvailable"] as const),
    ...(["subscriptionIdentifierAvailable", "sharedSubscriptionAvailable"] as const),
  ]) {
    assert.ok(properties[name] === undefined || properties[name] === 1, name);
  }
  assert.notEqual(properties.receiveMaximum, 0);
  assert.notEqual(properties.maximumPacketSize, 0);
});

test("[MQTT-3.2.2-9] [MQTT-3.2.2-12] [MQTT-3.2.2-13] no Maximum QoS is announced: QoS 2 and retained messages are taken, in wills too", async (t) => {
  const client = await connect(t, { will: { topic: "w", qos: 2, retain: true } });
  assert.equal(client.connack.properties.maximumQos, undefined);
  await client.publish(fresh("t"), "1", { qos: 2, retain: true });
});

test("[MQTT-3.1.2-28] Response Information is not sent to who does not ask for it", async (t) => {
  for (const properties of [{}, { requestResponseInformation: 0 }]) {
    const { connack } = await connect(t, { properties });
    assert.equal(connack.properties.responseInformation, undefined);
  }
  await connect(t, { properties: { requestResponseInformation: 1 } });
});

test("[MQTT-3.2.2-22] a Keep Alive within the limit is not answered by another one", async (t) => {
  const { connack } = await connect(t, { keepAlive: 60 });
  assert.equal(connack.properties.serverKeepAlive, undefined);
  const { connack: same } = await narrow.connect(t, { keepAlive: 1 });
  assert.equal(same.properties.serverKeepAlive, undefined);
});

suite("by the clock", { concurrency: true }, () => {
  for (const keepAlive of [0, 60]) {
    test(`[MQTT-3.2.2-21] the Server Keep Alive takes the place of ${keepAlive}, and counts`, async (t) => {
      const client = await narrow.connect(t, { keepAlive });
      assert.equal(client.connack.properties.serverKeepAlive, 1);
      const beganMs = performance.now();
      await ended(client, CODE.keepAliveTimeout);
      const tookMs = performance.now() - beganMs;
      assert.ok(tookMs > 1_000 && tookMs < 3_500, `${tookMs} ms`);
    });
  }
});

test("[MQTT-3.1.2-23] an expiry that is granted as it was asked for is not repeated; one that is cut is told (§3.2.2.3.2)", async (t) => {
  const told = async (asked: number) => {
    const { connack } = await narrow.connect(t, kept(fresh(), asked));
    return connack.properties.sessionExpiryInterval;
  };
  for (const asked of [1, 100]) {
    const expiry = await told(asked);
    assert.ok(expiry === undefined || expiry === asked, `${expiry}`);
  }
  for (const asked of [101, NEVER]) assert.equal(await told(asked), 100);
});

test("[MQTT-3.2.2-17] the Topic Alias Maximum is what the settings say", async (t) => {
  const { connack } = await narrow.connect(t);
  assert.equal(connack.properties.topicAliasMaximum, 7);
});

test("[MQTT-3.2.2-19] [MQTT-3.2.2-20] nothing but what is needed is sent to a client that takes small packets", async (t) => {
  const { connack } = await connect(t, {
    properties: { maximumPacketSize: 60, requestProblemInformation: 0 },
  });
  assert.ok(connack.bytes.length <= 60);
  assert.equal(connack.properties.reasonString, undefined);
  assert.equal(connack.properties.userProperty, undefined);
});

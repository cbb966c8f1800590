// exchanges: what the tests of MQTT 3.1.1 do again and again.
// Path: conformance tests of 3.1.1 → [exchanges] → wire-client. Touches: TCP connections.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { ConformanceBroker } from "./broker.ts";
import type { ConnectOptions, PublishOptions } from "./wire-build.ts";
import { fresh, type WireClient } from "./wire-client.ts";
import type { Bytes } from "./wire-properties.ts";
import type { Packet } from "./wire-read.ts";

type Scope = Pick<TestContext, "after">;

/** A client with one subscription. */
export async function subscriber(
  t: Scope,
  broker: ConformanceBroker,
  filter: string,
  qos = 0,
  options: ConnectOptions = {},
): Promise<WireClient> {
  const client = await broker.connect(t, options);
  const { codes } = await client.subscribe(filter, qos);
  assert.deepEqual(codes, [qos]);
  return client;
}

/** The id of a kept session that subscribes to `filter`, and whose client is away. */
export async function absentee(
  t: Scope,
  broker: ConformanceBroker,
  filter: string,
  qos = 1,
): Promise<string> {
  const clientId = fresh("away");
  const client = await subscriber(t, broker, filter, qos, { clientId, clean: false });
  await client.disconnect();
  return clientId;
}

/** Connects a kept session that must be there. */
export async function resume(
  t: Scope,
  broker: ConformanceBroker,
  clientId: string,
): Promise<WireClient> {
  const client = await broker.connect(t, { clientId, clean: false });
  assert.equal(client.connack.sessionPresent, true, `the session of ${clientId} is kept`);
  return client;
}

/** A client that is connected sends this, and the broker closes without a word [MQTT-4.8.0-1]. */
export async function assertCloses(
  t: Scope,
  broker: ConformanceBroker,
  ...parts: (Bytes | string)[]
): Promise<void> {
  const client = await broker.connect(t);
  client.send(...parts);
  assert.deepEqual(await client.closed(), []);
}

/** A client sends this first, and the broker closes without a CONNACK [MQTT-3.1.4-1]. */
export async function assertRefuses(
  t: Scope,
  broker: ConformanceBroker,
  ...parts: (Bytes | string)[]
): Promise<void> {
  const client = await broker.open(t);
  client.send(...parts);
  assert.deepEqual(await client.closed(), []);
}

/** Publishes by a client of its own, until the broker has acknowledged it. */
export async function publishOnce(
  t: Scope,
  broker: ConformanceBroker,
  topic: string,
  payload: string,
  options: Omit<PublishOptions, "topic" | "payload" | "packetId"> = {},
): Promise<void> {
  const client = await broker.connect(t);
  await client.publish(topic, payload, options);
  // With QoS 0 the answer to what follows tells that it was read.
  await client.ping();
  await client.disconnect();
}

/** The retained message that a new subscriber to `topic` gets; undefined if there is none. */
export async function retainedOf(
  t: Scope,
  broker: ConformanceBroker,
  topic: string,
  qos = 2,
): Promise<Packet | undefined> {
  const client = await broker.connect(t);
  // What is retained for the first filter comes before what is retained for the second.
  const marker = fresh("marker");
  await publishOnce(t, broker, marker, "end", { qos: 1, retain: true });
  client.sendSubscribe({ packetId: 1, filters: [{ filter: topic, qos }] });
  client.sendSubscribe({ packetId: 2, filters: [{ filter: marker, qos }] });
  const packets: Packet[] = [];
  for (let packet = await client.next(); packet.topic !== marker; packet = await client.next()) {
    packets.push(packet);
  }
  await publishOnce(t, broker, marker, "", { qos: 1, retain: true });
  const retained = packets.filter(({ name }) => name === "publish");
  assert.ok(retained.length <= 1, `${topic} has one retained message at most`);
  return retained[0];
}

/** "0", "1", … */
export function numbers(count: number): string[] {
  return Array.from({ length: count }, (_, index) => String(index));
}

export function payloads(packets: readonly Packet[]): string[] {
  return packets.map(({ payload }) => payload);
}

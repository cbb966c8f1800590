// clients: what the tests of MQTT 5.0 have in common: clients of level 5, and how they may end.
// Path: MQTT 5.0 conformance tests → [clients] → wire-client. Touches: what the wire-client touches.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { ConformanceBroker } from "../support/broker.ts";
import type { ConnectOptions } from "../support/wire-build.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";
import type { Properties } from "../support/wire-properties.ts";

type Scope = Pick<TestContext, "after">;

/** Reason codes (§2.4), by the names that the specification gives them. */
export const CODE = {
  success: 0x00,
  disconnectWithWill: 0x04,
  noMatchingSubscribers: 0x10,
  noSubscriptionExisted: 0x11,
  unspecified: 0x80,
  malformedPacket: 0x81,
  protocolError: 0x82,
  unsupportedProtocolVersion: 0x84,
  clientIdentifierNotValid: 0x85,
  badUserNameOrPassword: 0x86,
  notAuthorized: 0x87,
  serverBusy: 0x89,
  serverShuttingDown: 0x8b,
  badAuthenticationMethod: 0x8c,
  keepAliveTimeout: 0x8d,
  sessionTakenOver: 0x8e,
  topicFilterInvalid: 0x8f,
  topicNameInvalid: 0x90,
  packetIdentifierNotFound: 0x92,
  receiveMaximumExceeded: 0x93,
  topicAliasInvalid: 0x94,
  packetTooLarge: 0x95,
  messageRateTooHigh: 0x96,
  quotaExceeded: 0x97,
  useAnotherServer: 0x9c,
} as const;

/** What the specification calls malformed and what it calls a protocol error lie close together. */
export const WRONG = [CODE.malformedPacket, CODE.protocolError] as const;

/** The Session Expiry Interval that never ends (§3.1.2.11.2). */
export const NEVER = 0xffff_ffff;

export interface Mqtt5 {
  /** A client that was accepted. */
  connect(t: Scope, options?: ConnectOptions): Promise<WireClient>;
  /** A connection without CONNECT. */
  open(t: Scope): Promise<WireClient>;
  /** A connection on which a CONNECT was said, whatever the answer is. */
  tryConnect(t: Scope, options?: ConnectOptions): Promise<WireClient>;
}

/** Clients of level 5 at that broker. */
export function mqtt5(broker: ConformanceBroker): Mqtt5 {
  const open = (t: Scope) => broker.open(t, 5);
  return {
    connect: (t, options = {}) => broker.connect(t, { version: 5, ...options }),
    open,
    async tryConnect(t, options = {}) {
      const client = await open(t);
      client.sendConnect({ clientId: fresh(), ...options });
      return client;
    },
  };
}

/** A session that is kept for so long after its connection, and resumed where there is one. */
export function kept(
  clientId: string,
  sessionExpiryInterval = 100,
  more: Properties = {},
): ConnectOptions & { readonly properties: Properties } {
  return { clientId, clean: false, properties: { sessionExpiryInterval, ...more } };
}

/**
 * The broker said DISCONNECT with one of these codes, closed, and said nothing else: nothing behind
 * it [MQTT-3.14.4-1], [MQTT-3.14.4-2], and no Session Expiry Interval in it [MQTT-3.14.2-2].
 */
export async function ended(client: WireClient, ...codes: readonly number[]): Promise<Properties> {
  const packets = await client.closed();
  assert.deepEqual(
    packets.map(({ name }) => name),
    ["disconnect"],
  );
  const code = packets[0]?.code ?? -1;
  assert.ok(codes.includes(code), `DISCONNECT ${said([code])} and not ${said(codes)}`);
  const properties = packets[0]?.properties ?? {};
  assert.equal(properties.sessionExpiryInterval, undefined, "[MQTT-3.14.2-2]");
  return properties;
}

/**
 * The broker refused a CONNECT: it closed [MQTT-3.2.2-7], without DISCONNECT [MQTT-3.14.0-1], and if
 * it said CONNACK then once, with one of these codes, and without a session [MQTT-3.2.2-6].
 */
export async function refused(client: WireClient, ...codes: readonly number[]): Promise<number> {
  const packets = await client.closed();
  const names = packets.map(({ name }) => name);
  assert.ok(names.length === 0 || names.join() === "connack", `it said ${names.join()}`);
  for (const { code, sessionPresent } of packets) {
    assert.ok(codes.includes(code), `CONNACK ${said([code])} and not ${said(codes)}`);
    assert.equal(sessionPresent, false);
  }
  return packets.length;
}

/** As `refused`, where the client is told why. */
export async function refusedWith(client: WireClient, ...codes: readonly number[]): Promise<void> {
  assert.equal(await refused(client, ...codes), 1, "no CONNACK came");
}

/** `subscriber` was sent nothing of what `publisher` has said: what is said next comes next. */
export async function nothingFrom(publisher: WireClient, subscriber: WireClient): Promise<void> {
  const topic = `end/${fresh()}`;
  await subscriber.subscribe(topic);
  await publisher.publish(topic, "end");
  await subscriber.expect("publish", { topic, payload: "end" });
  await subscriber.unsubscribe(topic);
}

function said(codes: readonly number[]): string {
  return codes.map((code) => `0x${code.toString(16)}`).join(" or ");
}

// brokers: clients of one cloud broker of a chain, past HAProxy, so that a test says which broker it is.
// Path: journeys → [brokers] → wire-client, mqtt.js → broker. Touches: TCP connections.

import assert from "node:assert/strict";
import { connect } from "node:net";
import type { TestContext } from "node:test";
import { type IClientOptions, MqttClient } from "mqtt";
import type { Chain } from "../../../scripts/chain/chain.ts";
import type { ConnectOptions } from "../../conformance/support/wire-build.ts";
import { fresh, WireClient } from "../../conformance/support/wire-client.ts";
import { proxyHeader } from "../../support/proxy-header.ts";
import { waitFor } from "../../support/wait-for.ts";
import { collect, type Received } from "./journey.ts";

export type BrokerNumber = 1 | 2;

export const BROKERS: readonly BrokerNumber[] = [1, 2];
export const OTHER: Readonly<Record<BrokerNumber, BrokerNumber>> = { 1: 2, 2: 1 };

/** Anonymous clients are let in from loopback alone. */
const FROM_LOOPBACK = proxyHeader({ ip: "127.0.0.1" });

function portOf({ ports }: Chain, at: BrokerNumber): number {
  return at === 1 ? ports.cloud1 : ports.cloud2;
}

/** A connection of MQTT 5.0 to broker `at` on which nothing was said but by the balancer. */
export async function openAt(t: TestContext, chain: Chain, at: BrokerNumber): Promise<WireClient> {
  const client = await WireClient.open(t, portOf(chain, at), 5);
  client.send(FROM_LOOPBACK);
  return client;
}

/** A client that broker `at` has accepted, with a session of before or, by default, without. */
export async function connectAt(
  t: TestContext,
  chain: Chain,
  at: BrokerNumber,
  options: ConnectOptions = {},
  sessionPresent = false,
): Promise<WireClient> {
  const client = await openAt(t, chain, at);
  client.sendConnect({ clientId: fresh(), ...options });
  await client.expect("connack", { code: 0, sessionPresent });
  return client;
}

export interface Automatic {
  readonly client: MqttClient;
  /** All that it received, from its CONNACK on. */
  readonly received: Received[];
}

/** A client of broker `at` that acknowledges what it gets, and comes back when it is cut off. */
export async function automaticAt(
  t: TestContext,
  chain: Chain,
  at: BrokerNumber,
  options: IClientOptions = {},
): Promise<Automatic> {
  const open = () => {
    const socket = connect(portOf(chain, at), "127.0.0.1");
    socket.write(FROM_LOOPBACK);
    return socket;
  };
  const common = { protocolVersion: 5, reconnectPeriod: 200, clientId: fresh() } as const;
  const client = new MqttClient(open, { ...common, ...options });
  t.after(() => client.endAsync(true));
  const received = collect(client);
  client.on("error", () => {});
  await waitFor(`broker ${at} to accept it`, () => client.connected);
  return { client, received };
}

/** One message at QoS 1 by a client of its own at broker `at`; resolves when it is acknowledged. */
export async function publishAt(
  t: TestContext,
  chain: Chain,
  at: BrokerNumber,
  topic: string,
  payload: string,
  options: { readonly retain?: boolean } = {},
): Promise<void> {
  const client = await connectAt(t, chain, at);
  const { code } = (await client.publish(topic, payload, { qos: 1, ...options })) ?? {};
  assert.ok(code !== undefined && code < 0x80, `PUBACK ${code}`);
  await client.disconnect();
}

/** Payloads "0", "1", … of so many messages. */
export function numbers(count: number): string[] {
  return Array.from({ length: count }, (_, index) => String(index));
}

/** Sorted as numbers, to compare what several have received together. */
export function sorted(payloads: readonly string[]): string[] {
  return payloads.toSorted((a, b) => Number(a) - Number(b));
}

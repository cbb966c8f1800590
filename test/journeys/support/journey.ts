// journey: what the journeys share: a chain, a consumer in the cloud, and what the landing holds.
// Path: journeys → [journey] → chain. Touches: what a chain touches.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { Redis } from "ioredis";
import { connect, type IClientOptions, type IPublishPacket, type MqttClient } from "mqtt";
import { Chain, type ChainOptions } from "../../../scripts/chain/chain.ts";
import { GATEWAY } from "../../../scripts/chain/folder.ts";
import { freePorts } from "../../../scripts/chain/ports.ts";
import { type Landed, landedIn } from "../../../scripts/ordeal/landed.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

/** A chain on free ports, from the sources, that ends with the test. */
export async function startChain(
  t: TestContext,
  options: Partial<ChainOptions> = {},
): Promise<Chain> {
  const folder = temporaryFolder(t);
  const chain = await Chain.start({
    folder,
    ports: await freePorts(),
    program: "sources",
    say: (line) => t.diagnostic(line),
    ...options,
  });
  t.after(() => chain.stop());
  return chain;
}

export interface ClientOptions extends IClientOptions {
  /** Takes what the client receives from its CONNACK on: a kept session may have something waiting. */
  readonly received?: Received[];
}

/** A client of the gateway; ends with the test. */
export function connectGateway(
  t: TestContext,
  chain: Chain,
  options: ClientOptions = {},
): Promise<MqttClient> {
  return connectTo(t, chain.urls.gateway, options);
}

/** A client of the cluster's one address, by TLS; ends with the test. */
export function connectCloud(
  t: TestContext,
  chain: Chain,
  { by = "tcp", ...options }: ClientOptions & { by?: "tcp" | "websocket" } = {},
): Promise<MqttClient> {
  const ca = readFileSync(chain.certificates.ca);
  if (by === "tcp") return connectTo(t, chain.urls.cloud, { ca, ...options });
  return connectTo(t, chain.urls.cloudWs, { wsOptions: { ca }, ...options });
}

/** A client of the broker at `url`; ends with the test. */
export async function connectTo(
  t: TestContext,
  url: string,
  { received, ...options }: ClientOptions,
): Promise<MqttClient> {
  const client = connect(url, { protocolVersion: 4, reconnectPeriod: 500, ...options });
  t.after(() => client.endAsync(true));
  if (received) collect(client, received);
  client.on("error", () => {});
  await new Promise<void>((resolve, reject) => {
    client.once("connect", () => resolve()).once("error", reject);
  });
  return client;
}

export interface Received {
  readonly topic: string;
  readonly payload: string;
  readonly qos: number;
  readonly retain: boolean;
  /** What a client of MQTT 5.0 is told beside it; empty where nothing was. */
  readonly properties: NonNullable<IPublishPacket["properties"]>;
}

/** Collects what a client receives, from now on. */
export function collect(client: MqttClient, all: Received[] = []): Received[] {
  client.on("message", (topic, payload, { qos, retain, properties = {} }) =>
    all.push({ topic, payload: payload.toString(), qos, retain, properties }),
  );
  return all;
}

/** The payloads that the landing holds, in its order. */
export async function landedPayloads(chain: Chain, topic: string): Promise<string[]> {
  const payloads: string[] = [];
  for (const { record } of await landedRecords(chain)) {
    if (record.kind === "message" && record.message.topic === topic) {
      payloads.push(new TextDecoder().decode(record.message.payload));
    }
  }
  return payloads;
}

/** Every sequence of every lane and epoch stands in the landing once, without a hole. */
export async function assertLandedOnce(chain: Chain): Promise<void> {
  assertOnce(await landedRecords(chain));
}

/** Every sequence of every lane and epoch stands among `records` once, without a hole. */
export function assertOnce(records: readonly Landed[]): void {
  const next = new Map<string, number>();
  for (const { lane, epoch, first, last } of records) {
    const key = `${lane}:${epoch}`;
    assert.equal(first, next.get(key) ?? 1, `${key} goes on without a hole or a repeat`);
    next.set(key, last + 1);
  }
}

async function landedRecords(chain: Chain): Promise<Landed[]> {
  const redis = new Redis({ ...chain.redis("landing"), maxRetriesPerRequest: null });
  try {
    return await landedIn(redis, GATEWAY);
  } finally {
    redis.disconnect();
  }
}

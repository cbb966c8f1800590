// memory.test: whatever clients make the broker remember, it holds no more than the service may.
// Path: test → a gateway as a process, with the limits as they ship. Touches: what that touches.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { publishPacket, subscribePacket } from "../conformance/support/wire-build.ts";
import type { WireClient } from "../conformance/support/wire-client.ts";
import { MEMORY_BYTES_MAX, type Watched, watchedGateway } from "./support/watched-gateway.ts";

const MIB = 2 ** 20;
/** What a broker from its sources holds idle beyond the one that ships. */
const SOURCES_BYTES = 64 * MIB;
const ANSWER_MS_MAX = 30_000;
const TOPIC_BYTES = 60_000;

/** 100 levels, the most that a topic may have, and no other topic's beyond the first one. */
function deep(number: number): string {
  return `${number}${"/a".repeat(99)}`;
}

function long(number: number): string {
  return String(number).padEnd(TOPIC_BYTES, "x");
}

/**
 * Whatever becomes of those who attack, who may be refused at any time: the gateway lives, still
 * answers, and held no more than it may.
 */
async function assertBounded(t: TestContext, attack: (gateway: Watched) => Promise<void>) {
  const gateway = await watchedGateway(t);
  const fault = await attack(gateway).then(
    () => undefined,
    (cause: unknown) => cause,
  );
  if (fault) t.diagnostic(`the attack ended early: ${fault}`);
  await gateway.assertAnswers();
  const peak = gateway.peakBytes() - SOURCES_BYTES;
  t.diagnostic(`peak, without what sources need: ${(peak / MIB).toFixed(1)} MiB`);
  assert.deepEqual(gateway.faults(), []);
  assert.ok(peak < MEMORY_BYTES_MAX, `the process held ${peak} bytes`);
}

/** Sends `count` packets; resolves when the broker has read them, or has ended the connection. */
async function pour(client: WireClient, count: number, make: (number: number) => Buffer) {
  const atOnce = 100;
  for (let from = 0; from < count && !client.isClosed; from += atOnce) {
    client.send(...Array.from({ length: atOnce }, (_, index) => make(from + index)));
    client.sendPingreq();
    for (let name = ""; name !== "pingresp"; ) {
      const packet = await client.next(ANSWER_MS_MAX).catch((fault) => {
        if (!client.isClosed) throw fault;
      });
      if (!packet) return;
      name = packet.name;
    }
  }
}

test("ever new long topics", (t) =>
  assertBounded(t, async (gateway) => {
    const subscriber = await gateway.connect();
    await subscriber.subscribe("nothing/+", 0);
    const publisher = await gateway.connect();
    await pour(publisher, 6_000, (number) => publishPacket({ topic: long(number) }));
  }));

test("retained messages on topics as deep as can be", (t) =>
  assertBounded(t, async (gateway) => {
    const publisher = await gateway.connect({ version: 5 });
    const make = (number: number) =>
      publishPacket({ topic: deep(number), payload: "x", retain: true }, 5);
    await pour(publisher, 20_000, make);
  }));

test("subscriptions of five clients to filters as deep as can be", (t) =>
  assertBounded(t, async (gateway) => {
    for (let number = 0; number < 5; number += 1) {
      const client = await gateway.connect({ version: 5 });
      const make = (index: number) =>
        subscribePacket({ packetId: 1, filters: [{ filter: deep(number * 1_000 + index) }] }, 5);
      await pour(client, 1_000, make);
    }
  }));

test("subscriptions of five kept sessions to filters as long as can be", (t) =>
  assertBounded(t, async (gateway) => {
    for (let number = 0; number < 5; number += 1) {
      const properties = { sessionExpiryInterval: 600 };
      const client = await gateway.connect({ version: 5, clean: false, properties });
      const make = (index: number) =>
        subscribePacket({ packetId: 1, filters: [{ filter: long(number * 1_000 + index) }] }, 5);
      await pour(client, 200, make);
    }
  }));

test("topic aliases of a hundred clients for topics as long as can be", (t) =>
  assertBounded(t, async (gateway) => {
    for (let number = 0; number < 100; number += 1) {
      const client = await gateway.connect({ version: 5 });
      const make = (index: number) => {
        const properties = { topicAlias: (index % 32) + 1 };
        return publishPacket({ topic: long(number * 100 + index), properties }, 5);
      };
      await pour(client, 100, make);
    }
  }));

test("a subscriber that freezes while it gets retained messages, and what comes meanwhile", (t) =>
  assertBounded(t, async (gateway) => {
    const publisher = await gateway.connect();
    const payload = "x".repeat(200_000);
    const retained = (number: number) =>
      publishPacket({ topic: `r/${number}`, payload, retain: true });
    await pour(publisher, 100, retained);
    for (const qos of [0, 1]) {
      const frozen = await gateway.connect({ version: 5 });
      frozen.pause();
      frozen.sendSubscribe({ packetId: 1, filters: [{ filter: "r/#", qos }] });
      await pour(publisher, 2_000, () => publishPacket({ topic: "r/live", payload, qos }));
    }
  }));

test("a thousand connections with half a packet each", (t) =>
  assertBounded(t, async (gateway) => {
    const half = publishPacket({ topic: "a", payload: "x".repeat(250_000) }).subarray(0, 240_000);
    for (let number = 0; number < 1_000; number += 1) {
      const client = await gateway.connect();
      client.send(half);
    }
  }));

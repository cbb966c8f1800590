// keep-alive.test: the broker misses a silent client, and no other (MQTT 3.1.1 §3.1.2.10).

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformanceBroker } from "../support/broker.ts";
import { subscriber } from "../support/exchanges.ts";
import { fresh, type WireClient } from "../support/wire-client.ts";

const broker = conformanceBroker();

// One and a half times one second, and what a busy machine may add.
const LEAST_MS = 1_400;
const MOST_MS = 3_000;

/** How long the broker left the connection open from now on. */
async function livedMs(client: WireClient): Promise<number> {
  const start = performance.now();
  await client.closed();
  return performance.now() - start;
}

test("keep alive", { concurrency: true }, async (t) => {
  await Promise.all([
    t.test(
      "[MQTT-3.1.2-24] a silent client is disconnected after 1.5 times its keep alive, and its will published",
      async (t) => {
        const topic = fresh("t");
        const observer = await subscriber(t, broker, topic);
        const will = { topic, payload: "will" };
        const client = await broker.connect(t, { keepAlive: 1, will });
        const lived = await livedMs(client);
        assert.ok(lived > LEAST_MS && lived < MOST_MS, `after ${lived} ms`);
        await observer.expect("publish", { payload: "will" });
      },
    ),

    t.test(
      "[MQTT-3.1.2-24] what the broker sends does not stand for what the client does not",
      async (t) => {
        const topic = fresh("t");
        const client = await subscriber(t, broker, topic, 0, { keepAlive: 1 });
        const publisher = await broker.connect(t);
        const timer = setInterval(() => publisher.sendPublish({ topic }), 100);
        const lived = await livedMs(client).finally(() => clearInterval(timer));
        assert.ok(lived > LEAST_MS && lived < MOST_MS, `after ${lived} ms`);
      },
    ),

    t.test("[MQTT-3.1.2-24] a part of a packet does not stand for a packet", async (t) => {
      const client = await broker.connect(t, { keepAlive: 1 });
      client.send("30 7f 00 7d");
      const timer = setInterval(() => client.isClosed || client.send("61"), 100);
      const lived = await livedMs(client).finally(() => clearInterval(timer));
      assert.ok(lived > LEAST_MS && lived < MOST_MS, `after ${lived} ms`);
    }),

    t.test(
      "[MQTT-3.1.2-24] any packet keeps the connection: PUBLISH, PUBACK, SUBSCRIBE or PINGREQ",
      async (t) => {
        const client = await broker.connect(t, { keepAlive: 1 });
        const silent = await broker.connect(t, { keepAlive: 1 });
        const says = [
          () => client.sendPublish({ topic: fresh("t") }),
          () => client.sendSubscribe({ packetId: 1, filters: [{ filter: fresh("t") }] }),
          () => client.sendUnsubscribe({ packetId: 2, filters: ["a"] }),
          () => client.sendPublish({ topic: fresh("t"), qos: 1, packetId: 3 }),
          () => client.sendPingreq(),
        ];
        let turn = 0;
        const timer = setInterval(() => says[turn++ % says.length]?.(), 500);
        await silent.closed();
        const second = await broker.connect(t, { keepAlive: 1 });
        await second.closed().finally(() => clearInterval(timer));
        assert.equal(client.isClosed, false);
      },
    ),

    t.test("[MQTT-3.1.2-24] a client without keep alive, or with a long one, stays", async (t) => {
      const clients = [0, 60, 65_535].map((keepAlive) => broker.connect(t, { keepAlive }));
      const all = await Promise.all(clients);
      const short = await broker.connect(t, { keepAlive: 1 });
      await short.closed();
      for (const client of all) await client.ping();
    }),
  ]);
});

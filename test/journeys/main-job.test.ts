import assert from "node:assert/strict";
import { test } from "node:test";
import { DEVICE } from "../../scripts/chain/folder.ts";
import { waitFor } from "../support/wait-for.ts";
import { collect, connectCloud, startChain } from "./support/journey.ts";

const SERIAL = `from/gw-001/serial/${DEVICE}`;

test("a device's line reaches a consumer in the cloud, and a command the device", async (t) => {
  const chain = await startChain(t, { deviceIntervalMs: 200 });
  const consumer = await connectCloud(t, chain);
  const all = collect(consumer);
  await consumer.subscribeAsync("from/#", { qos: 1 });

  await t.test("the line arrives by TLS, at QoS 1, with its payload intact", async () => {
    const found = await waitFor(
      "a temperature",
      () => all.find(({ topic }) => topic === `${SERIAL}/temperature`),
      20_000,
    );
    assert.match(found.payload, /^\d+\.\d$/);
    assert.equal(found.qos, 1);
    assert.equal(found.retain, false);
    const counts = () =>
      all.filter(({ topic }) => topic === `${SERIAL}/count`).map(({ payload }) => Number(payload));
    await waitFor("ten lines", () => counts().length >= 10, 20_000);
    const [first = 0] = counts();
    assert.deepEqual(
      counts(),
      counts().map((_, index) => first + index),
      "each line once, in order",
    );
  });

  await t.test("a consumer by WebSocket gets the same", async () => {
    const late = await connectCloud(t, chain, { by: "websocket" });
    const lines = collect(late);
    await late.subscribeAsync(`${SERIAL}/count`, { qos: 1 });
    await waitFor("a line", () => lines.length > 0);
  });

  await t.test("a command arrives as bytes on the pty, and its answer in the cloud", async () => {
    const topic = `to/gw-001/serial/${DEVICE}/set`;
    await consumer.publishAsync(topic, "led=on", { qos: 1 });
    const device = chain.part("device");
    await waitFor("the bytes", () => device.logged().includes("command: led=on\n"), 10_000);
    await waitFor("the answer", () =>
      all.find((it) => it.topic === `${SERIAL}/led` && it.payload === "on"),
    );
  });

  await t.test(
    "unplugged, the device is offline in the cloud within 5 s; plugged in, online",
    async () => {
      const availability = () =>
        all.filter(({ topic }) => topic === `${SERIAL}/availability`).at(-1)?.payload;
      await waitFor("online", () => availability() === "online");
      await chain.part("device").stop("SIGKILL");
      await waitFor("offline", () => availability() === "offline", 5_000);
      await chain.part("device").start();
      await waitFor("online again", () => availability() === "online", 15_000);
      const late = await connectCloud(t, chain);
      const retained = collect(late);
      await late.subscribeAsync(`${SERIAL}/availability`, { qos: 1 });
      await waitFor("the retained one", () => retained.length > 0);
      assert.deepEqual([retained[0]?.payload, retained[0]?.retain], ["online", true]);
    },
  );

  await t.test(
    "stopped, the gateway ends with 0 and the cloud knows why; started, it is online",
    async () => {
      const presence = () => {
        const last = all.filter(({ topic }) => topic === "from/gw-001/sluice/status").at(-1);
        return last && JSON.parse(last.payload);
      };
      const exit = await chain.part("gateway").stop();
      assert.equal(exit?.code, 0);
      await waitFor("offline", () => presence()?.state === "offline", 5_000);
      assert.equal(presence().why, "stopped on request");
      await chain.part("gateway").start();
      await waitFor("online", () => presence()?.state === "online", 10_000);
    },
  );
});

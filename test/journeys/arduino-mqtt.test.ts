// arduino-mqtt.test: real firmware that speaks MQTT over its UART, in simavr, at a real broker.
// Path: Uno ─pty─ firmware-bridge ─▶ gateway ─▶ subscriber, and back. Touches: loopback ports, a
// pseudo-terminal, child processes, a temporary folder; compilers, once.

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import { Uno } from "../firmware-bridge/peers/avr/avr.ts";
import { waitFor } from "../support/wait-for.ts";
import { end, START_MS_MAX, startBridge } from "./support/bridge.ts";
import { freePlace, startGateway } from "./support/gateway.ts";

async function running(t: TestContext) {
  const place = await freePlace(t);
  const uno = await Uno.with(t, "mqtt");
  const broker = `mqtt://127.0.0.1:${place.mqttPort}`;
  const links = [{ path: uno.path, driver: "mqtt", mqtt: { client_id: "uno" } }];
  const start = () => startGateway(t, place, { links, bridge: { broker } });
  const gateway = start();
  await waitFor("the gateway", () => gateway.status(), START_MS_MAX);
  const options = { clientId: "witness", clean: false, reconnectPeriod: 100 };
  const witness = await connectAsync(broker, options);
  t.after(() => witness.endAsync(true));
  const heard: string[] = [];
  witness.on("message", (topic, payload) => heard.push(`${topic} ${payload}`));
  await witness.subscribeAsync("uno/#", { qos: 1 });
  await startBridge(t, join(place.folder, "sluice.toml"), 1);
  const hears = (text: string, times = 1, mostMs = START_MS_MAX) => {
    const isHeard = () => heard.filter((it) => it === text).length >= times;
    return waitFor(text, isHeard, mostMs).catch((fault) => {
      assert.fail(`${fault}\n${heard.join("\n")}`);
    });
  };
  return { uno, gateway, start, witness, heard, hears };
}

test("an Arduino's counts all reach the broker through its kill -9, its reset and unplugging are told", async (t) => {
  const { uno, gateway, start, witness, heard, hears } = await running(t);
  await hears("uno/count 3");
  await witness.publishAsync("uno/lamp", "on", { qos: 1 });
  await hears("uno/lamp/state on");

  await end(gateway.child);
  const next = start();
  await waitFor("the gateway", () => next.status(), START_MS_MAX);
  const counts = () => heard.filter((it) => it.startsWith("uno/count ")).map((it) => it.slice(10));
  const before = Number(counts().at(-1));
  await hears(`uno/count ${before + 4}`);
  const distinct = [...new Set(counts())].map(Number);
  assert.deepEqual(
    distinct,
    distinct.map((_, index) => index + 1),
  );

  const gone = heard.filter((it) => it === "uno/state gone").length;
  uno.reset();
  await hears("uno/state gone", gone + 1);
  await hears("uno/count 1", 2);
  await uno.unplug();
  await hears("uno/state gone", gone + 2, 1_000);
});

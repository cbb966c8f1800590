// mysensors.test: a MySensors gateway on a serial port, its nodes at the broker, through kill -9.
// Path: pty or tcp ─ firmware-bridge ─▶ gateway ─▶ subscriber, and back. Touches: loopback ports, a
// pseudo-terminal, child processes, a temporary folder.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import { Pty } from "../support/pty.ts";
import { waitFor } from "../support/wait-for.ts";
import { end, START_MS_MAX, startBridge } from "./support/bridge.ts";
import { freePlace, type Place, startGateway } from "./support/gateway.ts";

/** A gateway in a place of its own, and the link to it; `where` is its place in the settings. */
async function running(t: TestContext, where: Record<string, string>, place: Place) {
  const broker = `mqtt://127.0.0.1:${place.mqttPort}`;
  const nodes = [{ id: 7, name: "greenhouse" }];
  const links = [{ ...where, device: "radio", driver: "mysensors", mysensors: { nodes } }];
  const gateway = startGateway(t, place, { links, bridge: { broker } });
  await waitFor("the gateway", () => gateway.status(), START_MS_MAX);
  const client = await connectAsync(broker);
  t.after(() => client.endAsync(true));
  const heard: string[] = [];
  client.on("message", (topic, payload) => heard.push(`${topic} ${payload}`));
  await client.subscribeAsync("serial/#", { qos: 1 });
  const start = () => startBridge(t, join(place.folder, "sluice.toml"), 1);
  const hears = (text: string) =>
    waitFor(text, () => heard.includes(text), START_MS_MAX).catch((fault) => {
      assert.fail(`${fault}\n${heard.join("\n")}`);
    });
  return { client, start, hears, bridge: await start() };
}

test("carries nodes' values to the broker and commands to nodes, and gives no id twice", async (t) => {
  const place = await freePlace(t);
  const path = join(place.folder, "port");
  const pty = await Pty.open(t);
  await pty.linkAs(path);
  const { client, start, hears, bridge } = await running(t, { path }, place);
  const told = (line: string) =>
    waitFor(line, () => pty.received.toString().includes(`${line}\n`), START_MS_MAX);
  await told("255;255;3;0;20;");
  pty.write("0;255;3;0;14;Gateway startup complete.\n7;255;0;0;17;2.3.2\n");
  await hears("serial/radio/availability online");
  await hears("serial/greenhouse/availability online");
  pty.write("7;1;1;0;0;21.5\n");
  await hears("serial/greenhouse/1/temp 21.5");

  await client.publishAsync("serial/greenhouse/set/2/status", "1", { qos: 1 });
  await told("7;2;1;1;2;1");
  pty.write("7;2;1;1;2;1\n");
  await hears('serial/greenhouse/result {"command":"set/2/status","state":"done"}');

  pty.write("255;255;3;0;3;\n");
  await told("255;255;3;0;4;1");
  await end(bridge);
  await hears("serial/greenhouse/availability offline");
  await client.publishAsync("serial/greenhouse/set/2/status", "0", { qos: 1 });
  await start();
  pty.write("255;255;3;0;3;\n");
  await told("255;255;3;0;4;2");
  pty.write("7;1;1;0;0;22\n");
  await hears("serial/greenhouse/1/temp 22");
  // Sent while nobody was there.
  await told("7;2;1;1;2;0");
});

test("speaks to a gateway that is on the network instead of a port", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(address && typeof address === "object");
  const connected = once(server, "connection");
  const where = { address: `tcp://127.0.0.1:${address.port}` };
  const { client, hears } = await running(t, where, await freePlace(t));
  const [gateway] = (await connected) as [Socket];
  t.after(() => {
    gateway.destroy();
    server.close();
  });
  let told = "";
  gateway.on("data", (bytes) => {
    told += bytes;
  });
  gateway.write("7;255;0;0;17;2.3.2\n7;1;1;0;0;21.5\n");
  await hears("serial/greenhouse/1/temp 21.5");
  await client.publishAsync("serial/greenhouse/set/2/status", "1", { qos: 1 });
  await waitFor("the command", () => told.includes("7;2;1;1;2;1\n"), START_MS_MAX);
});

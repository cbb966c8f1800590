// replug.test: a device that is unplugged and plugged in again and again while it speaks.
// Path: pty → firmware-bridge → gateway → subscriber. Touches: ptys, processes, loopback ports.

import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Pty } from "../support/pty.ts";
import { waitFor } from "../support/wait-for.ts";
import { START_MS_MAX, startBridge } from "./support/bridge.ts";
import { freePlace, startGateway } from "./support/gateway.ts";
import { collect, connectTo } from "./support/journey.ts";

const PLUGS = process.env.SLUICE_TEST_LONG ? 200 : 20;
/** Of one plug, before it is pulled; as many are under way then. */
const LINES_LEAST = 50;
/** The first connections are made by then. */
const WARM_PLUGS = 10;

test(`loses no line that it took, and leaks nothing, over ${PLUGS} unplugs at full flow`, async (t) => {
  const place = await freePlace(t);
  const port = join(place.folder, "port");
  const gateway = startGateway(t, place, {
    bridge: { broker: `mqtt://127.0.0.1:${place.mqttPort}` },
    links: [{ path: port, device: "box" }],
  });
  await waitFor("the gateway", () => gateway.status(), START_MS_MAX);
  const client = await connectTo(t, `mqtt://127.0.0.1:${place.mqttPort}`, {});
  const all = collect(client);
  await client.subscribeAsync("serial/box/line", { qos: 1 });
  let pty = await Pty.open(t);
  await pty.linkAs(port);
  const { pid = 0 } = await startBridge(t, join(place.folder, "sluice.toml"), 1);
  const descriptors = () => readdirSync(`/proc/${pid}/fd`).length;
  let descriptorsMost = 0;
  for (let plug = 1; plug <= PLUGS; plug += 1) {
    const quiet = speak(pty, plug);
    const heard = () => all.filter(({ payload }) => payload.startsWith(`${plug} `)).length;
    await waitFor(`the lines of plug ${plug}`, () => heard() >= LINES_LEAST, 20_000);
    // As udev does.
    rmSync(port);
    await pty.unplug();
    await quiet();
    assertWhole(all.splice(0), plug);
    if (plug <= WARM_PLUGS) descriptorsMost = Math.max(descriptorsMost, descriptors());
    pty = await Pty.open(t);
    await pty.linkAs(port);
  }
  assert.ok(descriptors() <= descriptorsMost, `${descriptors()} open, at first ${descriptorsMost}`);
});

/** Says numbered lines as fast as the port takes them; the function that it gives ends it. */
function speak(pty: Pty, plug: number): () => Promise<void> {
  let isOver = false;
  const ended = (async () => {
    for (let line = 1; !isOver; line += 20) {
      const lines = Array.from({ length: 20 }, (_, index) => `${plug} ${line + index}\n`);
      pty.write(lines.join(""));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  })();
  return () => {
    isOver = true;
    return ended;
  };
}

/** Each line once, in order, from the first that was heard: before that the port was not open. */
function assertWhole(messages: readonly { readonly payload: string }[], plug: number): void {
  const lines = messages.filter(({ payload }) => payload.startsWith(`${plug} `));
  const numbers = lines.map(({ payload }) => Number(payload.split(" ")[1]));
  const [first = 0] = numbers;
  const hole = numbers.find((number, index) => number !== first + index);
  assert.equal(hole, undefined, `plug ${plug} goes on from ${first} without a hole or a repeat`);
}

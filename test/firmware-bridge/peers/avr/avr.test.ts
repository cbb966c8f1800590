// avr.test: the Uno in simavr does what a real one does: it runs, listens, is reset and is flashed.
// Path: test → [avr]. Touches: pseudo-terminals; runs the compilers, socat and avrdude.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { connectAsync } from "mqtt";
import { TestBroker } from "../../../support/test-broker.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { PeerProcess } from "../peer-process.ts";
import { AVRDUDE_ARGUMENTS, sketchHex, Uno } from "./avr.ts";

/** socat with the port open, ready to hear and to speak. */
function opened(t: Parameters<typeof PeerProcess.start>[0], path: string): Promise<PeerProcess> {
  return PeerProcess.start(t, "socat", ["socat", "-", `FILE:${path},raw,echo=0`]);
}

test("the weather station tells its readings, and switches its lamp when told to", async (t) => {
  const uno = await Uno.with(t, "lines");
  const port = await opened(t, uno.path);
  await port.says(/^temperature=2\d\.\d humidity=40\r$/);
  port.tell("led=on");
  await port.says(/^led=on\r$/);
  port.tell("coffee");
  await port.says(/^error=unknown command=coffee\r$/);
});

test("Arduino's own example runs as it is, and tells the bytes of an empty memory", async (t) => {
  const uno = await Uno.with(t, "eeprom-read");
  const port = await opened(t, uno.path);
  await port.says(/^\d+\t255\r$/);
});

test("the station keeps the time of the wall", async (t) => {
  const uno = await Uno.with(t, "lines");
  const port = await opened(t, uno.path);
  const startMs = performance.now();
  const before = port.lines.length;
  await waitFor("eight readings", () => port.lines.length >= before + 8);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs > 1_600 && tookMs < 3_500, `8 readings, 250 ms each, took ${tookMs} ms`);
});

test("the button resets the station", async (t) => {
  const uno = await Uno.with(t, "lines");
  const port = await opened(t, uno.path);
  await port.says(/^temperature=/);
  const before = port.count("ready\r");
  uno.reset();
  await port.saysTimes("ready\r", before + 1);
});

test("opening the port resets a board that is wired so, and no other", async (t) => {
  for (const resetsOnOpen of [true, false]) {
    const uno = await Uno.plugIn(t, { hex: sketchHex("lines"), resetsOnOpen });
    await (await opened(t, uno.path)).end();
    const again = await opened(t, uno.path);
    await again.says(/^temperature=/);
    assert.equal(again.count("ready\r"), resetsOnOpen ? 1 : 0);
  }
});

test("the port is gone when the board is unplugged", async (t) => {
  const uno = await Uno.with(t, "lines");
  const port = await opened(t, uno.path);
  await uno.unplug();
  await waitFor("socat ends", () => port.isOver);
});

test("the counter speaks MQTT: it is a client of a broker, over its serial port", async (t) => {
  const broker = await TestBroker.start(t);
  const uno = await Uno.with(t, "mqtt");
  const command = ["socat", `FILE:${uno.path},raw,echo=0`, `TCP:127.0.0.1:${broker.port}`];
  const wire = PeerProcess.begin(t, "socat", command);
  await waitFor("three counts", () => broker.texts("uno/count").length >= 3, 10_000);
  assert.deepEqual(broker.texts("uno/count").slice(0, 3), ["1", "2", "3"]);
  const client = await connectAsync(broker.url);
  t.after(() => client.endAsync());
  await client.publishAsync("uno/lamp", "on", { qos: 1 });
  await waitFor("the lamp", () => broker.texts("uno/lamp/state").includes("on"));
  await wire.end();
  await waitFor("the will", () => broker.texts("uno/state").includes("gone"));
});

test("avrdude flashes the board, which then runs the sketch", async (t) => {
  const board = await Uno.plugIn(t, { hasBootloader: true, resetsOnOpen: true });
  const words = [...AVRDUDE_ARGUMENTS, "-P", board.path, "-U", `flash:w:${sketchHex("lines")}:i`];
  const flash = spawnSync("avrdude", words, { encoding: "utf8", timeout: 60_000 });
  assert.equal(flash.status, 0, flash.stderr);
  assert.match(flash.stderr, /bytes of flash verified/);
  await (await opened(t, board.path)).says(/^temperature=/, 10_000);
});

test("avrdude flashes the board while another program holds the port and its lock", async (t) => {
  const board = await Uno.plugIn(t, {
    hex: sketchHex("lines"),
    hasBootloader: true,
    resetsOnOpen: true,
  });
  // The sketch runs, and not its bootloader, when it has said a line.
  const hold = `exec 3<>${board.path}; flock -n 3 && read -r _ <&3 && echo held && exec sleep 60`;
  await PeerProcess.start(t, "holder", ["sh", "-c", hold]);
  const words = [...AVRDUDE_ARGUMENTS, "-P", board.path, "-U", `flash:w:${sketchHex("mqtt")}:i`];
  const flash = spawnSync("avrdude", words, { encoding: "utf8", timeout: 60_000 });
  assert.match(flash.stderr, /bytes of flash verified/);
});

// ports.test: what drivers of lines, frames and telegrams promise from a port to a broker and back.
// Path: test. Touches: child processes, pseudo-terminals, a loopback port; simavr, gps.fake.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { crc32 } from "node:zlib";
import { CHECKSUMS } from "../../../firmware-bridge/drivers/framing/checksums.ts";
import { cobs } from "../../../firmware-bridge/drivers/framing/cobs.ts";
import { Pty } from "../../support/pty.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TestBroker } from "../../support/test-broker.ts";
import { waitFor } from "../../support/wait-for.ts";
import { Bridge, START_MS_MAX } from "../bridge-process.ts";
import { builtHex, Uno } from "../peers/avr/avr.ts";
import { GpsReceiver } from "../peers/nmea/nmea.ts";

/** A broker and a bridge with one device, `box`, at this port; resolves when it is online. */
async function bridged(t: TestContext, path: string, settings: string): Promise<TestBroker> {
  const broker = await TestBroker.start(t);
  const head = `role = "gateway"
    data = "DATA"
    bridge = { broker = "${broker.url}" }
    [[links]]
    path = "${path}"
    device = "box"\n`;
  const bridge = new Bridge(t, head + settings);
  bridge.start();
  const isOnline = () => broker.texts("serial/box/availability").at(-1) === "online";
  await waitFor("online", isOnline, START_MS_MAX).catch((fault) =>
    assert.fail(`${fault}\n${bridge.output}`),
  );
  return broker;
}

const said = (broker: TestBroker, channel: string, count = 1) =>
  waitFor(
    `${count} on ${channel}`,
    () => broker.texts(`serial/box/${channel}`).length >= count,
    10_000,
  );

const lastResult = (broker: TestBroker) =>
  JSON.parse(broker.texts("serial/box/result").at(-1) ?? "{}");

test("an Arduino's lines become channels by an expression, and its lamp obeys a template", async (t) => {
  const uno = await Uno.with(t, "lines");
  const broker = await bridged(
    t,
    uno.path,
    `[links.lines]
    format = "regex"
    patterns = [
      '^temperature=(?<temperature>[0-9.]+) humidity=(?<humidity>[0-9]+)$',
      '^led=(?<led>on|off)$',
      '^(?<said>ready|error=.*)$',
    ]
    [[links.lines.commands]]
    channel = "lamp"
    send = "led={payload}"
    allow = ["on", "off"]`,
  );
  await said(broker, "temperature", 2);
  assert.match(broker.texts("serial/box/temperature").at(-1) ?? "", /^2\d\.\d$/);
  assert.deepEqual(broker.texts("serial/box/humidity").at(-1), "40");
  await broker.publish("serial/box/set/lamp", "on");
  await said(broker, "led");
  assert.deepEqual(broker.texts("serial/box/led"), ["on"]);
  await broker.publish("serial/box/set/lamp", "blink");
  await waitFor("the refusal", () => lastResult(broker).state === "failed");
  assert.equal(lastResult(broker).reason, 'lamp takes "on", "off"');
});

test("the sketch and the settings of the page on lines do together what it says", async (t) => {
  const page = new URL("../../../firmware-bridge/drivers/lines/lines.md", import.meta.url);
  const example = readFileSync(page, "utf8").split("## Example")[1] ?? "";
  const block = (language: string) =>
    new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "ms").exec(example)?.[1] ?? "";
  const sketch = join(temporaryFolder(t), "station.ino");
  writeFileSync(sketch, block("cpp"));
  const uno = await Uno.plugIn(t, { hex: builtHex("station", sketch) });
  const [, settings = ""] = block("toml").split('device = "uno"\n');
  const broker = await bridged(t, uno.path, settings);
  await said(broker, "cellar/t", 2);
  await said(broker, "cellar/light", 2);
  assert.match(broker.texts("serial/box/cellar/t")[0] ?? "", /^-?\d+\.\d\d$/);
  await broker.publish("serial/box/set/led", "on");
  await waitFor("the result", () => lastResult(broker).state === "done");
  await broker.publish("serial/box/set/led", "blink");
  await waitFor("the refusal", () => lastResult(broker).state === "failed");
  assert.equal(lastResult(broker).reason, 'led takes "on", "off"');
});

test("a GPS receiver's positions come whole, one for each of its moments", async (t) => {
  const receiver = await GpsReceiver.plugIn(t, { pauseMs: 10 });
  const broker = await bridged(t, receiver.path, 'driver = "nmea"');
  await said(broker, "position", 25);
  const positions = broker.texts("serial/box/position").map((text) => JSON.parse(text));
  for (const position of positions.slice(2)) {
    for (const key of ["latitude", "longitude", "altitude", "speed", "satellites", "hdop"]) {
      assert.equal(typeof position[key], "number", `${key} of ${JSON.stringify(position)}`);
    }
    assert.match(position.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  }
  const times = positions.slice(2).map(({ time }) => time);
  for (const [index, time] of times.entries()) assert.notEqual(time, times[index - 1]);
  assert.deepEqual(broker.texts("serial/box/debug").slice(1), []);
});

test("frames of COBS with a CRC-32 go both ways, and noise costs what it hits", async (t) => {
  const pty = await Pty.open(t);
  const broker = await bridged(
    t,
    pty.path,
    `driver = "frames"
    [links.frames]
    framing = "cobs"
    checksum = "crc32"`,
  );
  const frame = (body: Uint8Array) => {
    const sum = Buffer.alloc(4);
    sum.writeUInt32LE(crc32(body));
    return Buffer.from(cobs.stuff(Buffer.concat([body, sum])));
  };
  const good = Buffer.from("a\0b");
  const broken = frame(good);
  broken[3] = 0x55;
  pty.write(Buffer.concat([Buffer.from("noise"), frame(good), broken, frame(good)]));
  await said(broker, "frame", 2);
  assert.deepEqual(broker.texts("serial/box/frame"), ["a\0b", "a\0b"]);
  await said(broker, "debug");
  const { reason, bytes } = JSON.parse(broker.texts("serial/box/debug")[0] ?? "{}");
  assert.deepEqual([reason, Buffer.from(bytes, "hex").toString()], ["a frame is broken", "noise"]);
  await broker.publish("serial/box/set", good);
  await pty.hears(frame(good).toString("latin1"));
});

test("a meter's telegrams become readings, and the broken ones do not", async (t) => {
  const pty = await Pty.open(t);
  const broker = await bridged(t, pty.path, 'driver = "dsmr"');
  const telegram = (power: string) => {
    const objects = [
      `1-0:1.7.0(${power}*kW)`,
      "0-1:24.1.0(003)",
      "0-1:24.2.1(261125122500W)(7.5*m3)",
    ];
    const text = ["/ISk5\\2MT382-1000", "", ...objects, "!"].join("\r\n");
    const sum = CHECKSUMS["crc16-arc"].of(Buffer.from(text));
    return `${text}${sum.toString(16).toUpperCase().padStart(4, "0")}\r\n`;
  };
  pty.write(telegram("00.001").slice(30));
  pty.write(telegram("01.193"));
  pty.write(telegram("02.000").replace("02.000", "92.000"));
  pty.write(telegram("00.250"));
  await said(broker, "power_delivered", 2);
  assert.deepEqual(broker.texts("serial/box/power_delivered"), ["1.193", "0.250"]);
  assert.deepEqual(broker.texts("serial/box/gas_time").at(-1), "2026-11-25T12:25:00+01:00");
});

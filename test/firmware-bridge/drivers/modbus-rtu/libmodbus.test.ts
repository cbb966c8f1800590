// libmodbus.test: meters that nobody here wrote, from their registers to a broker and back.
// Path: test. Touches: libmodbus' slaves, the process sluice-firmware-bridge, loopback ports.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { TestBroker } from "../../../support/test-broker.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { Bridge, START_MS_MAX } from "../../bridge-process.ts";
import { ModbusSlaves } from "../../peers/modbus/modbus.ts";

const REGISTERS = `registers = [
  { channel = "word", address = 0 },
  { channel = "below", address = 1, type = "int16" },
  { channel = "abcd", address = 2, type = "float32" },
  { channel = "cdab", address = 4, type = "float32", word_order = "little" },
  { channel = "badc", address = 6, type = "float32", byte_order = "little" },
  { channel = "dcba", address = 8, type = "float32", byte_order = "little", word_order = "little" },
  { channel = "long", address = 10, type = "int32" },
  { channel = "large", address = 12, type = "uint32", word_order = "little" },
  { channel = "double", address = 14, type = "float64" },
  { channel = "first", address = 18, type = "bit", bit = 0 },
  { channel = "second", address = 18, type = "bit", bit = 1 },
  { channel = "tenths", address = 19, scale = 0.1, writable = true },
  { channel = "name", address = 20, type = "string", length = 8 },
  { channel = "total", address = 24, type = "uint64" },
  { channel = "locked", address = 100, writable = true },
  { channel = "beyond", address = 127, type = "uint32" },
  { channel = "input", address = 0, function = "input" },
  { channel = "frequency", address = 1, function = "input", type = "float32" },
  { channel = "relay", address = 0, function = "coil", writable = true },
  { channel = "door", address = 1, function = "discrete" },
]`;

const VALUES = {
  below: "-5",
  long: "-123456",
  large: "4000000000",
  double: "230.25",
  first: "true",
  second: "false",
  tenths: "230.5",
  name: "METER 01",
  total: "9000000000",
  locked: "7",
  input: "2305",
  frequency: "49.75",
  relay: "true",
  door: "true",
};

function expected(word: string, float: string) {
  return { word, abcd: float, cdab: float, badc: float, dcba: float, ...VALUES };
}

/** The process on these slaves, and a broker that hears it. */
async function running(t: TestContext, link: string, framing: string, absent = 9) {
  const broker = await TestBroker.start(t);
  const slave = (device: string, address: number, registers: string) => `
[[links.modbus-rtu.slaves]]
device = "${device}"
address = ${address}
${registers}`;
  const settings = `role = "gateway"
data = "DATA"
bridge = { broker = "${broker.url}" }
[[links]]
name = "line"
${link}
driver = "modbus-rtu"
[links.modbus-rtu]
framing = "${framing}"
timeout_ms = 200
every_ms = 100
${slave("one", 1, REGISTERS)}
${slave("two", 2, REGISTERS)}
${slave("absent", absent, 'registers = [{ channel = "a", address = 0 }]')}
`;
  const bridge = new Bridge(t, settings);
  bridge.start();
  const last = (device: string, channel: string) =>
    broker.texts(`serial/${device}/${channel}`).at(-1);
  const tells = (device: string, channel: string, value: string) =>
    waitFor(
      `${device} tells ${channel} ${value}`,
      () => last(device, channel) === value,
      START_MS_MAX,
    ).catch((fault) => assert.fail(`${fault}, but ${last(device, channel)}\n${bridge.output}`));
  return { broker, tells, last };
}

async function tellsAll(journey: Awaited<ReturnType<typeof running>>): Promise<void> {
  for (const [device, values] of [
    ["one", expected("1234", "21.5")],
    ["two", expected("4321", "42.25")],
  ] as const) {
    for (const [channel, value] of Object.entries(values)) {
      await journey.tells(device, channel, value);
    }
  }
}

test("two meters on one line: all types and orders, commands, faults, and one that is absent", async (t) => {
  const slaves = await ModbusSlaves.start(t);
  const journey = await running(t, `path = "${slaves.path}"\nbaud_rate = 9600`, "rtu");
  const { broker, tells, last } = journey;
  await tellsAll(journey);
  assert.equal(last("one", "availability"), "online");
  // The register beyond the last one takes none of its neighbours with it.
  assert.equal(
    last("one", "error"),
    '{"channel":"beyond","function":"holding","address":127,"error":"illegal data address (2)"}',
  );

  await broker.publish("serial/one/set/tenths", "21.5");
  await broker.publish("serial/two/set/relay", "off");
  await broker.publish("serial/one/set/locked", "5");
  await tells("one", "tenths", "21.5");
  await tells("two", "relay", "false");
  await waitFor("the results", () => {
    return broker.texts("serial/one/result").some((it) => it.includes("illegal data address (2)"));
  });
  assert.ok(slaves.written.includes("1 holding 19 215"));
  assert.ok(slaves.written.includes("2 coil 0 0"));
  assert.equal(last("one", "locked"), "7");

  await slaves.set(1, "holding", 0, 99);
  await tells("one", "word", "99");

  await slaves.fail(1, "silent");
  await tells("one", "availability", "offline");
  await slaves.set(2, "holding", 0, 55);
  await tells("two", "word", "55");
  await slaves.fail(1, "none");
  await tells("one", "availability", "online");
  assert.equal(broker.texts("serial/absent/availability").includes("online"), false);
});

test("no fault of a slave makes a value of what it did not say", async (t) => {
  const slaves = await ModbusSlaves.start(t);
  const journey = await running(t, `path = "${slaves.path}"\nbaud_rate = 9600`, "rtu");
  await tellsAll(journey);
  for (const fault of ["garbled", "late", "busy", "silent"] as const) {
    await slaves.fail(1, fault);
    await slaves.set(2, "holding", 0, 1);
    await journey.tells("two", "word", "1");
    await slaves.fail(1, "none");
    await slaves.set(2, "holding", 0, 4321);
    await journey.tells("two", "word", "4321");
    await slaves.set(1, "holding", 0, 2_000 + fault.length);
    await journey.tells("one", "word", `${2_000 + fault.length}`);
  }
  for (const [channel, value] of Object.entries(expected("1234", "21.5"))) {
    if (channel === "word") continue;
    const told = new Set(journey.broker.texts(`serial/one/${channel}`));
    assert.deepEqual([...told], [value], channel);
  }
});

test("the same meters by TCP: values, commands, and a gateway's word for an absent one", async (t) => {
  const slaves = await ModbusSlaves.start(t);
  const journey = await running(t, `address = "tcp://127.0.0.1:${slaves.port}"`, "tcp");
  await tellsAll(journey);
  await journey.broker.publish("serial/one/set/tenths", "21.5");
  await journey.tells("one", "tenths", "21.5");
  await waitFor("the result", () => journey.last("one", "result")?.includes('"done"'));
  assert.equal(journey.broker.texts("serial/absent/availability").includes("online"), false);
});

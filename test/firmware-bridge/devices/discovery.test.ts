// discovery.test: what Home Assistant is told, in the words of its documentation of MQTT discovery.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { VERSION } from "#runtime/version";
import { discoveryOf, discoveryTopic } from "../../../firmware-bridge/devices/discovery.ts";
import type { DocumentChannel } from "../../../firmware-bridge/devices/document.ts";

const TEMPLATE = "{{ 'ON' if value | lower in ['1', 'true', 'on', 'yes', 'open'] else 'OFF' }}";

function discovery(channels: readonly DocumentChannel[], name = "boiler") {
  const common = { bridge: "gw-001", link: "port", driver: "lines", model: "V", firmware: "1.2" };
  const since = "2026-11-25T12:00:00.000Z";
  const text = discoveryOf({ name, ...common, state: "online", since, channels });
  return text === undefined ? undefined : JSON.parse(text);
}

test("stands below the prefix under an id that Home Assistant takes", () => {
  const topic = discoveryTopic("homeassistant", "gw-001", "boiler");
  assert.equal(topic, "homeassistant/device/sluice_gw-001_boiler/config");
  const [one, two] = ["a.b", "a_b"].map((name) => discoveryTopic("p", "gw", name));
  assert.match(one ?? "", /^p\/device\/[A-Za-z0-9_-]+\/config$/);
  assert.notEqual(one, two);
});

test("tells nothing of a device without channels", () => {
  assert.equal(discovery([]), undefined);
});

test("says the device, its origin, its availability and a component for each channel", () => {
  assert.deepEqual(discovery([{ name: "t", unit: "°C", kind: "number" }]), {
    dev: { ids: ["sluice_gw-001_boiler"], name: "boiler", mdl: "V", sw: "1.2" },
    o: { name: "sluice", sw: VERSION },
    cmps: {
      t: {
        p: "sensor",
        unique_id: "sluice_gw-001_boiler_t",
        name: "t",
        state_topic: "serial/boiler/t",
        unit_of_measurement: "°C",
        device_class: "temperature",
        state_class: "measurement",
      },
    },
    avty_t: "serial/boiler/availability",
    pl_avail: "online",
    pl_not_avail: "offline",
    qos: 1,
  });
});

test("chooses the platform by kind and by whether it takes commands", () => {
  const kinds = ["number", "boolean", "text", undefined] as const;
  const channels = kinds.flatMap((kind) => {
    const said = kind === undefined ? {} : { kind };
    return [
      { name: `${kind}`, ...said },
      { name: `${kind}-set`, ...said, writable: true as const },
    ];
  });
  const { cmps } = discovery(channels);
  const platforms = Object.entries<{ p: string }>(cmps).map(([key, { p }]) => [key, p]);
  assert.deepEqual(Object.fromEntries(platforms), {
    number: "sensor",
    "number-set": "number",
    boolean: "binary_sensor",
    "boolean-set": "switch",
    text: "sensor",
    "text-set": "text",
    undefined: "sensor",
    "undefined-set": "text",
  });
  assert.equal(cmps["number-set"].command_topic, "serial/boiler/set/number-set");
  assert.equal(cmps.number.command_topic, undefined);
  assert.equal(cmps.text.state_class, undefined);
  assert.deepEqual(
    [cmps["boolean-set"].payload_on, cmps["boolean-set"].state_on, cmps.boolean.value_template],
    ["1", "ON", TEMPLATE],
  );
});

test("says what a unit means where that is one thing, and that energy is counted", () => {
  const units = ["kWh", "W", "hPa", "%", "toString"];
  const { cmps } = discovery(units.map((unit) => ({ name: unit, unit })));
  const told = Object.values<Record<string, string>>(cmps).map((it) => [
    it.unit_of_measurement,
    it.device_class,
    it.state_class,
  ]);
  assert.deepEqual(told, [
    ["kWh", "energy", "total_increasing"],
    ["W", "power", "measurement"],
    ["hPa", "pressure", "measurement"],
    ["%", undefined, "measurement"],
    ["toString", undefined, "measurement"],
  ]);
});

test("gives each channel an id of its own, also where topics have levels", () => {
  const { cmps } = discovery([{ name: "1/t" }, { name: "1_t" }, { name: "ü" }]);
  assert.equal(Object.keys(cmps).length, 3);
  for (const key of Object.keys(cmps)) assert.match(key, /^[A-Za-z0-9_-]+$/);
  const topics = Object.values<{ state_topic: string }>(cmps).map((it) => it.state_topic);
  assert.deepEqual(topics, ["serial/boiler/1/t", "serial/boiler/1_t", "serial/boiler/ü"]);
});
